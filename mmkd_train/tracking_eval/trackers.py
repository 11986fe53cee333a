"""The trackers that are compared: ours with three sets of options, and those of other packages, where installed.

Peers: deep-sort-realtime (DeepSORT after the authors' code, its embedder switched off) and ``trackers`` (SORT and
ByteTrack). Each runs with its own default options, and is told the frame rate if it has an option for that.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.tracking import DeepSort, TrackerOptions
from mmkd_ros.types import Detections
from mmkd_train.track_file import parity_options
from mmkd_train.tracking_eval.metrics import Frames
from mmkd_train.tracking_eval.sequences import Sequence

Answer = tuple[NDArray[np.int64], NDArray[np.float64], float]
"""Ids (K,), boxes (K, 4) x1 y1 x2 y2, and the seconds of the tracker's own update: of the CPU, not of a clock, so that
what else runs on the machine does not count."""
Step = Callable[[Detections, NDArray[np.float32] | None], Answer]

_GALLERY = 100


@dataclass(frozen=True, slots=True)
class Contestant:
    """A tracker in the comparison.

    Attributes:
        name: of the row.
        start: makes a fresh tracker for a frame rate; the function takes in one frame.
        appearance: whether it is given the appearance vectors.
        package: what must be importable, "" for ours.
    """

    name: str
    start: Callable[[float], Step]
    appearance: bool = False
    package: str = ""

    @property
    def installed(self) -> bool:
        """Whether its package can be imported."""
        return not self.package or importlib.util.find_spec(self.package) is not None


def _ours(options: Callable[[float], TrackerOptions]) -> Callable[[float], Step]:
    def start(fps: float) -> Step:
        tracker = DeepSort(options(fps))

        def step(found: Detections, vectors: NDArray[np.float32] | None) -> Answer:
            started = time.process_time()
            tracks = tracker.update(found, vectors)
            return tracks.ids, tracks.boxes.astype(np.float64), time.process_time() - started

        return step

    return start


def _deep_sort_realtime(fps: float) -> Step:
    from deep_sort_realtime.deepsort_tracker import DeepSort as Peer

    tracker = Peer(embedder=None, nn_budget=_GALLERY)
    rng = np.random.default_rng(0)

    def step(found: Detections, vectors: NDArray[np.float32] | None) -> Answer:
        # It insists on vectors; random ones of so many numbers are far from each other, so that overlap decides.
        given = rng.normal(size=(len(found), 128)).astype(np.float32) if vectors is None else vectors
        boxes = found.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        rows = list(zip(boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True))
        embeddings = list(given)
        started = time.process_time()
        tracks = tracker.update_tracks(rows, embeds=embeddings)
        seconds = time.process_time() - started
        shown = [track for track in tracks if track.is_confirmed() and track.time_since_update <= 1]
        ids = np.array([int(track.track_id) for track in shown], np.int64)
        return ids, np.array([track.to_ltrb() for track in shown], np.float64).reshape(-1, 4), seconds

    return step


def _of_trackers(name: str) -> Callable[[float], Step]:
    def start(fps: float) -> Step:
        import supervision
        import trackers

        tracker = getattr(trackers, name)(frame_rate=fps)

        def step(found: Detections, vectors: NDArray[np.float32] | None) -> Answer:
            given = supervision.Detections(xyxy=found.boxes, confidence=found.scores, class_id=found.labels)
            started = time.process_time()
            result = tracker.update(given)
            seconds = time.process_time() - started
            rows = np.flatnonzero(result.tracker_id >= 0)
            return result.tracker_id[rows].astype(np.int64), result.xyxy[rows].astype(np.float64), seconds

        return step

    return start


def _cautious(fps: float) -> TrackerOptions:
    """The score that ByteTrack starts a track from, and nothing put out that was not seen, as all peers have it."""
    return TrackerOptions(birth_score=0.7, coast_s=0.0)


CONTESTANTS = (
    Contestant("mmkd_ros, defaults", _ours(lambda fps: TrackerOptions())),
    Contestant("mmkd_ros, defaults, appearance", _ours(lambda fps: TrackerOptions()), appearance=True),
    Contestant("mmkd_ros, cautious", _ours(_cautious)),
    Contestant("mmkd_ros, cautious, appearance", _ours(_cautious), appearance=True),
    Contestant("mmkd_ros, published options", _ours(parity_options)),
    Contestant("mmkd_ros, published options, appearance", _ours(parity_options), appearance=True),
    Contestant("deep-sort-realtime", _deep_sort_realtime, package="deep_sort_realtime"),
    Contestant("deep-sort-realtime, appearance", _deep_sort_realtime, appearance=True, package="deep_sort_realtime"),
    Contestant("SORT (trackers)", _of_trackers("SORTTracker"), package="trackers"),
    Contestant("ByteTrack (trackers)", _of_trackers("ByteTrackTracker"), package="trackers"),
)


def track(contestant: Contestant, sequence: Sequence) -> tuple[Frames, list[float]]:
    """Run a tracker over a sequence, with its vectors if it wants them.

    Returns:
        Ids and boxes per frame, and the CPU seconds of every update.
    """
    step = contestant.start(sequence.fps)
    frames: Frames = []
    seconds: list[float] = []
    for number, found in enumerate(sequence.detections):
        vectors = sequence.vectors[number] if contestant.appearance and sequence.vectors is not None else None
        ids, boxes, spent = step(found, vectors)
        frames.append((ids, boxes))
        seconds.append(spent)
    return frames, seconds
