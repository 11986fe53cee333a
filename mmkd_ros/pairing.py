"""Two time-stamped image streams -> pairs, or single images while one camera is silent. No ROS, no threads, no clock.

Two times are kept apart on purpose. *Stamps* are header stamps: they decide which images belong together and in which
order pairs leave. *Arrival* (the ``now`` that the caller passes, from any steady clock) decides how long to wait and
whether a camera is silent. The two are never compared, so replayed and simulated time work as live time does.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

Sensor = Literal["rgb", "thermal"]
T = TypeVar("T")

# So many images of one camera in a row behind the last output, while nothing leaves: time has gone back for good.
_LATE_STREAK = 3


@dataclass(frozen=True)
class PairingOptions:
    """How images are paired.

    Raises:
        ValueError: a number out of its range.
    """

    slop_s: float = field(
        default=0.05,
        metadata={
            "description": "largest distance in seconds between the stamps of an RGB and a thermal image of one pair",
            "min": 0.0,
            "max": 1.0,
        },
    )
    modality_timeout_s: float = field(
        default=0.3,
        metadata={
            "description": "seconds that an image waits for the other camera before that one counts as silent; from "
            "then on images go on alone, at once, until it is back",
            "min": 0.01,
            "max": 60.0,
        },
    )
    hold_s: float = field(
        default=0.05,
        metadata={
            "description": "longest wait in seconds of a pair in hand for a partner that would fit better",
            "min": 0.0,
            "max": 1.0,
        },
    )
    max_queue: int = field(
        default=16, metadata={"description": "images kept of each camera while they wait", "min": 1, "max": 256}
    )
    reset_jump_s: float = field(
        default=0.5,
        metadata={
            "description": "seconds; stamps that go back by more mean a new time line (bag loop, simulation reset)",
            "min": 0.01,
            "max": 3600.0,
        },
    )

    def __post_init__(self) -> None:
        for name, spec in self.__dataclass_fields__.items():
            value, low, high = getattr(self, name), spec.metadata["min"], spec.metadata["max"]
            if not low <= value <= high:
                raise ValueError(f"Pairing option {name} is {value}, but must lie in {low} to {high}.")


@dataclass(frozen=True, slots=True)
class Paired(Generic[T]):
    """One output: both images, or one while the other camera is silent. ``stamp`` is the RGB image's, in seconds."""

    rgb: T | None
    thermal: T | None
    stamp: float


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    stamp: float
    arrival: float
    item: T


class _Stream(Generic[T]):
    """What is known of one camera since the last reset."""

    def __init__(self) -> None:
        self.queue: list[_Waiting[T]] = []  # ascending stamps
        self.newest = -math.inf
        self.used = -math.inf
        self.late_streak = 0
        self.periods: deque[float] = deque(maxlen=8)

    def waited(self, now: float) -> float:
        """Seconds since the arrival of the image that has waited longest: out of order, it need not be the first."""
        return now - min((waiting.arrival for waiting in self.queue), default=now)

    def next_stamp(self) -> float:
        """The earliest stamp that the next image is likely to have."""
        return self.newest + min(self.periods, default=0.0)

    def nearest(self, stamp: float) -> int:
        """Index of the queued image nearest to ``stamp``, the earlier of two equals; -1 in an empty queue."""
        if not self.queue:
            return -1
        return min(range(len(self.queue)), key=lambda i: abs(self.queue[i].stamp - stamp))


class Pairing(Generic[T]):
    """Pairs images by stamp: mutually nearest within the slop, in strictly ascending order, each image at most once.

    A pair leaves as soon as no image to come can fit better, judged by each camera's shortest recent period, and at the
    latest ``hold_s`` after its second image. While a camera is silent each image of the other leaves alone, at once.
    RGB images also leave alone, after ``modality_timeout_s``, when both cameras send but their stamps never meet
    (clocks that differ): a robot is not left blind by a clock.

    ``counters`` sorts every pushed image: ``paired`` (pairs, two images each), ``single_rgb``, ``single_thermal``,
    ``late`` (not after what its camera has already given), ``duplicate`` (a stamp seen before), ``orphan`` (no partner
    within the slop), ``stale`` (pushed out of a full queue or dropped by a reset), ``invalid`` (stamp zero, negative or
    not finite). ``reset`` counts new time lines. Output stamps ascend strictly between two resets.

    Args:
        options: see ``PairingOptions``.
    """

    def __init__(self, options: PairingOptions | None = None) -> None:
        self.options = options or PairingOptions()
        self.counters: dict[str, int] = dict.fromkeys(
            ("paired", "single_rgb", "single_thermal", "late", "stale", "duplicate", "orphan", "reset", "invalid"), 0
        )
        # Signs of life outlive a reset of the stamps.
        self._arrival: dict[Sensor, float] = {}
        self._silent: set[Sensor] = set()
        self._last_pair = -math.inf
        self._last_output = -math.inf
        self._forget()

    def _forget(self) -> None:
        self._streams: dict[Sensor, _Stream[T]] = {"rgb": _Stream(), "thermal": _Stream()}
        self._out_stamp = -math.inf

    def waiting(self, sensor: Sensor) -> int:
        """Number of images of one camera in the queue."""
        return len(self._streams[sensor].queue)

    def push(self, sensor: Sensor, stamp: float, item: T, now: float) -> list[Paired[T]]:
        """Take one image.

        Args:
            sensor: which camera.
            stamp: its header stamp, seconds.
            item: the image or anything that stands for it.
            now: arrival on a steady clock, seconds; never smaller than before.

        Returns:
            What is ready, in ascending stamps; often nothing.
        """
        if not (math.isfinite(stamp) and stamp > 0.0):
            self.counters["invalid"] += 1
            return self.poll(now)
        if not self._arrival:  # a camera that never came is silent since the first image of the other
            self._arrival = {"rgb": now, "thermal": now}
            self._last_pair = self._last_output = now
        self._follow_time(sensor, stamp, now)
        stream = self._streams[sensor]
        position = bisect_left(stream.queue, stamp, key=lambda waiting: waiting.stamp)
        queued = position < len(stream.queue) and stream.queue[position].stamp == stamp
        if queued or stamp in (stream.newest, stream.used):
            self.counters["duplicate"] += 1  # no sign of life: a frozen camera repeats one stamp for ever
            return self.poll(now)
        self._arrival[sensor] = now
        self._silent.discard(sensor)
        if stamp <= (self._out_stamp if sensor == "rgb" else stream.used):
            self.counters["late"] += 1
            stream.late_streak += 1
            return self.poll(now)
        stream.late_streak = 0
        if stamp > stream.newest:
            if math.isfinite(stream.newest):
                stream.periods.append(stamp - stream.newest)
            stream.newest = stamp
        stream.queue.insert(position, _Waiting(stamp, now, item))
        ready = self.poll(now)
        while len(stream.queue) > self.options.max_queue:
            ready += self._give_up(sensor, now, "stale")
        return ready

    def poll(self, now: float) -> list[Paired[T]]:
        """What has become ready by waiting; call it every few hundredths of a second."""
        ready: list[Paired[T]] = []
        while True:
            pair = self._first_pair()
            lone = self._lone_head(pair, now)
            if lone is not None:
                ready += self._give_up(lone, now, "orphan")
            elif pair is not None and self._settled(*pair, now):
                ready.append(self._emit_pair(*pair, now))
            else:
                return ready

    def reset(self) -> None:
        """Start a new time line; queued images are dropped as stale."""
        self.counters["reset"] += 1
        self.counters["stale"] += sum(len(stream.queue) for stream in self._streams.values())
        self._forget()

    def _follow_time(self, sensor: Sensor, stamp: float, now: float) -> None:
        """Reset when the stamps of a camera have gone back for good."""
        stream = self._streams[sensor]
        jump = stamp < stream.newest - self.options.reset_jump_s
        stuck = (
            stamp <= stream.newest
            and stream.late_streak >= _LATE_STREAK
            and now - self._last_output >= self.options.modality_timeout_s
        )
        if not jump and not stuck:
            return
        other = self._streams["thermal" if sensor == "rgb" else "rgb"]
        # The other camera may have gone back first: what it sent since then stays.
        keep = jump and other.newest <= stamp + self.options.reset_jump_s
        if keep:
            self.counters["stale"] -= len(other.queue)
        self.reset()
        if keep:
            self._streams["thermal" if sensor == "rgb" else "rgb"] = other
            other.used = -math.inf

    def _first_pair(self) -> tuple[int, int] | None:
        """(RGB index, thermal index) of the earliest two images that are each other's nearest within the slop."""
        rgb, thermal = self._streams["rgb"], self._streams["thermal"]
        for i, image in enumerate(rgb.queue):
            j = thermal.nearest(image.stamp)
            if j < 0 or abs(thermal.queue[j].stamp - image.stamp) > self.options.slop_s:
                continue
            if rgb.nearest(thermal.queue[j].stamp) == i:
                return i, j
        return None

    def _settled(self, i: int, j: int, now: float) -> bool:
        """Whether no image to come can fit better, or the wait is over."""
        rgb, thermal = self._streams["rgb"], self._streams["thermal"]
        a, b = rgb.queue[i], thermal.queue[j]
        distance = abs(a.stamp - b.stamp)
        if all(
            stream.newest >= stamp or stream.next_stamp() - stamp >= distance
            for stream, stamp in ((thermal, a.stamp), (rgb, b.stamp))
        ):
            return True
        waited = max(rgb.waited(now), thermal.waited(now))
        return now - max(a.arrival, b.arrival) >= self.options.hold_s or waited >= self.options.modality_timeout_s

    def _lone_head(self, pair: tuple[int, int] | None, now: float) -> Sensor | None:
        """The camera whose oldest image, ahead of ``pair``, will find no partner any more; the older of two."""
        heads: list[tuple[float, Sensor]] = []
        names: tuple[Sensor, Sensor] = ("rgb", "thermal")
        for sensor, other, ahead in zip(names, names[::-1], pair or (None, None), strict=True):
            stream = self._streams[sensor]
            if not stream.queue or ahead == 0:
                continue
            head = stream.queue[0]
            passed = self._streams[other].newest > head.stamp + self.options.slop_s
            waited = stream.waited(now) >= self.options.modality_timeout_s
            # With a pair in hand the image is merely one that this pair has overtaken.
            if (pair is None and (passed or other in self._silent)) or waited:
                heads.append((head.stamp, sensor))
        return min(heads)[1] if heads else None

    def _give_up(self, sensor: Sensor, now: float, reason: str) -> list[Paired[T]]:
        """Take the oldest image of a camera out of its queue: alone where that is due, else dropped and counted."""
        timeout = self.options.modality_timeout_s
        waited = self._streams[sensor].waited(now)
        head = self._streams[sensor].queue.pop(0)
        other: Sensor = "thermal" if sensor == "rgb" else "rgb"
        # Judged by an image that waited, not by the clock alone: a pause of both cameras makes neither of them silent.
        if waited >= timeout and self._arrival[other] <= now - waited:
            self._silent.add(other)
        due = other in self._silent or (sensor == "rgb" and now - self._last_pair >= timeout)
        if not due or head.stamp <= self._out_stamp:
            self.counters[reason] += 1
            return []
        self.counters[f"single_{sensor}"] += 1
        self._streams[sensor].used = self._out_stamp = head.stamp
        self._last_output = now
        return [Paired(head.item, None, head.stamp) if sensor == "rgb" else Paired(None, head.item, head.stamp)]

    def _emit_pair(self, i: int, j: int, now: float) -> Paired[T]:
        rgb, thermal = self._streams["rgb"], self._streams["thermal"]
        a, b = rgb.queue[i], thermal.queue[j]
        del rgb.queue[: i + 1], thermal.queue[: j + 1]
        self.counters["orphan"] += i + j
        self.counters["paired"] += 1
        rgb.used = self._out_stamp = a.stamp
        thermal.used = b.stamp
        self._last_pair = self._last_output = now
        return Paired(a.item, b.item, a.stamp)
