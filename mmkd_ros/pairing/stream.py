"""What the pairing stage knows of one camera: its images on the present time line, and its signs of life."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Sensor = Literal["rgb", "thermal"]
T = TypeVar("T")

# Stamps kept of each camera to see whether a returning one fits.
_RECENT = 32
# Gaps between arrivals from which a camera's rhythm is known, and those that are kept.
_RHYTHM, _GAPS = 4, 8


@dataclass(frozen=True, slots=True)
class Waiting(Generic[T]):
    """An image: its stamp on the RGB camera's clock, its arrival on the caller's clock, both in seconds."""

    stamp: float
    arrival: float
    item: T


class Stream(Generic[T]):
    """One camera's images since the last reset.

    Attributes:
        queue: images that wait, in ascending stamps.
        newest: latest stamp, and ``newest_arrival`` when it came; both -inf before the first image.
        used: stamp of the last image that left.
        behind: images since then that came or waited in vain behind the last output.
        recent: the last stamps, as they came.
    """

    def __init__(self) -> None:
        self.queue: list[Waiting[T]] = []
        self.newest = self.newest_arrival = self.used = -math.inf
        self.behind = 0
        self.recent: deque[float] = deque(maxlen=_RECENT)
        self._periods: deque[float] = deque(maxlen=8)

    def note(self, image: Waiting[T]) -> None:
        """Learn the stamp of an image, whatever becomes of it."""
        self.recent.append(image.stamp)
        if image.stamp > self.newest:
            if math.isfinite(self.newest):
                self._periods.append(image.stamp - self.newest)
            self.newest, self.newest_arrival = image.stamp, image.arrival

    def insert(self, image: Waiting[T]) -> None:
        """Put an image into the queue."""
        self.queue.insert(bisect_left(self.queue, image.stamp, key=lambda waiting: waiting.stamp), image)

    def knows(self, stamp: float) -> bool:
        """Whether this very stamp waits, was the latest or was the last that left."""
        return stamp in (self.newest, self.used) or any(waiting.stamp == stamp for waiting in self.queue)

    def waited(self, now: float) -> float:
        """Seconds since the arrival of the image that has waited longest: out of order, it need not be the first."""
        return now - min((waiting.arrival for waiting in self.queue), default=now)

    def next_stamp(self) -> float:
        """The earliest stamp that the next image is likely to have."""
        return self.newest + min(self._periods, default=0.0)

    def nearest(self, stamp: float) -> int:
        """Index of the queued image nearest to ``stamp``, the earlier of two equals; -1 in an empty queue."""
        if not self.queue:
            return -1
        return min(range(len(self.queue)), key=lambda i: abs(self.queue[i].stamp - stamp))


class Life:
    """Signs of life of one camera; they outlive a reset of the stamps.

    Attributes:
        seen: an image with a usable stamp has come.
        arrival: when the last image that was of use came.
        silent: the other camera does not wait for this one.
        watched: stamps, in ascending order and without a gap, of a silent camera that sends again.
        unanswered: images of the other camera since this one's last.
        gaps: seconds between its last arrivals, without those in which it was silent.
    """

    def __init__(self) -> None:
        self.seen = False
        self.arrival = -math.inf
        self.silent = False
        self.watched: deque[float] = deque(maxlen=_RECENT)
        self.unanswered = 0
        self.gaps: deque[float] = deque(maxlen=_GAPS)
        self._fingerprint: int | None = None
        self._same = 0

    def longest_gap(self) -> float:
        """The longest recent time between two arrivals, seconds; infinite while no rhythm is known."""
        return max(self.gaps) if len(self.gaps) >= _RHYTHM else math.inf

    def lose(self) -> None:
        """The camera counts as silent from now on."""
        self.silent = True
        self.watched.clear()

    def same_pixels(self, fingerprint: int | None) -> int:
        """How many images in a row, this one included, had these pixels; 1 without a fingerprint."""
        if fingerprint is None or fingerprint != self._fingerprint:
            self._same = 0
        self._fingerprint = fingerprint
        self._same += 1
        return self._same
