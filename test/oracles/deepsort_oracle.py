"""DeepSORT once more, slow and plain: one object per track, one step per frame, no batching. The tracker is held to it.

Written from the paper and its published constants (standard deviations per frame): measurement (h/20, h/20, 0.1, h/20),
process (h/20, h/20, 0.01, h/20 | h/160, h/160, 1e-5, h/160), birth (h/10, h/10, 0.01, h/10 | h/16, h/16, 1e-5, h/16).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

GATE = 9.4877
FORBIDDEN = 1e5
TRANSITION = np.eye(8) + np.eye(8, k=4)
SEEN = np.eye(4, 8)


def _xyah(box: NDArray[np.float64]) -> NDArray[np.float64]:
    x1, y1, x2, y2 = box
    return np.array([x1 + (x2 - x1) / 2, y1 + (y2 - y1) / 2, (x2 - x1) / (y2 - y1), y2 - y1])


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inner = width * height
    return float(inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner))


@dataclass
class OracleTrack:
    """One object."""

    id: int
    label: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    gallery: list[NDArray[np.float64]] = field(default_factory=list)
    confirmed: bool = False
    hits: int = 1
    missed: int = 0

    @classmethod
    def born(cls, id: int, label: int, box: NDArray[np.float64], vector: NDArray[np.float64] | None) -> OracleTrack:
        z = _xyah(box)
        h = z[3]
        std = np.array([h / 10, h / 10, 0.01, h / 10, h / 16, h / 16, 1e-5, h / 16])
        return cls(id, label, np.concatenate((z, np.zeros(4))), np.diag(std**2), [] if vector is None else [vector])

    def predict(self) -> None:
        h = self.mean[3]
        std = np.array([h / 20, h / 20, 0.01, h / 20, h / 160, h / 160, 1e-5, h / 160])
        self.mean = TRANSITION @ self.mean
        self.covariance = TRANSITION @ self.covariance @ TRANSITION.T + np.diag(std**2)
        self.missed += 1

    def projected(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        h = self.mean[3]
        noise = np.diag(np.array([h / 20, h / 20, 0.1, h / 20]) ** 2)
        return SEEN @ self.mean, SEEN @ self.covariance @ SEEN.T + noise

    def correct(self, box: NDArray[np.float64]) -> None:
        mean, covariance = self.projected()
        gain = self.covariance @ SEEN.T @ np.linalg.inv(covariance)
        self.mean = self.mean + gain @ (_xyah(box) - mean)
        self.covariance = self.covariance - gain @ covariance @ gain.T

    def distance(self, box: NDArray[np.float64]) -> float:
        mean, covariance = self.projected()
        off = _xyah(box) - mean
        return float(off @ np.linalg.inv(covariance) @ off)

    def box(self) -> NDArray[np.float64]:
        cx, cy, a, h = self.mean[:4]
        return np.array([cx - a * h / 2, cy - h / 2, cx + a * h / 2, cy + h / 2])


class DeepSortOracle:
    """The tracker, frame by frame."""

    def __init__(
        self,
        max_cosine_distance: float,
        max_iou_distance: float = 0.7,
        n_init: int = 3,
        max_age: int = 30,
        budget: int = 100,
        class_aware: bool = True,
        motion_weight: float = 0.0,
        min_overlap: float = 0.0,
    ) -> None:
        self.motion_weight, self.min_overlap = motion_weight, min_overlap
        self.max_cosine_distance, self.max_iou_distance = max_cosine_distance, max_iou_distance
        self.n_init, self.max_age, self.budget, self.class_aware = n_init, max_age, budget, class_aware
        self.tracks: list[OracleTrack] = []
        self.born = 0

    def update(
        self, boxes: NDArray[np.float64], labels: NDArray[np.int64], vectors: list[NDArray[np.float64] | None]
    ) -> dict[int, NDArray[np.float64]]:
        """One frame: boxes (N, 4) xyxy, labels (N,), a vector of length one or None each.

        Returns:
            {id: box} of the confirmed tracks just seen.
        """
        for track in self.tracks:
            track.predict()

        def comparable(track: OracleTrack, d: int) -> bool:
            return bool(track.gallery) and vectors[d] is not None

        def fits(track: OracleTrack, d: int) -> bool:
            return not self.class_aware or track.label == labels[d]

        def appearance_cost(track: OracleTrack, d: int) -> float:
            vector = vectors[d]
            if vector is None or not comparable(track, d) or not fits(track, d) or track.distance(boxes[d]) > GATE:
                return FORBIDDEN
            cosine = 1 - max(float(kept @ vector) for kept in track.gallery)
            if _iou(track.box(), boxes[d]) < self.min_overlap or cosine > self.max_cosine_distance:
                return FORBIDDEN
            motion = self.max_cosine_distance * track.distance(boxes[d]) / GATE
            return (1 - self.motion_weight) * cosine + self.motion_weight * motion

        def overlap_cost(track: OracleTrack, d: int) -> float:
            late = track.confirmed and track.missed > 1
            if not fits(track, d) or (late and comparable(track, d)):
                return FORBIDDEN
            return 1 - _iou(track.box(), boxes[d])

        left = list(range(len(boxes)))
        confirmed = [t for t in self.tracks if t.confirmed]
        pairs: list[tuple[OracleTrack, int]] = []
        for level in range(1, self.max_age + 1):
            group = [t for t in confirmed if t.missed == level]
            found = self._match(group, left, appearance_cost, self.max_cosine_distance)
            pairs += found
            left = [d for d in left if d not in {d for _, d in found}]
        taken = {t.id for t, _ in pairs}
        group = [t for t in self.tracks if not t.confirmed]
        for t in confirmed:
            overlap_only = any(not comparable(t, d) for d in range(len(boxes)))
            if t.id not in taken and t.missed <= self.max_age and (t.missed == 1 or overlap_only):
                group.append(t)
        found = self._match(group, left, overlap_cost, self.max_iou_distance)
        pairs += found
        left = [d for d in left if d not in {d for _, d in found}]

        for track, d in pairs:
            vector = vectors[d]
            track.correct(boxes[d])
            track.missed = 0
            track.hits += 1
            track.confirmed = track.confirmed or track.hits >= self.n_init
            if vector is not None:
                track.gallery = [*track.gallery, vector][-self.budget :]
        seen = {t.id for t, _ in pairs}
        self.tracks = [t for t in self.tracks if t.id in seen or (t.confirmed and t.missed <= self.max_age)]
        for d in left:
            self.born += 1
            self.tracks.append(OracleTrack.born(self.born, int(labels[d]), boxes[d], vectors[d]))
        return {t.id: t.box() for t in self.tracks if t.confirmed and t.missed == 0}

    @staticmethod
    def _match(tracks, detections, cost_of, limit):  # type: ignore[no-untyped-def]
        if not tracks or not detections:
            return []
        cost = np.array([[cost_of(t, d) for d in detections] for t in tracks])
        cost[cost > limit] = limit + 1e-5
        rows, columns = linear_sum_assignment(cost)
        return [(tracks[r], detections[c]) for r, c in zip(rows, columns, strict=True) if cost[r, c] <= limit]
