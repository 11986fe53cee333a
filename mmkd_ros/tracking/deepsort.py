"""DeepSORT on arrays: Detections (and appearance vectors) -> Tracks.

Source: Wojke, Bewley, Paulus, "Simple Online and Realtime Tracking with a Deep Association Metric", 2017. What differs:
time is in seconds, an object keeps its class, vectors may be missing, and looks count near the predicted box only.
``docs/tracking.md`` has the equations and says which options give the published tracker.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.tracking.identity import new_run
from mmkd_ros.tracking.kalman import KalmanFilter
from mmkd_ros.tracking.matching import Matcher
from mmkd_ros.tracking.options import TrackerOptions
from mmkd_ros.tracking.screening import REASONS, Found, is_camera_motion, screened
from mmkd_ros.tracking.track import Galleries, Returns, TrackTable
from mmkd_ros.types import Detections, Tracks

_MIN_NOISE_SCALE = 0.05  # a score of 1 must not make a box exact
# float64 seconds of an epoch stamp resolve 0.24 us; thirty frames of 1/30 s must still be "1 s".
_STAMP_RESOLUTION_S = 1e-6


class StampError(ValueError):
    """A detection message that is not newer than the last one, or has no usable time."""


class DeepSort:
    """The tracker. One object per stream of detections; not safe to call from several threads at once.

    Attributes:
        options: what it was made with.
        run: random UUID of this tracker; with an id it makes a track's UUID (``identity.track_uuid``).
        dropped: what bad input was left out so far, by the reasons of ``screening.REASONS``.

    Args:
        options: defaults when None.
    """

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self.options = options if options is not None else TrackerOptions()
        self.dropped = dict.fromkeys(REASONS, 0)
        self._filter = KalmanFilter(self.options.nominal_rate_hz, self.options.state)
        self.run = new_run()
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget all tracks and the last stamp. Ids go on counting, so that none is ever used twice."""
        self._stamp: float | None = None
        self._class_names: tuple[str, ...] = ()
        self._table, self._returns = TrackTable(), Returns()
        self._galleries = Galleries(self.options.gallery_size, self.options.appearance_momentum)

    @property
    def stamp(self) -> float | None:
        """Seconds of the last frame; None before the first and after ``reset``."""
        return self._stamp

    def __len__(self) -> int:
        """Tracks alive, unconfirmed and unseen ones included."""
        return len(self._table)

    def is_backward_jump(self, stamp: float) -> bool:
        """Whether ``stamp`` (seconds) is so far back that recording or clock started again; ``reset`` then."""
        return self._stamp is not None and stamp < self._stamp - self.options.backward_jump_s

    def update(
        self,
        detections: Detections,
        appearance: NDArray[np.float32] | None = None,
        camera_motion: NDArray[np.float64] | None = None,
    ) -> Tracks:
        """Take in one frame. Call it for empty frames too: tracks age by them.

        Args:
            detections: objects of the frame; its stamp must be later than that of the frame before.
            appearance: (N, D) float32, row i belongs to detection i, any length above zero; a row of zeros means
                "unknown", as does None for all. What cannot be compared by appearance is matched by overlap alone.
            camera_motion: (2, 3) float64, maps pixels of the frame before to this one (``CameraMotion.estimate``); None
                where the camera stood still or nobody knows. With it a track's velocity is that against the background.

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
        found = screened(
            detections, appearance, self.options, len(self._class_names), self._galleries.dimension, self.dropped
        )

        elapsed = 0.0 if self._stamp is None else stamp - self._stamp
        self._stamp = stamp
        limit = self.options.max_age_s + _STAMP_RESOLUTION_S
        if elapsed > limit:
            # nobody was seen for so long, and predicting that far would only blow up the numbers
            self._keep(np.zeros(len(self._table), np.bool_))
        table = self._table
        table.means, table.covariances = self._filter.predict(table.means, table.covariances, elapsed)
        if camera_motion is not None:
            if is_camera_motion(camera_motion):
                table.means, table.covariances = self._filter.compensate(table.means, table.covariances, camera_motion)
            else:
                self.dropped["camera_motion"] += 1
        table.missed_frames += 1

        alive = stamp - table.seen <= limit
        matches, new = Matcher(table, self._galleries, self._filter, found, stamp, self.options).match(alive)
        self._count_returns(matches[:, 0], stamp, elapsed)
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

    def _count_returns(self, matched: NDArray[np.int64], stamp: float, elapsed: float) -> None:
        """Which of the confirmed tracks missed before came back with this frame (rows ``matched``), which did not."""
        table, within = self._table, min(Returns.WITHIN_S, self.options.max_age_s)
        silence = stamp - table.seen
        lost = table.confirmed & (table.missed_frames > 1)
        late = silence > within
        gone = lost & late & (silence - elapsed <= within)  # counted once, at the first frame after that time
        self._returns.add(int((lost & ~late)[matched].sum()), int(gone.sum()))

    def _correct(self, matches: NDArray[np.int64], found: Found, stamp: float) -> None:
        """Matched tracks take on their detections."""
        table = self._table
        rows, columns = matches[:, 0], matches[:, 1]
        scale = None
        if self.options.noise_by_score:  # Du et al., "StrongSORT: Make DeepSORT Great Again", 2023, eq. 3
            scale = np.maximum(1.0 - found.scores[columns].astype(np.float64), _MIN_NOISE_SCALE)
        boxes = found.boxes[columns]
        table.means[rows], table.covariances[rows] = self._filter.update(
            table.means[rows], table.covariances[rows], self._filter.measurements(boxes), scale
        )
        table.boxes[rows] = boxes
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

    def _start(self, columns: NDArray[np.int64], found: Found, stamp: float) -> None:
        """Unmatched detections that are scored high enough become tentative tracks."""
        columns = columns[found.scores[columns] >= self.options.birth_score]
        if not len(columns):
            return
        ids = np.arange(self._next_id, self._next_id + len(columns))
        self._next_id += len(columns)
        boxes = found.boxes[columns]
        means, covariances = self._filter.initiate(self._filter.measurements(boxes))
        born = len(self._table)
        self._table.append(ids, means, covariances, boxes, found.scores[columns], found.labels[columns], stamp)
        known = np.flatnonzero(found.known[columns])
        self._table.slots[born + known] = self._galleries.new(found.vectors[columns[known]])

    def _output(self, stamp: float) -> Tracks:
        table = self._table
        missed = np.where(table.missed_frames == 0, 0.0, stamp - table.seen)
        shown = table.missed_frames == 0
        if self.options.coast_s > 0 and self._returns.share >= self.options.coast_return:
            # what was hardly seen may be a false alarm, and nobody knows yet where it moves
            longest = np.minimum(self.options.coast_s, self.options.coast_share * (table.seen - table.born))
            shown = missed <= longest + _STAMP_RESOLUTION_S
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
