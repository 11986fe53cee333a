"""Pairing under random sequences of everything that cameras, clocks and drivers do: what must hold for every one.

``MMKD_PAIRING_SEQUENCES`` sets the number of sequences; without it a few hundred, the same in every run.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmkd_ros.pairing import Paired, Pairing, PairingOptions, Sensor

SENSORS: tuple[Sensor, Sensor] = ("rgb", "thermal")
POLL_S = 0.02
SEQUENCES = os.environ.get("MMKD_PAIRING_SEQUENCES")
Image = tuple[Sensor, float, int]  # camera, header stamp, number

some = st.sampled_from((("rgb",), ("thermal",), SENSORS))
one = st.sampled_from(SENSORS)
events = st.lists(
    st.one_of(
        st.tuples(st.just("image"), one, st.floats(0.0, 0.4), st.floats(-0.2, 0.2)),
        st.tuples(st.just("run"), some, st.integers(1, 8), st.sampled_from((0.033, 0.1, 0.1, 0.5))),
        st.tuples(st.just("repeat"), one, st.integers(1, 4)),
        st.tuples(st.just("wild"), one, st.sampled_from((0.0, -1.0, math.nan, math.inf, -math.inf, 1e9, 3.0))),
        st.tuples(st.just("step"), some, st.sampled_from((-50.0, -1.0, -0.3, 0.4, 30.0, 1000.0))),
        st.tuples(st.just("freeze"), some, st.integers(1, 8)),
        st.tuples(st.just("pause"), st.floats(0.2, 4.0)),
    ),
    max_size=20,
)


@dataclass
class Bench:
    """Drives a pairing stage and checks its promises at every step."""

    pairing: Pairing[Image]
    now: float = 5.0
    clock: dict[Sensor, float] = field(default_factory=lambda: {"rgb": 1000.0, "thermal": 1000.0})
    last: dict[Sensor, float] = field(default_factory=lambda: {"rgb": 1000.0, "thermal": 1000.0})
    arrived: dict[Image, float] = field(default_factory=dict)
    used: set[Image] = field(default_factory=set)
    outputs: list[Paired[Image]] = field(default_factory=list)
    out_stamp: float = -math.inf
    resets: int = 0
    picture: int = 0

    def offset(self, sensor: Sensor) -> float:
        return self.pairing.options.rgb_offset_s if sensor == "rgb" else self.pairing.options.thermal_offset_s

    def send(self, sensor: Sensor, jitter: float = 0.0, fingerprint: int | None = None) -> None:
        self.push(sensor, self.clock[sensor] + self.now - self.offset(sensor) + jitter, fingerprint)

    def push(self, sensor: Sensor, stamp: float, fingerprint: int | None = None) -> None:
        if fingerprint is None:
            self.picture += 1
            fingerprint = self.picture
        image = (sensor, stamp, len(self.arrived))
        self.arrived[image] = self.now
        self.last[sensor] = stamp
        self.check(self.pairing.push(sensor, stamp, image, self.now, fingerprint))

    def wait(self, seconds: float) -> None:
        """Polls go on until nothing can wait any more; from then on they would change nothing."""
        end = self.now + seconds
        patience = min(end, self.now + self.pairing.options.modality_timeout_s + 2 * POLL_S)
        while self.now + POLL_S < patience:
            self.now += POLL_S
            self.check(self.pairing.poll(self.now))
        if patience < end:
            assert self.pairing.waiting("rgb") == self.pairing.waiting("thermal") == 0
        self.now = end
        self.check(self.pairing.poll(end))

    def check(self, ready: list[Paired[Image]]) -> None:
        options, counters = self.pairing.options, self.pairing.counters
        if counters["reset"] != self.resets:
            self.resets, self.out_stamp = counters["reset"], -math.inf
        for pair in ready:
            assert pair.stamp > self.out_stamp, "an output stamp went back"
            self.out_stamp = pair.stamp
            if pair.rgb is not None:
                assert pair.stamp == pair.rgb[1]
            if pair.rgb is not None and pair.thermal is not None:
                shifted = [image[1] + self.offset(image[0]) for image in (pair.rgb, pair.thermal)]
                assert abs(shifted[0] - shifted[1]) <= options.slop_s + 1e-9
            for image in (pair.rgb, pair.thermal):
                if image is not None:
                    assert image not in self.used, "an image was used twice"
                    self.used.add(image)
                    waited = self.now - self.arrived[image]
                    assert waited <= options.modality_timeout_s + POLL_S + 1e-9, "an image waited too long"
        self.outputs += ready
        waiting = [self.pairing.waiting(sensor) for sensor in SENSORS]
        assert max(waiting) <= options.max_queue
        events = counters["reset"] + counters["leap"]
        counted = sum(counters.values()) - events + counters["paired"]
        assert counted + sum(waiting) == len(self.arrived), "an image is in no counter, or in two"
        assert len(self.used) == 2 * counters["paired"] + counters["single_rgb"] + counters["single_thermal"]

    def play(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("image", sensor, gap, jitter):
                self.wait(gap)
                self.send(sensor, jitter)
            case ("run", sensors, count, period):
                for _ in range(count):
                    for sensor in sensors:
                        self.send(sensor)
                    self.wait(period)
            case ("repeat", sensor, count):
                for _ in range(count):
                    self.push(sensor, self.last[sensor])
            case ("wild", sensor, stamp):
                self.push(sensor, stamp)
            case ("step", sensors, seconds):
                for sensor in sensors:
                    self.clock[sensor] += seconds
            case ("freeze", sensors, count):
                self.picture += 1
                for _ in range(count):
                    for sensor in sensors:
                        self.send(sensor, fingerprint=self.picture)
                    self.wait(0.1)
            case ("pause", seconds):
                self.wait(seconds)


@settings(
    max_examples=int(SEQUENCES or 200),
    deadline=None,
    derandomize=SEQUENCES is None,
    suppress_health_check=list(HealthCheck),
)
@given(
    events,
    st.integers(1, 6),
    st.floats(0.0, 0.1),
    st.floats(0.05, 0.5),
    st.sampled_from((0.0, -0.02, 0.3)),
    st.integers(0, 3),
    some,
    st.booleans(),
)
def test_any_sequence_keeps_the_promises_and_recovers(
    sequence: list[tuple[Any, ...]],
    max_queue: int,
    slop: float,
    timeout: float,
    offset: float,
    recovery: int,
    alive: tuple[Sensor, ...],
    swap: bool,
) -> None:
    options = PairingOptions(
        slop_s=slop,
        modality_timeout_s=timeout,
        overdue_s=timeout / 3,
        max_queue=max_queue,
        rgb_offset_s=0.01,
        thermal_offset_s=offset,
        recovery_images=recovery,
        frozen_after=4,
    )
    bench = Bench(Pairing(options))
    for event in sequence:
        bench.play(event)

    # Whatever happened: three seconds of one or two good cameras on one clock, and every image is in use.
    bench.clock["thermal"] = bench.clock["rgb"]
    for _ in range(3):
        since = bench.now
        for _ in range(10):
            for sensor in alive[::-1] if swap else alive:
                bench.send(sensor)
            bench.wait(0.1)
    bench.wait(1.0)
    sent = {image for image, arrival in bench.arrived.items() if arrival >= since}
    assert sent <= bench.used, "an image of a good camera was lost"
    for pair in bench.outputs[-10:]:
        assert (pair.rgb is not None, pair.thermal is not None) == tuple(sensor in alive for sensor in SENSORS)
    for sensor in SENSORS:
        assert (bench.pairing.state(sensor, bench.now) == "ok") == (sensor in alive)
