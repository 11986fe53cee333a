"""Who is who: cost matrices and assignment between tracks and detections.

Source: Wojke, Bewley, Paulus 2017, section 2.3 and listing 1 (matching cascade).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

# A pair over the threshold costs this much more than the threshold: always worse than an allowed pair, yet equal to
# every other forbidden one, so that the assignment prefers as many allowed pairs as there are.
_OVER_THRESHOLD = 1e-5


def iou_matrix(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of (N, 4) and (M, 4) boxes x1 y1 x2 y2 of positive size -> (N, M) float64."""
    left, top, right, bottom = first.T[:, :, None]
    other_left, other_top, other_right, other_bottom = second.T
    width = np.minimum(right, other_right) - np.maximum(left, other_left)
    height = np.minimum(bottom, other_bottom) - np.maximum(top, other_top)
    inner = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    area = (right - left) * (bottom - top)
    other_area = (other_right - other_left) * (other_bottom - other_top)
    return np.asarray(inner / (area + other_area - inner))


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
        cost: (R, M) float64; inf where a pair is forbidden.
        max_cost: pairs over this are not matched.
        missed_frames: (R,) frames since each track's last detection, 1 = seen in the frame before.
        rows: (R,) which track each row is.
        columns: (K,) columns of the cost, which are detections, to match; each is in 0..M-1.

    Returns:
        As ``min_cost_matching``.
    """
    found = []
    for age in np.unique(missed_frames):
        level = missed_frames == age
        matches, columns = min_cost_matching(cost[level][:, columns], max_cost, rows[level], columns)
        found.append(matches)
    return np.concatenate(found) if found else np.empty((0, 2), np.int64), columns
