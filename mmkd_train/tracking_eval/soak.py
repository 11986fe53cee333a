"""Does the tracker's memory stay flat? Objects come, go and are missed for many frames, and the process is weighed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmkd_ros.tracking import DeepSort
from mmkd_ros.types import Detections
from mmkd_train.tracking_eval.sequences import Sequence, make_detections

_BLOCK = 1000  # frames that are made up once and then replayed, each time later
_SLOTS, _DIMENSION, _HZ = 8, 16, 30.0


@dataclass(frozen=True, slots=True)
class Weight:
    """What there is after so many frames.

    Attributes:
        frames: tracked so far.
        tracker_bytes: in the tracker's arrays.
        process_mib: resident memory of the process; NaN where /proc does not tell.
        tracks: alive.
        ids: given out so far.
    """

    frames: int
    tracker_bytes: int
    process_mib: float
    tracks: int
    ids: int


def coming_and_going(seed: int = 0) -> Sequence:
    """A block of frames with up to eight objects: each stays for 5 to 60 frames, then another comes elsewhere."""
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform(0, 1000, (_SLOTS, 2)), rng.normal(0, 3, (_SLOTS, 2))
    looks, left = rng.normal(size=(_SLOTS, _DIMENSION)), rng.integers(5, 60, _SLOTS)
    vectors: list[np.ndarray] = []
    block = Sequence("coming and going", _HZ, [], [], [], vectors)
    for frame in range(_BLOCK):
        place, left = place + speed, left - 1
        for slot in np.flatnonzero(left < 0):
            place[slot], speed[slot] = rng.uniform(0, 1000, 2), rng.normal(0, 3, 2)
            looks[slot], left[slot] = rng.normal(size=_DIMENSION), rng.integers(5, 60)
        seen = np.flatnonzero(rng.random(_SLOTS) < 0.9)
        corner = place[seen] + rng.normal(0, 1, (len(seen), 2))
        boxes = np.concatenate((corner, corner + (40, 90)), axis=1)
        labels = seen % 2
        block.detections.append(
            make_detections(boxes, np.full(len(seen), 0.9), labels, ("person", "car"), (frame + 1) / _HZ)
        )
        vectors.append((looks[seen] + rng.normal(0, 0.1, (len(seen), _DIMENSION))).astype(np.float32))
    return block


def soak(frames: int, marks: int = 10) -> Iterator[Weight]:
    """Track so many frames; the weight at ``marks`` even distances."""
    tracker, block = DeepSort(), coming_and_going()
    vectors = block.vectors or []
    last = 0
    for number in range(frames):
        found: Detections = block.detections[number % _BLOCK]
        stamp = found.stamp + number // _BLOCK * (_BLOCK / _HZ)
        tracks = tracker.update(replace(found, stamp=stamp), vectors[number % _BLOCK])
        last = max(last, int(tracks.ids.max(initial=0)))
        if (number + 1) % max(1, frames // marks) == 0:
            yield Weight(number + 1, held_bytes(tracker), _resident_mib(), len(tracker), last)


def held_bytes(thing: object) -> int:
    """Bytes of everything that an object of this package reaches: arrays, lists, numbers."""
    seen: set[int] = set()

    def weigh(item: object) -> int:
        if id(item) in seen:
            return 0
        seen.add(id(item))
        size = item.nbytes if isinstance(item, np.ndarray) else sys.getsizeof(item)
        if isinstance(item, dict):
            return size + sum(map(weigh, [*item.keys(), *item.values()]))
        if isinstance(item, list | tuple | set):
            return size + sum(map(weigh, item))
        return size + (weigh(vars(item)) if hasattr(item, "__dict__") and not isinstance(item, type) else 0)

    return weigh(thing)


def _resident_mib() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return float("nan")
    return pages * 4096 / 2**20
