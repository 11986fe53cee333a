"""The pairing stage itself: images go in by ``push``, pairs and lone images come out of ``push`` and ``poll``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, Literal

from mmkd_ros.pairing.options import PairingOptions
from mmkd_ros.pairing.stream import Life, Sensor, Stream, T, Waiting

State = Literal["ok", "pause", "silent", "never"]

_OTHER: dict[Sensor, Sensor] = {"rgb": "thermal", "thermal": "rgb"}
# So many images of one camera behind the last output, while nothing leaves: time has gone back for good.
_BEHIND = 3
# A caller that has not come for so many seconds was held up, and images with it: nothing is called overdue by then.
_HELD_UP_S = 0.05


@dataclass(frozen=True, slots=True)
class Paired(Generic[T]):
    """One output: both images, or one while the other camera is silent.

    ``stamp`` is the RGB image's own, in seconds; for a thermal image alone, the stamp of an RGB image of that moment
    (its own one, moved by the difference of the two offsets).
    """

    rgb: T | None
    thermal: T | None
    stamp: float


@dataclass(frozen=True, slots=True)
class _Jump(Generic[T]):
    """An image off its camera's time line, and the counter in which it stands until a second one agrees."""

    sensor: Sensor
    image: Waiting[T]
    reason: Literal["late", "future"]


class Pairing(Generic[T]):
    """Pairs images by stamp: mutually nearest within the slop, in strictly ascending order, each image at most once.

    A pair leaves as soon as no image to come can fit better, judged by each camera's shortest recent period, and at the
    latest ``hold_s`` after its second image. An image leaves alone when the other camera breaks its rhythm by more than
    ``overdue_s``; after ``modality_timeout_s`` that camera is silent, and each image of the other leaves at once.
    RGB images also leave alone, after ``modality_timeout_s``, when both cameras send but their stamps never meet
    (clocks that differ): a robot is not left blind by a clock. Nothing waits longer than ``modality_timeout_s``.

    ``counters`` sorts every pushed image that does not wait: ``paired`` (pairs, two images each), ``single_rgb``,
    ``single_thermal``, ``late`` (not after what its camera has already given), ``future`` (far ahead, and no second
    image agreed), ``duplicate`` (a stamp seen before), ``frozen`` (the same pixels too often), ``recovering`` (of a
    silent camera that is not yet trusted), ``orphan`` (no partner within the slop), ``stale`` (pushed out of a full
    queue or dropped by a reset), ``invalid`` (stamp zero, negative or not finite). Two more count events: ``reset``
    (stamps went back: a new time line) and ``leap`` (stamps went far ahead for good; nothing is dropped). Output
    stamps ascend strictly between two resets.

    Args:
        options: see ``PairingOptions``.
    """

    def __init__(self, options: PairingOptions | None = None) -> None:
        self.options = options or PairingOptions()
        images = ("paired", "single_rgb", "single_thermal", "late", "future", "stale", "duplicate", "orphan", "invalid")
        self.counters: dict[str, int] = dict.fromkeys((*images, "frozen", "recovering", "reset", "leap"), 0)
        # All stamps are brought to the RGB camera's clock, so that its own stamps leave as they came.
        shift = self.options.thermal_offset_s - self.options.rgb_offset_s
        self._shift: dict[Sensor, float] = {"rgb": 0.0, "thermal": shift}
        self._cameras: dict[Sensor, Life] = {"rgb": Life(), "thermal": Life()}
        self._streams: dict[Sensor, Stream[T]] = {"rgb": Stream(), "thermal": Stream()}
        self._jump: _Jump[T] | None = None
        self._out_stamp = self._last_pair = -math.inf
        self._idle = 0.0  # seconds since the last output, without those in which the caller was held up
        self._called = self._held_up = -math.inf

    def waiting(self, sensor: Sensor) -> int:
        """Number of images of one camera in the queue."""
        return len(self._streams[sensor].queue)

    def state(self, sensor: Sensor, now: float) -> State:
        """``ok``: in use. ``pause``: missing since less than ``pause_s``. ``silent``: for longer, or sending what is of
        no use. ``never``: no image with a usable stamp has come."""
        camera = self._cameras[sensor]
        if not camera.seen:
            return "never"
        if now - camera.arrival >= self.options.pause_s:
            return "silent"
        return "pause" if camera.silent else "ok"

    def push(
        self, sensor: Sensor, stamp: float, item: T, now: float, fingerprint: int | None = None
    ) -> list[Paired[T]]:
        """Take one image.

        Args:
            sensor: which camera.
            stamp: its header stamp, seconds.
            item: the image or anything that stands for it.
            now: arrival on a steady clock, seconds; never smaller than before.
            fingerprint: see ``mmkd_ros.imaging.fingerprint``; None: never frozen.

        Returns:
            What is ready, in ascending stamps; often nothing.
        """
        self._note_time(now)
        if not (math.isfinite(stamp) and stamp > 0.0):
            return self._refuse("invalid", now)
        camera, image = self._cameras[sensor], Waiting(stamp + self._shift[sensor], now, item)
        if not any(life.seen for life in self._cameras.values()):
            # A camera that never came is silent since the first image of the other.
            for life in self._cameras.values():
                life.arrival = now
            self._last_pair, self._idle = now, 0.0
        camera.seen = True
        # No signs of life: a camera that hangs repeats one stamp or one picture for ever.
        held = self._jump is not None and self._jump.sensor == sensor and self._jump.image.stamp == image.stamp
        if held or self._streams[sensor].knows(image.stamp):
            return self._refuse("duplicate", now)
        if camera.same_pixels(fingerprint) > self.options.frozen_after > 0:
            camera.lose()
            return self._refuse("frozen", now)
        ready: list[Paired[T]] = []
        for name, good in self._follow_time(sensor, image):
            ready += self._take(name, good, now)
        return ready + self.poll(now)

    def poll(self, now: float) -> list[Paired[T]]:
        """What has become ready by waiting; call it every few hundredths of a second."""
        self._note_time(now)
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
        self._streams = {"rgb": Stream(), "thermal": Stream()}
        for camera in self._cameras.values():
            camera.watched.clear()
        self._jump = None
        self._out_stamp = -math.inf

    def _note_time(self, now: float) -> None:
        """Images that waited unseen while the caller was held up prove neither silence nor a new time line."""
        gap = now - self._called
        if gap > _HELD_UP_S:
            self._held_up = now
        self._idle += min(gap, _HELD_UP_S)
        self._called = now

    def _refuse(self, reason: str, now: float) -> list[Paired[T]]:
        self.counters[reason] += 1
        return self.poll(now)

    def _follow_time(self, sensor: Sensor, image: Waiting[T]) -> list[tuple[Sensor, Waiting[T]]]:
        """The images that may go on: this one; none when it leaves its camera's time line; when it is the second that
        does so and they agree, both, on a new time line."""
        options, stream = self.options, self._streams[sensor]
        lead = image.stamp - stream.newest
        back = lead < -options.reset_jump_s
        # Stamps and arrivals run alike, but for the speed of a replay: a pause lets both go on.
        ahead = math.isfinite(lead) and lead - (image.arrival - stream.newest_arrival) > options.future_jump_s
        first = self._jump
        if not back and not ahead:
            if first is not None and first.sensor == sensor:
                self._jump = None
            quiet = self._idle >= options.modality_timeout_s
            if stream.behind >= _BEHIND and image.stamp <= self._out_stamp and quiet:
                self.reset()
            return [(sensor, image)]
        gap = image.arrival - first.image.arrival if first else 0.0
        if first is None or abs(image.stamp - first.image.stamp) > options.future_jump_s + gap:
            self._jump = _Jump(sensor, image, "late" if back else "future")
            self.counters[self._jump.reason] += 1
            return []
        self._jump = None
        if back or first.reason == "late":
            self.reset()
        else:
            self.counters["leap"] += 1
        if gap >= options.modality_timeout_s:
            return [(sensor, image)]
        self.counters[first.reason] -= 1
        return [(first.sensor, first.image), (sensor, image)]

    def _take(self, sensor: Sensor, image: Waiting[T], now: float) -> list[Paired[T]]:
        """Queue an image that is on its camera's time line, unless it comes too late or its camera is on probation."""
        camera, stream = self._cameras[sensor], self._streams[sensor]
        if not camera.silent:
            camera.gaps.append(image.arrival - camera.arrival)
        elif not self._returns(sensor, image):
            self.counters["recovering"] += 1
            return []
        stream.note(image)
        camera.arrival, camera.unanswered = image.arrival, 0
        self._cameras[_OTHER[sensor]].unanswered += 1
        if image.stamp <= (self._out_stamp if sensor == "rgb" else stream.used):
            stream.behind += 1
            self.counters["late"] += 1
            return []
        stream.insert(image)
        ready = self.poll(now)
        while len(stream.queue) > self.options.max_queue:
            ready += self._give_up(sensor, now, "stale")
        return ready

    def _returns(self, sensor: Sensor, image: Waiting[T]) -> bool:
        """Whether a silent camera is in use again from this image on: enough of its images fit the other's, in order
        and without a gap, or the other one is gone as well."""
        camera, stream, timeout = self._cameras[sensor], self._streams[sensor], self.options.modality_timeout_s
        # A gap is long beside the other camera's period too: two slow cameras have none.
        gap = camera.unanswered > 1 and image.arrival - stream.newest_arrival >= timeout
        if gap or image.stamp <= stream.newest:
            camera.watched.clear()
        camera.watched.append(image.stamp)
        camera.unanswered = 0
        stream.note(image)
        recent, slop = self._streams[_OTHER[sensor]].recent, self.options.slop_s
        fitting = sum(any(abs(stamp - partner) <= slop for partner in recent) for stamp in camera.watched)
        alone = image.arrival - self._cameras[_OTHER[sensor]].arrival >= timeout
        camera.silent = fitting < self.options.recovery_images and not alone
        return not camera.silent

    def _overdue(self, sensor: Sensor, waited: float, now: float) -> bool:
        """Whether the next image of a camera is overdue by its own rhythm, while one of the other has ``waited``."""
        patience, missing = self.options.overdue_s, now - self._cameras[sensor].arrival
        due = max(waited, self._cameras[sensor].longest_gap() + patience)
        return waited >= patience and missing >= due and now - self._held_up >= _HELD_UP_S

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
        for (sensor, other), ahead in zip(_OTHER.items(), pair or (None, None), strict=True):
            stream = self._streams[sensor]
            if not stream.queue or ahead == 0:
                continue
            head = stream.queue[0]
            passed = self._streams[other].newest > head.stamp + self.options.slop_s
            waited = stream.waited(now)
            hopeless = passed or self._cameras[other].silent or self._overdue(other, waited, now)
            # With a pair in hand the image is merely one that this pair has overtaken.
            if (pair is None and hopeless) or waited >= self.options.modality_timeout_s:
                heads.append((head.stamp, sensor))
        return min(heads)[1] if heads else None

    def _give_up(self, sensor: Sensor, now: float, reason: str) -> list[Paired[T]]:
        """Take the oldest image of a camera out of its queue: alone where that is due, else dropped and counted."""
        timeout, other = self.options.modality_timeout_s, self._cameras[_OTHER[sensor]]
        stream = self._streams[sensor]
        waited = stream.waited(now)
        head = stream.queue.pop(0)
        # Judged by an image that waited, or that a queue full of others has pushed out, not by the clock alone: a pause
        # of both cameras makes neither of them silent.
        overdue = self._overdue(_OTHER[sensor], waited, now)
        missing = now - other.arrival if reason == "stale" or overdue else waited
        if missing >= timeout and other.arrival <= now - waited and not other.silent:
            other.lose()
        due = other.silent or overdue or (sensor == "rgb" and now - self._last_pair >= timeout)
        behind = head.stamp <= self._out_stamp
        if not due or behind:
            stream.behind += behind
            self.counters[reason] += 1
            return []
        self.counters[f"single_{sensor}"] += 1
        stream.used = self._out_stamp = head.stamp
        stream.behind = 0
        self._idle = 0.0
        return [Paired(head.item, None, head.stamp) if sensor == "rgb" else Paired(None, head.item, head.stamp)]

    def _emit_pair(self, i: int, j: int, now: float) -> Paired[T]:
        rgb, thermal = self._streams["rgb"], self._streams["thermal"]
        a, b = rgb.queue[i], thermal.queue[j]
        del rgb.queue[: i + 1], thermal.queue[: j + 1]
        self.counters["orphan"] += i + j
        self.counters["paired"] += 1
        rgb.used = self._out_stamp = a.stamp
        thermal.used = b.stamp
        rgb.behind = thermal.behind = 0
        self._last_pair, self._idle = now, 0.0
        return Paired(a.item, b.item, a.stamp)
