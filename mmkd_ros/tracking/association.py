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
    top_left = np.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    inner = np.prod(np.maximum(bottom_right - top_left, 0.0), axis=2)
    area_first = np.prod(first[:, 2:] - first[:, :2], axis=1)
    area_second = np.prod(second[:, 2:] - second[:, :2], axis=1)
    return np.asarray(inner / (area_first[:, None] + area_second[None, :] - inner))


def min_cost_matching(
    cost: NDArray[np.float64], max_cost: float, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Assign columns to rows at the least total cost (Hungarian method).

    Args:
        cost: (N, M) float64 of all tracks and detections; inf where a pair is forbidden.
        max_cost: pairs over this are not matched.
        rows: (R,) tracks that take part.
        columns: (K,) detections that take part.

    Returns:
        matches (P, 2) of (row, column), and the rows and columns left over.
    """
    if not len(rows) or not len(columns):
        return np.empty((0, 2), np.int64), rows, columns
    chosen = cost[np.ix_(rows, columns)]
    allowed = chosen <= max_cost
    if not allowed.any():
        return np.empty((0, 2), np.int64), rows, columns
    r, c = linear_sum_assignment(np.where(allowed, chosen, max_cost + _OVER_THRESHOLD))
    good = allowed[r, c]
    matches = np.stack((rows[r[good]], columns[c[good]]), axis=1)
    return matches, np.delete(rows, r[good]), np.delete(columns, c[good])


def matching_cascade(
    cost: NDArray[np.float64],
    max_cost: float,
    missed_frames: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Match tracks seen lately before those unseen for longer, whose wide covariance would win every gate.

    Args:
        cost: (N, M) float64; inf where a pair is forbidden.
        max_cost: pairs over this are not matched.
        missed_frames: (N,) frames since each track's last detection, 1 = seen in the frame before.
        rows: (R,) tracks that take part.
        columns: (K,) detections that take part.

    Returns:
        As ``min_cost_matching``; rows left over are in their old order.
    """
    found = []
    ages = missed_frames[rows]
    for age in np.unique(ages):
        matches, _, columns = min_cost_matching(cost, max_cost, rows[ages == age], columns)
        found.append(matches)
    matches = np.concatenate(found) if found else np.empty((0, 2), np.int64)
    return matches, rows[~np.isin(rows, matches[:, 0])], columns
