"""Pairing: order, bounds, one use per image, and what happens when cameras stop, repeat or go back in time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd_ros.pairing import Paired, Pairing, PairingOptions, Sensor

SENSORS: tuple[Sensor, Sensor] = ("rgb", "thermal")
Image = tuple[str, float, int]


@dataclass(frozen=True)
class Push:
    sensor: Sensor
    stamp: float
    now: float


def images(ready: list[Paired[Image]]) -> list[Image]:
    return [image for pair in ready for image in (pair.rgb, pair.thermal) if image is not None]


def run(pairing: Pairing[Image], pushes: list[Push], poll_s: float = 0.01) -> list[Paired[Image]]:
    """Push everything at its arrival, polling in between and until nothing can wait any more."""
    ready: list[Paired[Image]] = []
    now = pushes[0].now if pushes else 0.0
    for number, push in enumerate(pushes):
        while now + poll_s < push.now:
            now += poll_s
            ready += pairing.poll(now)
        now = push.now
        ready += pairing.push(push.sensor, push.stamp, (push.sensor, push.stamp, number), now)
    return ready + drain(pairing, now, poll_s)


def drain(pairing: Pairing[Image], now: float, poll_s: float = 0.01) -> list[Paired[Image]]:
    ready: list[Paired[Image]] = []
    for i in range(math.ceil(pairing.options.modality_timeout_s / poll_s) + 2):
        ready += pairing.poll(now + i * poll_s)
    return ready


def stream(sensor: Sensor, stamps: list[float], delay: float = 0.0) -> list[Push]:
    return [Push(sensor, stamp, stamp + delay) for stamp in stamps]


def merged(*streams: list[Push]) -> list[Push]:
    return sorted((push for pushes in streams for push in pushes), key=lambda push: push.now)


def times(count: int, rate: float, start: float = 100.0) -> list[float]:
    return [start + i / rate for i in range(count)]


arrivals = st.lists(
    st.tuples(
        st.sampled_from(SENSORS),
        st.floats(0.0, 0.4),  # seconds since the last arrival
        st.one_of(
            st.floats(-0.2, 0.2),  # stamp relative to a common clock: jitter, out of order
            st.sampled_from([0.0, 0.0, 0.0, 1e6, -50.0]),
            st.sampled_from([math.nan, math.inf, -math.inf]),
        ),
        st.sampled_from([False, False, False, True]),  # repeat the camera's last stamp
    ),
    max_size=80,
)


@settings(max_examples=400, deadline=None)
@given(arrivals, st.integers(1, 6), st.floats(0.0, 0.1), st.floats(0.05, 0.5))
def test_any_sequence_keeps_the_promises(
    sequence: list[tuple[Sensor, float, float, bool]], max_queue: int, slop: float, timeout: float
) -> None:
    pairing: Pairing[Image] = Pairing(PairingOptions(slop_s=slop, modality_timeout_s=timeout, max_queue=max_queue))
    now, stamp = 0.0, {"rgb": 100.0, "thermal": 100.0}
    arrived: dict[Image, float] = {}
    used: set[Image] = set()
    last_stamp, resets = -math.inf, 0

    def check(ready: list[Paired[Image]], now: float, poll_s: float) -> None:
        nonlocal last_stamp, resets
        if pairing.counters["reset"] != resets:
            resets, last_stamp = pairing.counters["reset"], -math.inf
        for pair in ready:
            assert pair.stamp > last_stamp
            last_stamp = pair.stamp
            assert pair.stamp == (pair.rgb or pair.thermal)[1]  # type: ignore[index]
            if pair.rgb is not None and pair.thermal is not None:
                assert abs(pair.rgb[1] - pair.thermal[1]) <= slop
            for image in images([pair]):
                assert image not in used, "an image was used twice"
                used.add(image)
                assert now - arrived[image] <= timeout + poll_s + 1e-9, "an image waited too long"

    for number, (sensor, gap, offset, repeat) in enumerate(sequence):
        end = now + gap
        while now + 0.02 < end:
            now += 0.02
            check(pairing.poll(now), now, 0.02)
        now = end
        if not repeat:
            stamp[sensor] = 100.0 + now + offset
        image = (sensor, stamp[sensor], number)
        arrived[image] = now
        check(pairing.push(sensor, stamp[sensor], image, now), now, 0.02)
        assert pairing.waiting("rgb") <= max_queue and pairing.waiting("thermal") <= max_queue
    for _ in range(math.ceil(timeout / 0.02) + 2):
        now += 0.02
        check(pairing.poll(now), now, 0.02)

    assert pairing.waiting("rgb") == pairing.waiting("thermal") == 0
    counted = sum(count for name, count in pairing.counters.items() if name != "reset") + pairing.counters["paired"]
    assert counted == len(sequence), "an image is in no counter, or in two"
    alone = pairing.counters["single_rgb"] + pairing.counters["single_thermal"]
    assert len(used) == 2 * pairing.counters["paired"] + alone


@settings(max_examples=100, deadline=None)
@given(
    rate=st.sampled_from([5.0, 10.0, 30.0]),
    offset=st.floats(-0.02, 0.02),
    lag=st.floats(0.0, 0.1),
    rgb_jitter=st.lists(st.floats(-0.002, 0.002), min_size=60, max_size=60),
)
def test_two_steady_cameras_give_every_pair(rate: float, offset: float, lag: float, rgb_jitter: list[float]) -> None:
    # Offsets below half a period: the right partner is the one of the same number.
    offset = max(-0.4 / rate, min(0.4 / rate, offset))
    rgb = [time + jitter for time, jitter in zip(times(60, rate), rgb_jitter, strict=True)]
    thermal = [time + offset for time in times(60, rate)]
    pairing: Pairing[Image] = Pairing(PairingOptions(modality_timeout_s=0.5))
    ready = run(pairing, merged(stream("rgb", rgb), stream("thermal", thermal, lag)))
    assert [(p.rgb[1], p.thermal[1]) for p in ready if p.rgb and p.thermal] == list(zip(rgb, thermal, strict=True))
    assert len(ready) == 60


def test_the_nearest_partner_wins_over_the_first_one() -> None:
    pairing: Pairing[Image] = Pairing()
    # 30 Hz RGB beside 10 Hz thermal, which is 2 ms early and arrives first: the RGB image before is within the slop.
    rgb, thermal = times(91, 30.0), [time - 0.002 for time in times(31, 10.0)]
    ready = run(pairing, merged(stream("thermal", thermal), stream("rgb", rgb, 0.001)))
    pairs = [(p.rgb[1], p.thermal[1]) for p in ready if p.rgb and p.thermal]
    assert len(pairs) == 31 and len(ready) == 31
    assert all(abs(a - b) < 0.003 for a, b in pairs)
    assert pairing.counters["orphan"] == 60


def test_a_pair_in_hand_waits_no_longer_than_hold() -> None:
    pairing: Pairing[Image] = Pairing(PairingOptions(slop_s=0.05, hold_s=0.04))
    pairing.push("thermal", 99.98, ("thermal", 99.98, 0), 0.0)
    pairing.push("thermal", 100.0, ("thermal", 100.0, 1), 0.02)
    assert pairing.push("rgb", 100.02, ("rgb", 100.02, 2), 0.04) == []  # 100.02 is due from the thermal camera too
    assert pairing.poll(0.07) == []
    (pair,) = pairing.poll(0.08)
    assert pair.thermal is not None and pair.thermal[1] == 100.0


def test_equal_stamps_leave_at_once() -> None:
    pairing: Pairing[str] = Pairing()
    assert pairing.push("rgb", 5.0, "r", 0.0) == []
    assert pairing.push("thermal", 5.0, "t", 0.004) == [Paired("r", "t", 5.0)]


@pytest.mark.parametrize("alive", SENSORS)
def test_a_silent_camera_hands_over_and_comes_back(alive: Sensor) -> None:
    dead: Sensor = "thermal" if alive == "rgb" else "rgb"
    stamps = times(90, 30.0)
    pairing: Pairing[Image] = Pairing(PairingOptions(modality_timeout_s=0.2))
    delivered: list[tuple[float, Paired[Image]]] = []
    for i, stamp in enumerate(stamps):
        now = i / 30
        for step in range(3):
            delivered += [(now - 0.03 + step * 0.01, p) for p in pairing.poll(now - 0.03 + step * 0.01)]
        if not 30 <= i < 60:
            delivered += [(now, p) for p in pairing.push(dead, stamp, (dead, stamp, i), now)]
        delivered += [(now, p) for p in pairing.push(alive, stamp, (alive, stamp, i), now)]
    assert [p.stamp for _, p in delivered] == stamps, "no image of the living camera may be lost"
    both = [p.rgb is not None and p.thermal is not None for _, p in delivered]
    assert both == [not 30 <= i < 60 for i in range(90)]
    # Once the silence is known, no further image waits.
    assert all(now == i / 30 for i, (now, _) in enumerate(delivered) if 40 <= i < 60)
    assert pairing.counters["paired"] == 60 and pairing.counters[f"single_{alive}"] == 30


@pytest.mark.parametrize("rate", [1.0, 2.0])
def test_slow_cameras_and_pauses_still_give_pairs(rate: float) -> None:
    pairing: Pairing[Image] = Pairing(PairingOptions(modality_timeout_s=0.2))
    pushes = merged(stream("rgb", times(20, rate)), stream("thermal", times(20, rate), 0.05))
    assert [bool(p.rgb and p.thermal) for p in run(pairing, pushes)] == [True] * 20


def test_a_camera_that_never_comes_is_not_waited_for() -> None:
    pairing: Pairing[Image] = Pairing()
    ready = run(pairing, stream("thermal", times(30, 10.0)))
    assert [p.stamp for p in ready] == times(30, 10.0)
    assert pairing.counters["single_thermal"] == 30


def test_a_frozen_camera_counts_as_silent() -> None:
    pairing: Pairing[Image] = Pairing()
    pushes = merged(stream("rgb", times(60, 30.0)), [Push("thermal", 100.0, t) for t in times(60, 30.0)])
    ready = run(pairing, pushes)
    assert [p.stamp for p in ready] == times(60, 30.0)
    assert pairing.counters["duplicate"] == 59 and pairing.counters["single_rgb"] == 59


def test_clocks_that_differ_leave_the_rgb_camera_alone() -> None:
    pairing: Pairing[Image] = Pairing()
    shifted = [Push("thermal", push.stamp + 1000.0, push.now) for push in stream("thermal", times(60, 10.0))]
    ready = [p for p in run(pairing, merged(stream("rgb", times(60, 10.0)), shifted)) if p.stamp < 1000.0]
    assert all(p.thermal is None for p in ready)
    assert len(ready) >= 55
    assert pairing.counters["orphan"] >= 55


@pytest.mark.parametrize("first", SENSORS)
@pytest.mark.parametrize("in_flight", [False, True])
def test_a_loop_of_the_recording_costs_at_most_two_images(first: Sensor, in_flight: bool) -> None:
    second: Sensor = "thermal" if first == "rgb" else "rgb"
    pairing: Pairing[Image] = Pairing()
    stamps = times(30, 10.0, start=10.0)
    pushes = merged(*(stream(sensor, stamps) for sensor in SENSORS))
    again = [Push(sensor, stamp, stamp + 3.0) for stamp in stamps for sensor in (first, second)]
    if in_flight:  # the second camera's last old image comes after the first camera's first new one
        late = Push(second, stamps[-1], again[0].now)
        pushes = [push for push in pushes if (push.sensor, push.stamp) != (second, stamps[-1])]
        again.insert(1, late)
    ready = run(pairing, pushes + again)
    old, new = [p for p in ready[:30] if p.stamp], ready[29 if in_flight else 30 :]
    assert len(old) >= 29
    assert new[0].stamp <= stamps[2] and all(p.rgb and p.thermal for p in new)
    assert len(new) >= 28
    assert pairing.counters["reset"] in ((1, 2) if in_flight else (1,))


def test_a_short_loop_does_not_stall() -> None:
    pairing: Pairing[Image] = Pairing()
    stamps = times(12, 30.0)  # 0.4 s, less than a jump that is taken for a reset
    pushes = [
        Push(sensor, stamp, 100.0 + loop * 0.4 + i / 30) for loop in range(10) for i, stamp in enumerate(stamps)
        for sensor in SENSORS
    ]  # fmt: skip
    ready = run(pairing, pushes)
    assert pairing.counters["reset"] >= 2
    assert len(ready) > 30


def test_one_wild_stamp_costs_one_image() -> None:
    pairing: Pairing[Image] = Pairing()
    pushes = merged(*(stream(sensor, times(60, 10.0)) for sensor in SENSORS))
    pushes[61] = Push(pushes[61].sensor, 1e9, pushes[61].now)
    ready = run(pairing, pushes)
    assert len(ready) >= 58 and max(p.stamp for p in ready) < 1e6


@pytest.mark.parametrize("stamp", [0.0, -1.0, math.nan, math.inf])
def test_a_stamp_that_is_none_is_counted_and_dropped(stamp: float) -> None:
    pairing: Pairing[str] = Pairing()
    assert pairing.push("rgb", stamp, "r", 0.0) == []
    assert pairing.counters["invalid"] == 1 and pairing.waiting("rgb") == 0


def test_arrival_and_stamps_are_never_compared() -> None:
    # Simulated stamps near zero, wall clock arrivals; and the other way round.
    for origin in (0.5, 2e9):
        pairing: Pairing[Image] = Pairing()
        ready = run(
            pairing,
            [Push(sensor, origin + i / 10, 1.7e9 + i / 10) for i in range(20) for sensor in SENSORS],
        )
        assert len(ready) == 20 and pairing.counters["paired"] == 20


@pytest.mark.parametrize(("name", "value"), [("slop_s", -0.1), ("max_queue", 0), ("modality_timeout_s", math.nan)])
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        PairingOptions(**{name: value})  # type: ignore[arg-type]
