"""Bad input never reaches the tracker: what cannot be tracked is left out of a frame, and counted by reason."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.tracking.options import TrackerOptions
from mmkd_ros.types import Detections

REASONS = (
    "box",
    "score",
    "label",
    "excess",
    "appearance_shape",
    "appearance_value",
    "appearance_unknown",
    "camera_motion",
)
"""Detections: ``box`` (not finite, not positive, absurd size), ``score`` (not in 0..1), ``label`` (no such class), and
``excess`` (beyond ``max_detections``). Appearance vectors, whose detections are tracked without them:
``appearance_shape`` (wrong number or length), ``appearance_value`` (not finite), ``appearance_unknown`` (zeros). And
``camera_motion``: maps that are not finite or that no camera makes."""

DETECTION_REASONS = REASONS[:4]
"""Those for which a detection is not tracked at all."""

_MIN_SIDE_PX = 0.1  # boxes thinner than this are no objects, and their noise would vanish
_MAX_COORDINATE_PX = 1e6
_MAX_COMPONENT = 1e38  # float32 ends there; squares of larger ones would overflow
_MIN_NORM = 1e-6  # a shorter appearance vector has no direction
_MAX_ZOOM = 2.0  # of areas between two frames


class Found(NamedTuple):
    """Usable detections of a frame: K boxes with what belongs to them."""

    boxes: NDArray[np.float64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    vectors: NDArray[np.float32]  # (K, D) of length one; zeros where unknown
    known: NDArray[np.bool_]  # strong, and has a vector: those of weak detections do not count
    strong: NDArray[np.bool_]


def worth_a_look(scores: NDArray[np.float32], options: TrackerOptions) -> NDArray[np.bool_]:
    """Which detections with these scores (N,) are matched by looks, (N,) bool: the strong ones that will be tracked."""
    strong = (scores >= max(options.strong_score, options.min_score)) & (scores <= 1)
    if np.count_nonzero(strong) > options.max_detections:
        ranked = np.argsort(np.where(strong, -scores, 0.0), kind="stable")
        strong[ranked[options.max_detections :]] = False
    return strong


def screened(
    detections: Detections,
    appearance: NDArray[np.float32] | None,
    options: TrackerOptions,
    classes: int,
    dimension: int,
    dropped: dict[str, int],
) -> Found:
    """Leave out what cannot be tracked.

    Args:
        detections: of a frame.
        appearance: (N, D) vectors of the detections, or None.
        options: of the tracker.
        classes: number of classes; labels count from 0.
        dimension: D that the vectors must have; 0 = any.
        dropped: what is left out is counted in here.
    """
    boxes = np.asarray(detections.boxes, np.float64)
    scores = np.asarray(detections.scores, np.float32)
    labels = np.asarray(detections.labels, np.int64)
    with np.errstate(invalid="ignore"):  # inf - inf
        side = boxes[:, 2:] - boxes[:, :2]
    # comparisons with NaN are False, so these also refuse what is not finite
    sound = (np.abs(boxes) <= _MAX_COORDINATE_PX).all(axis=1) & (side >= _MIN_SIDE_PX).all(axis=1)
    scored = (scores >= 0) & (scores <= 1)
    named = (labels >= 0) & (labels < classes)
    dropped["box"] += int((~sound).sum())
    dropped["score"] += int((sound & ~scored).sum())
    dropped["label"] += int((sound & scored & ~named).sum())
    rows = np.flatnonzero(sound & scored & named & (scores >= options.min_score))
    excess = len(rows) - options.max_detections
    if excess > 0:
        dropped["excess"] += excess
        rows = np.sort(rows[np.argsort(-scores[rows], kind="stable")[: options.max_detections]])
    strong = scores[rows] >= options.strong_score
    vectors, known = _screened_vectors(appearance, len(detections), rows, strong, dimension, dropped)
    return Found(boxes[rows], scores[rows], labels[rows], vectors, known, strong)


def _screened_vectors(
    appearance: NDArray[np.float32] | None,
    n: int,
    rows: NDArray[np.int64],
    strong: NDArray[np.bool_],
    dimension: int,
    dropped: dict[str, int],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors of length one for the chosen detections, zeros where there is none; and which strong ones have one."""
    unknown = np.zeros((len(rows), dimension), np.float32), np.zeros(len(rows), np.bool_)
    if appearance is None:
        return unknown
    given = np.asarray(appearance)
    if given.ndim != 2 or len(given) != n or given.shape[1] == 0 or (dimension and given.shape[1] != dimension):
        dropped["appearance_shape"] += len(rows)
        return unknown
    vectors = given[rows].astype(np.float64)
    finite = (np.abs(vectors) < _MAX_COMPONENT).all(axis=1)  # False for NaN
    vectors[~finite] = 0
    norm = np.linalg.norm(vectors, axis=1)
    known = norm >= _MIN_NORM
    dropped["appearance_value"] += int((~finite).sum())
    dropped["appearance_unknown"] += int((finite & ~known & strong).sum())
    vectors /= np.where(known, norm, 1.0)[:, None]
    vectors[~known] = 0
    return vectors.astype(np.float32), known & strong


def is_camera_motion(motion: NDArray[np.float64]) -> bool:
    """Whether the array is a map (2, 3) that a camera can make from one frame to the next."""
    if motion.shape != (2, 3) or not (np.abs(motion) <= _MAX_COORDINATE_PX).all():
        return False
    return bool(1 / _MAX_ZOOM <= np.linalg.det(motion[:, :2]) <= _MAX_ZOOM)
