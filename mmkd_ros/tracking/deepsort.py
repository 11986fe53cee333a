"""DeepSORT on arrays: Detections (and appearance vectors) -> Tracks.

Source: Wojke, Bewley, Paulus, "Simple Online and Realtime Tracking with a Deep Association Metric", 2017. What differs:
time is in seconds, an object keeps its class, vectors may be missing, and looks count near the predicted box only.
``docs/tracking.md`` has the equations and says which options give the published tracker.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.tracking.association import iou_matrix, matching_cascade, min_cost_matching
from mmkd_ros.tracking.kalman import CHI2_95_4, KalmanFilter
from mmkd_ros.tracking.options import TrackerOptions
from mmkd_ros.tracking.track import Galleries, TrackTable
from mmkd_ros.types import Detections, Tracks

_MIN_SIDE_PX = 0.1  # boxes thinner than this are no objects, and their noise would vanish
_MAX_COORDINATE_PX = 1e6
_MAX_COMPONENT = 1e38  # float32 ends there; squares of larger ones would overflow
_MIN_NORM = 1e-6  # a shorter appearance vector has no direction
_MIN_NOISE_SCALE = 0.05  # a score of 1 must not make a box exact
# float64 seconds of an epoch stamp resolve 0.24 us; thirty frames of 1/30 s must still be "1 s".
_STAMP_RESOLUTION_S = 1e-6


class StampError(ValueError):
    """A detection message that is not newer than the last one, or has no usable time."""


class _Found(NamedTuple):
    """Usable detections of a frame: K boxes with what belongs to them."""

    boxes: NDArray[np.float64]
    measurements: NDArray[np.float64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    vectors: NDArray[np.float32]  # (K, D) of length one; zeros where unknown
    known: NDArray[np.bool_]  # has a vector that counts: those of weak detections do not
    strong: NDArray[np.bool_]


class DeepSort:
    """The tracker. One object per stream of detections; not safe to call from several threads at once.

    Attributes:
        options: what it was made with.
        dropped: what bad input was left out so far. Detections by ``box`` (not finite, not positive, absurd size),
            ``score`` (not in 0..1), ``label`` (no such class) and ``excess`` (beyond ``max_detections``); appearance
            vectors, whose detections are tracked without them, by ``appearance_shape`` (wrong number or length),
            ``appearance_value`` (not finite) and ``appearance_unknown`` (zeros).

    Args:
        options: defaults when None.
    """

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self.options = options if options is not None else TrackerOptions()
        self.dropped = dict.fromkeys(
            ("box", "score", "label", "excess", "appearance_shape", "appearance_value", "appearance_unknown"), 0
        )
        self._filter = KalmanFilter(self.options.nominal_rate_hz, self.options.state)
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget all tracks and the last stamp. Ids go on counting, so that none is ever used twice."""
        self._stamp: float | None = None
        self._class_names: tuple[str, ...] = ()
        self._table = TrackTable()
        self._galleries = Galleries(self.options.gallery_size, self.options.appearance_momentum)

    @property
    def stamp(self) -> float | None:
        """Seconds of the last frame; None before the first and after ``reset``."""
        return self._stamp

    def is_backward_jump(self, stamp: float) -> bool:
        """Whether ``stamp`` (seconds) is so far back that recording or clock started again; ``reset`` then."""
        return self._stamp is not None and stamp < self._stamp - self.options.backward_jump_s

    def update(self, detections: Detections, appearance: NDArray[np.float32] | None = None) -> Tracks:
        """Take in one frame. Call it for empty frames too: tracks age by them.

        Args:
            detections: objects of the frame; its stamp must be later than that of the frame before.
            appearance: (N, D) float32, row i belongs to detection i, any length above zero; a row of zeros means
                "unknown", as does None for all. What cannot be compared by appearance is matched by overlap alone.

        Returns:
            Confirmed tracks seen in this frame, and with ``coast_s`` above 0 those unseen for up to so long; in order
            of birth.

        Raises:
            StampError: the stamp is not finite or not later than the last one. Nothing has changed then.
            ValueError: the class names contradict those of earlier frames. Nothing has changed then.
        """
        stamp = self._checked_stamp(detections.stamp)
        self._class_names = self._checked_names(detections.class_names)
        if len(self._class_names) > self._table.votes.shape[1]:
            self._table.widen(len(self._class_names))
        found = self._screened(detections, appearance)

        elapsed = 0.0 if self._stamp is None else stamp - self._stamp
        self._stamp = stamp
        limit = self.options.max_age_s + _STAMP_RESOLUTION_S
        if elapsed > limit:
            # nobody was seen for so long, and predicting that far would only blow up the numbers
            self._keep(np.zeros(len(self._table), np.bool_))
        table = self._table
        table.means, table.covariances = self._filter.predict(table.means, table.covariances, elapsed)
        table.missed_frames += 1

        alive = stamp - table.seen <= limit
        matches, new = self._associated(found, alive)
        self._correct(matches, found, stamp)
        self._keep((table.missed_frames == 0) | (table.confirmed & alive))
        self._start(new, found, stamp)
        return self._output(stamp)

    def _checked_stamp(self, stamp: float) -> float:
        if not math.isfinite(stamp):
            raise StampError(f"The stamp {stamp} is no time; the source must set the header stamp.")
        if self._stamp is not None and stamp <= self._stamp:
            raise StampError(
                f"The stamp {stamp:.6f} s is not later than the last one, {self._stamp:.6f} s; drop the frame, or call "
                "reset() if the recording or clock started again."
            )
        return float(stamp)

    def _checked_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """A list of class names may grow at its end; labels keep their meaning."""
        shared = min(len(names), len(self._class_names))
        if names[:shared] != self._class_names[:shared]:
            raise ValueError(
                f"The class names changed from {self._class_names} to {names}, so labels mean something else; "
                "call reset() first."
            )
        return max(names, self._class_names, key=len)

    def _screened(self, detections: Detections, appearance: NDArray[np.float32] | None) -> _Found:
        """Leave out what cannot be tracked, and count it."""
        boxes = np.asarray(detections.boxes, np.float64)
        scores = np.asarray(detections.scores, np.float32)
        labels = np.asarray(detections.labels, np.int64)
        with np.errstate(invalid="ignore"):  # inf - inf
            side = boxes[:, 2:] - boxes[:, :2]
        # comparisons with NaN are False, so these also refuse what is not finite
        sound = (np.abs(boxes) <= _MAX_COORDINATE_PX).all(axis=1) & (side >= _MIN_SIDE_PX).all(axis=1)
        scored = (scores >= 0) & (scores <= 1)
        named = (labels >= 0) & (labels < len(self._class_names))
        self.dropped["box"] += int((~sound).sum())
        self.dropped["score"] += int((sound & ~scored).sum())
        self.dropped["label"] += int((sound & scored & ~named).sum())
        rows = np.flatnonzero(sound & scored & named & (scores >= self.options.min_score))
        excess = len(rows) - self.options.max_detections
        if excess > 0:
            self.dropped["excess"] += excess
            rows = np.sort(rows[np.argsort(-scores[rows], kind="stable")[: self.options.max_detections]])
        boxes = boxes[rows]
        vectors, known = self._screened_vectors(appearance, len(detections), rows)
        strong = scores[rows] >= self.options.strong_score
        measurements = self._filter.measurements(boxes)
        return _Found(boxes, measurements, scores[rows], labels[rows], vectors, known & strong, strong)

    def _screened_vectors(
        self, appearance: NDArray[np.float32] | None, n: int, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Vectors of length one for the chosen detections, zeros where there is none; and where there is one."""
        dimension = self._galleries.dimension
        unknown = np.zeros((len(rows), dimension), np.float32), np.zeros(len(rows), np.bool_)
        if appearance is None:
            return unknown
        given = np.asarray(appearance)
        if given.ndim != 2 or len(given) != n or given.shape[1] == 0 or (dimension and given.shape[1] != dimension):
            self.dropped["appearance_shape"] += len(rows)
            return unknown
        vectors = given[rows].astype(np.float64)
        finite = np.isfinite(vectors).all(axis=1) & (np.abs(vectors) < _MAX_COMPONENT).all(axis=1)
        vectors[~finite] = 0
        norm = np.linalg.norm(vectors, axis=1)
        known = norm >= _MIN_NORM
        self.dropped["appearance_value"] += int((~finite).sum())
        self.dropped["appearance_unknown"] += int((finite & ~known).sum())
        vectors = np.where(known[:, None], vectors / np.where(known, norm, 1.0)[:, None], 0.0)
        return vectors.astype(np.float32), known

    def _associated(self, found: _Found, alive: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Matches (P, 2) of (track, detection), and the strong detections left over."""
        table = self._table
        columns, weak = np.flatnonzero(found.strong), np.flatnonzero(~found.strong)
        if not len(table) or not len(found.scores):
            return np.empty((0, 2), np.int64), columns
        same_class = (table.labels[:, None] == found.labels[None, :]) | (not self.options.class_aware)
        comparable = (table.slots >= 0)[:, None] & found.known[None, :]
        free = alive.copy()

        # 1. Confirmed tracks by appearance, within the motion gate, those seen last first.
        looks, columns = self._by_appearance(
            found, np.flatnonzero(table.confirmed & alive), columns, same_class & comparable
        )
        free[looks[:, 0]] = False
        # 2. By overlap: tentative tracks, those seen one frame ago, and pairs that appearance says nothing about.
        recent = ~table.confirmed | (table.missed_frames == 1)
        overlaps, columns = self._by_overlap(found, free, columns, same_class & (recent[:, None] | ~comparable))
        free[overlaps[:, 0]] = False
        # 3. Weak detections continue confirmed tracks that nothing better was found for (ByteTrack).
        continued, _ = self._by_overlap(found, free & table.confirmed, weak, same_class)
        return np.concatenate((looks, overlaps, continued)), columns

    def _by_appearance(
        self, found: _Found, rows: NDArray[np.int64], columns: NDArray[np.int64], wanted: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Match tracks ``rows`` (R,) with detections ``columns`` (K,) by looks where ``wanted`` (N, M) is True; returns
        matches (P, 2) and the detections left over."""
        table, options = self._table, self.options
        wanted = wanted[rows]
        if not wanted.any():
            return np.empty((0, 2), np.int64), columns
        means = table.means[rows]
        motion = self._filter.gating_distance(means, table.covariances[rows], found.measurements)
        wanted &= motion <= CHI2_95_4
        wanted &= iou_matrix(self._filter.boxes(means), found.boxes) >= options.min_overlap
        cost = self._galleries.distance(table.slots[rows], found.vectors, wanted)
        limit, weight = options.max_cosine_distance, options.motion_weight
        if weight > 0:  # eq. 5, with the motion distance scaled so that both limits coincide
            near = cost <= limit
            cost[~near] = np.inf
            cost[near] = (1 - weight) * cost[near] + weight * (limit / CHI2_95_4) * motion[near]
        return matching_cascade(cost, limit, table.missed_frames[rows], rows, columns)

    def _by_overlap(
        self, found: _Found, free: NDArray[np.bool_], columns: NDArray[np.int64], allowed: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Match the tracks that are ``free`` (N,) with detections ``columns`` (K,) by overlap where ``allowed`` (N, M)
        is True; returns matches (P, 2) and the detections left over."""
        table = self._table
        rows = np.flatnonzero(free & allowed.any(axis=1))
        if not len(rows) or not len(columns):
            return np.empty((0, 2), np.int64), columns
        rows = rows[np.argsort(table.confirmed[rows], kind="stable")]  # tentative tracks first, as published
        overlap = iou_matrix(self._filter.boxes(table.means[rows]), found.boxes[columns])
        cost = np.where(allowed[rows][:, columns], 1.0 - overlap, np.inf)
        return min_cost_matching(cost, self.options.max_iou_distance, rows, columns)

    def _correct(self, matches: NDArray[np.int64], found: _Found, stamp: float) -> None:
        """Matched tracks take on their detections."""
        table = self._table
        rows, columns = matches[:, 0], matches[:, 1]
        scale = None
        if self.options.noise_by_score:  # Du et al., "StrongSORT: Make DeepSORT Great Again", 2023, eq. 3
            scale = np.maximum(1.0 - found.scores[columns].astype(np.float64), _MIN_NOISE_SCALE)
        table.means[rows], table.covariances[rows] = self._filter.update(
            table.means[rows], table.covariances[rows], found.measurements[columns], scale
        )
        table.boxes[rows] = found.boxes[columns]
        table.hits[rows] += 1
        table.missed_frames[rows] = 0
        table.seen[rows] = stamp
        table.scores[rows] = found.scores[columns]
        table.vote(rows, found.labels[columns])
        table.confirmed[rows] |= table.hits[rows] >= self.options.n_init
        known = found.known[columns]
        rows, columns = rows[known], columns[known]
        first = table.slots[rows] < 0
        self._galleries.add(table.slots[rows[~first]], found.vectors[columns[~first]])
        table.slots[rows[first]] = self._galleries.new(found.vectors[columns[first]])

    def _keep(self, rows: NDArray[np.bool_]) -> None:
        """Delete the other tracks."""
        if not rows.all():
            self._galleries.free(self._table.slots[~rows])
            self._table.keep(rows)

    def _start(self, columns: NDArray[np.int64], found: _Found, stamp: float) -> None:
        """Unmatched detections that are scored high enough become tentative tracks."""
        columns = columns[found.scores[columns] >= self.options.birth_score]
        if not len(columns):
            return
        ids = np.arange(self._next_id, self._next_id + len(columns))
        self._next_id += len(columns)
        means, covariances = self._filter.initiate(found.measurements[columns])
        born = len(self._table)
        self._table.append(
            ids, means, covariances, found.boxes[columns], found.scores[columns], found.labels[columns], stamp
        )
        known = np.flatnonzero(found.known[columns])
        self._table.slots[born + known] = self._galleries.new(found.vectors[columns[known]])

    def _output(self, stamp: float) -> Tracks:
        table = self._table
        missed = np.where(table.missed_frames == 0, 0.0, stamp - table.seen)
        shown = table.missed_frames == 0
        if self.options.coast_s > 0:
            shown = missed <= self.options.coast_s + _STAMP_RESOLUTION_S
        rows = np.flatnonzero(table.confirmed & shown)
        boxes = self._filter.boxes(table.means[rows])
        if self.options.output_box == "detection":
            boxes = np.where((table.missed_frames[rows] == 0)[:, None], table.boxes[rows], boxes)
        return Tracks(
            ids=table.ids[rows],
            boxes=boxes.astype(np.float32),
            velocities=table.means[rows, 4:6].astype(np.float32),
            labels=table.labels[rows],
            scores=table.scores[rows],
            ages=stamp - table.born[rows],
            missed=missed[rows],
            class_names=self._class_names,
            stamp=stamp,
        )
