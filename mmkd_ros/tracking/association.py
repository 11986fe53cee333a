"""Who is who: cost matrices and assignment between tracks and detections.

Source: Wojke, Bewley, Paulus 2017, section 2.3 and listing 1 (matching cascade).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A pair over the threshold costs this much more than the threshold: always worse than an allowed pair, yet equal to
# every other forbidden one, so that the assignment prefers as many allowed pairs as there are.
_OVER_THRESHOLD = 1e-5
_MARGIN_PX = 1e-6  # rounding must not lose a pair on the border of a window


def iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of (..., 4) boxes x1 y1 x2 y2 of positive size; the leading axes broadcast."""
    corner = np.maximum(first[..., :2], second[..., :2])
    sides = np.minimum(first[..., 2:], second[..., 2:]) - corner
    inner = np.maximum(sides[..., 0], 0.0) * np.maximum(sides[..., 1], 0.0)
    area = (first[..., 2] - first[..., 0]) * (first[..., 3] - first[..., 1])
    other_area = (second[..., 2] - second[..., 0]) * (second[..., 3] - second[..., 1])
    return np.asarray(inner / (area + other_area - inner))


def iou_matrix(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of all pairs of (N, 4) and (M, 4) boxes x1 y1 x2 y2 of positive size -> (N, M)."""
    return iou(first[:, None], second[None])


def height_iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of the heights of (..., 4) boxes x1 y1 x2 y2, 0 where they do not meet."""
    shared = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1])
    union = np.maximum(first[..., 3], second[..., 3]) - np.minimum(first[..., 1], second[..., 1])
    return np.asarray(np.maximum(shared, 0.0) / union)


def near_pairs(
    centres: NDArray[np.float64], reach: NDArray[np.float64], points: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which points lie in which windows, found by sorting, so that far pairs cost nothing.

    Args:
        centres: (N, 2) float64 of the windows.
        reach: (N, 2) float64, half their sides.
        points: (M, 2) float64.

    Returns:
        rows and columns (P,) of the pairs, rows ascending; a point on the border, or just beyond it, is inside.
    """
    order = np.argsort(points[:, 0], kind="stable")
    line = points[order, 0]
    reach = reach + _MARGIN_PX
    first = np.searchsorted(line, centres[:, 0] - reach[:, 0], "left")
    counts = np.searchsorted(line, centres[:, 0] + reach[:, 0], "right") - first
    ends = np.cumsum(counts)
    rows = np.repeat(np.arange(len(centres)), counts)
    columns = order[np.arange(len(rows)) + np.repeat(first - (ends - counts), counts)]
    inside = np.abs(points[columns, 1] - centres[rows, 1]) <= reach[rows, 1]
    return rows[inside], columns[inside]


def pair_overlaps(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows, columns and intersection over union (P,) of all pairs of (N, 4) and (M, 4) boxes x1 y1 x2 y2 that overlap,
    and of some that do not and have 0; rows ascending, M above 0."""
    sides, other_sides = first[:, 2:] - first[:, :2], second[:, 2:] - second[:, :2]
    reach = (sides + other_sides.max(axis=0)) / 2
    rows, columns = near_pairs(first[:, :2] + sides / 2, reach, second[:, :2] + other_sides / 2)
    return rows, columns, iou(first[rows], second[columns])


def min_cost_matching(
    cost: NDArray[np.float64], max_cost: float, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Assign columns to rows at the least total cost (Hungarian method).

    Args:
        cost: (R, K) float64; inf where a pair is forbidden.
        max_cost: pairs over this are not matched.
        rows: (R,) which track each row is.
        columns: (K,) which detection each column is.

    Returns:
        matches (P, 2) of (track, detection), and the detections left over.
    """
    allowed = cost <= max_cost
    if not allowed.any():
        return np.empty((0, 2), np.int64), columns
    from scipy.optimize import linear_sum_assignment  # slow to import, and the options' readers do not match

    r, c = linear_sum_assignment(np.where(allowed, cost, max_cost + _OVER_THRESHOLD))
    good = allowed[r, c]
    r, c = r[good], c[good]
    matches = np.empty((len(r), 2), np.int64)
    matches[:, 0], matches[:, 1] = rows[r], columns[c]
    left = np.ones(len(columns), np.bool_)
    left[c] = False
    return matches, columns[left]


def matching_cascade(
    cost: NDArray[np.float64],
    max_cost: float,
    missed_frames: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Match tracks seen lately before those unseen for longer, whose wide covariance would win every gate.

    Args:
        cost: (R, K) float64; inf where a pair is forbidden.
        max_cost: pairs over this are not matched.
        missed_frames: (R,) frames since each track's last detection, 1 = seen in the frame before.
        rows: (R,) which track each row is.
        columns: (K,) which detection each column is.

    Returns:
        As ``min_cost_matching``.
    """
    found = [np.empty((0, 2), np.int64)]
    free = np.arange(len(columns))
    for age in np.unique(missed_frames):
        level = np.flatnonzero(missed_frames == age)
        part = cost[level] if len(free) == len(columns) else cost[level[:, None], free]
        matches, free = min_cost_matching(part, max_cost, rows[level], free)
        found.append(matches)
    matches = np.concatenate(found)
    matches[:, 1] = columns[matches[:, 1]]
    return matches, columns[free]
