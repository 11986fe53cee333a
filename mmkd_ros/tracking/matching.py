"""Which track saw which detection of a frame: the stages of ``docs/tracking.md``. Tracks and Found -> pairs of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.tracking.association import height_iou, iou, matching_cascade, min_cost_matching, pair_overlaps
from mmkd_ros.tracking.kalman import CHI2_95_4, KalmanFilter
from mmkd_ros.tracking.options import TrackerOptions
from mmkd_ros.tracking.screening import Found
from mmkd_ros.tracking.track import Galleries, TrackTable

_WEAK_IOU_DISTANCE = 0.5  # Zhang et al., "ByteTrack", 2022: limit of the second association in its code
_TOUCH = 1e-12  # least overlap of boxes that touch

Match = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Pairs (P, 2) of (track, detection), and the detections left over of those that were to be matched."""

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Places (P,) in a list of tracks and in one of detections, and the cost of each pair."""


class Matcher:
    """The association of one frame.

    Args:
        table: the tracks, predicted to this frame.
        galleries: their appearance vectors.
        motion: the filter of their states.
        found: the detections.
        stamp: of the frame in seconds.
        options: of the tracker.
    """

    def __init__(
        self,
        table: TrackTable,
        galleries: Galleries,
        motion: KalmanFilter,
        found: Found,
        stamp: float,
        options: TrackerOptions,
    ) -> None:
        self._table, self._galleries, self._filter = table, galleries, motion
        self._found, self._stamp, self._options = found, stamp, options

    def match(self, alive: NDArray[np.bool_]) -> Match:
        """Match the tracks that are ``alive`` (N,); left over are strong detections only."""
        table, found, options = self._table, self._found, self._options
        columns, weak = np.flatnonzero(found.strong), np.flatnonzero(~found.strong)
        if not len(table) or not len(found.scores):
            return np.empty((0, 2), np.int64), columns
        same_class = (table.labels[:, None] == found.labels[None, :]) | (not options.class_aware)
        comparable = (table.slots >= 0)[:, None] & found.known[None, :]
        free = alive.copy()

        # 1. Confirmed tracks by appearance, within the motion gate.
        looks, columns = self._by_looks(np.flatnonzero(table.confirmed & alive), columns, same_class & comparable)
        free[looks[:, 0]] = False
        # 2. By overlap: tentative tracks, those seen one frame ago, and pairs that appearance says nothing about.
        recent = ~table.confirmed | (table.missed_frames == 1)
        allowed = same_class & (recent[:, None] | ~comparable)
        overlaps, columns = self._by_overlap(free, columns, allowed, options.max_iou_distance)
        free[overlaps[:, 0]] = False
        # 3. By motion: confirmed tracks, whatever their age, that their looks do not contradict.
        moved, columns = self._by_motion(np.flatnonzero(table.confirmed & free), columns, same_class)
        free[moved[:, 0]] = False
        # 4. Weak detections continue confirmed tracks seen one frame ago that nothing better was found for (ByteTrack).
        recent = table.confirmed & (table.missed_frames == 1)
        limit = min(_WEAK_IOU_DISTANCE, options.max_iou_distance)
        continued, _ = self._by_overlap(free & recent, weak, same_class, limit)
        return np.concatenate((looks, overlaps, moved, continued)), columns

    def _by_looks(self, rows: NDArray[np.int64], columns: NDArray[np.int64], wanted: NDArray[np.bool_]) -> Match:
        """Match tracks ``rows`` (R,) with detections ``columns`` (K,) where ``wanted`` (N, M) is True."""
        options = self._options
        limit, weight = options.max_cosine_distance, options.motion_weight
        if not wanted.any():
            return np.empty((0, 2), np.int64), columns
        r, c, motion = self._in_gate(rows, columns, wanted, options.min_overlap)
        looks = self._distances(rows[r], columns[c])
        cost = (1 - weight) * looks + weight * (limit / CHI2_95_4) * motion  # eq. 5; here both limits coincide
        cost[looks > limit] = np.inf
        if options.age_cost == 0:
            return self._cascade(rows, columns, (r, c, cost), limit)
        unseen = np.minimum(self._stamp - self._table.seen[rows[r]], 1.0)
        cost += options.age_cost * limit * unseen
        return min_cost_matching(_dense(rows, columns, (r, c, cost)), (1 + options.age_cost) * limit, rows, columns)

    def _by_motion(self, rows: NDArray[np.int64], columns: NDArray[np.int64], wanted: NDArray[np.bool_]) -> Match:
        """Match tracks ``rows`` (R,) with detections ``columns`` (K,) that touch the predicted box where ``wanted``
        (N, M) is True."""
        limit = self._options.motion_cosine_distance
        if limit == 0 or not len(rows) or not len(columns):
            return np.empty((0, 2), np.int64), columns
        r, c, motion = self._in_gate(rows, columns, wanted, _TOUCH)
        seen = (self._table.slots[rows[r]] >= 0) & self._found.known[columns[c]]
        looks = self._distances(rows[r[seen]], columns[c[seen]])
        motion[seen] = np.where(looks <= limit, motion[seen], np.inf)
        return self._cascade(rows, columns, (r, c, motion), CHI2_95_4)

    def _by_overlap(
        self,
        free: NDArray[np.bool_],
        columns: NDArray[np.int64],
        allowed: NDArray[np.bool_],
        max_iou_distance: float,
    ) -> Match:
        """Match the tracks that are ``free`` (N,) with detections ``columns`` (K,) where ``allowed`` (N, M) is True."""
        table, boxes = self._table, self._found.boxes[columns]
        rows = np.flatnonzero(free & allowed.any(axis=1))
        if not len(rows) or not len(columns):
            return np.empty((0, 2), np.int64), columns
        rows = rows[np.argsort(table.confirmed[rows], kind="stable")]  # tentative tracks first, as published
        predicted = self._filter.boxes(table.means[rows])
        r, c, overlap = pair_overlaps(predicted, boxes)
        near = allowed[rows[r], columns[c]] & (overlap > 0)
        limit, weight = max_iou_distance, self._options.height_weight
        if weight > 0:  # Yang et al., "Hybrid-SORT", 2024: HMIoU, here with a power; the limit is that of the plain IoU
            near &= overlap >= 1.0 - max_iou_distance
            overlap = overlap * height_iou(predicted[r], boxes[c]) ** weight
            limit = 1.0
        cost = np.where(near, 1.0 - overlap, np.inf)
        return min_cost_matching(_dense(rows, columns, (r, c, cost)), limit, rows, columns)

    def _in_gate(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], wanted: NDArray[np.bool_], min_overlap: float
    ) -> Pairs:
        """Pairs of the motion gate where ``wanted`` (N, M) is True and the boxes overlap by ``min_overlap`` or more:
        with the motion distances; rows ascending."""
        means, boxes = self._table.means[rows], self._found.boxes[columns]
        measured = self._filter.measurements(boxes)
        r, c, motion = self._filter.within_gate(means, self._table.covariances[rows], measured)
        near = wanted[rows[r], columns[c]]
        if min_overlap > 0:
            near &= iou(self._filter.boxes(means)[r], boxes[c]) >= min_overlap
        return r[near], c[near], motion[near]

    def _distances(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Cosine distances (P,) of pairs, rows ascending; all have vectors."""
        return self._galleries.distances(self._table.slots, self._found.vectors, rows, columns)

    def _cascade(self, rows: NDArray[np.int64], columns: NDArray[np.int64], pairs: Pairs, limit: float) -> Match:
        """Those seen last choose first."""
        ages = self._table.missed_frames[rows]
        return matching_cascade(_dense(rows, columns, pairs), limit, ages, rows, columns)


def _dense(rows: NDArray[np.int64], columns: NDArray[np.int64], pairs: Pairs) -> NDArray[np.float64]:
    """Costs (R, K), inf where there is no pair."""
    cost = np.full((len(rows), len(columns)), np.inf)
    cost[pairs[0], pairs[1]] = pairs[2]
    return cost
