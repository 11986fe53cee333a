"""Pairing: order, bounds, one use per image, and what happens when cameras stop, repeat or go back in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd_ros.imaging import fingerprint
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


@settings(max_examples=50, deadline=None, derandomize=True)
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
    # The returned camera is used from its second image on that fits one of the other.
    assert both == [not 30 <= i < 61 for i in range(90)]
    # Once the silence is known, no further image waits.
    assert all(now == i / 30 for i, (now, _) in enumerate(delivered) if 40 <= i < 61)
    assert pairing.counters["paired"] == 59 and pairing.counters[f"single_{alive}"] == 31
    assert pairing.counters["recovering"] == 1


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


def test_a_camera_that_sends_one_stamp_for_ever_counts_as_silent() -> None:
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
def test_a_loop_of_the_recording_costs_no_image(first: Sensor, in_flight: bool) -> None:
    second: Sensor = "thermal" if first == "rgb" else "rgb"
    pairing: Pairing[Image] = Pairing(PairingOptions(overdue_s=0.2))  # more than what is in flight is late by
    stamps = times(30, 10.0, start=10.0)
    pushes = merged(*(stream(sensor, stamps) for sensor in SENSORS))
    again = [Push(sensor, stamp, stamp + 3.0) for stamp in stamps for sensor in (first, second)]
    if in_flight:  # the second camera's last old image comes after the first camera's first new one
        late = Push(second, stamps[-1], again[0].now)
        pushes = [push for push in pushes if (push.sensor, push.stamp) != (second, stamps[-1])]
        again.insert(1, late)
    ready = run(pairing, pushes + again)
    assert [p.stamp for p in ready] == stamps + stamps and all(p.rgb and p.thermal for p in ready)
    assert pairing.counters["reset"] == 1 and pairing.counters["late"] == 0


@pytest.mark.parametrize("slow", SENSORS)
def test_a_loop_with_a_camera_that_lags_costs_its_first_images(slow: Sensor) -> None:
    quick: Sensor = "thermal" if slow == "rgb" else "rgb"
    pairing: Pairing[Image] = Pairing()
    stamps = times(30, 10.0, start=10.0)
    # Three images of the quick camera are on the new time line before the first of the slow one, whose last old image
    # comes between them and lets them pass for the past.
    pushes = [
        Push(sensor, stamp, stamp + again + lag)
        for again in (0.0, 3.0) for sensor, lag in ((quick, 0.0), (slow, 0.25)) for stamp in stamps
    ]  # fmt: skip
    ready = run(pairing, sorted(pushes, key=lambda push: push.now))
    pairs = [p.stamp for p in ready if p.rgb and p.thermal]
    assert pairs == stamps[:29] + stamps[4:]


def test_an_image_behind_a_lone_one_is_late_though_a_partner_fits() -> None:
    pairing: Pairing[str] = Pairing(PairingOptions(recovery_images=0))
    for i, stamp in enumerate(times(6, 10.0)):
        pairing.push("thermal", stamp, "t", i / 10)
    assert pairing.counters["single_thermal"] == 6
    assert pairing.push("rgb", 100.49, "r", 0.51) == []
    assert pairing.push("thermal", 100.51, "t", 0.52) == [], "a pair would go back to 100.49"
    assert pairing.counters["late"] == 1


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


def test_late_images_after_a_pause_of_the_caller_are_no_new_time_line() -> None:
    pairing = Pairing[Image]()
    for stamp in times(20, 10.0):
        for sensor in SENSORS:
            pairing.push(sensor, stamp, (sensor, stamp, 0), stamp)
    assert pairing.counters["paired"] == 20
    for number in range(3):
        pairing.push("rgb", stamp - 0.05 * (number + 1), ("rgb", 0.0, number), stamp + number / 100)
    held_up = stamp + 2.0  # the process got no processor; then it takes another late image
    assert pairing.push("rgb", stamp - 0.2, ("rgb", 0.0, 3), held_up) == []
    assert (pairing.counters["reset"], pairing.counters["late"]) == (0, 4)

    # A caller that always comes late is no reason to wait for ever.
    for number in range(8):
        pairing.push("rgb", stamp - 0.19 + number / 1000, ("rgb", 0.0, number), held_up + 0.2 * (number + 1))
    assert pairing.counters["reset"] == 1


@pytest.mark.parametrize(("stamp", "reason"), [(1e9, "future"), (130.0, "future"), (3.0, "late")])
@pytest.mark.parametrize("count", [1, 5])
def test_a_wild_stamp_costs_its_image_and_no_reset(stamp: float, reason: str, count: int) -> None:
    pairing: Pairing[Image] = Pairing()
    pushes = merged(*(stream(sensor, times(60, 10.0)) for sensor in SENSORS))
    wild = pushes[61]
    pushes[61:62] = [Push(wild.sensor, stamp, wild.now)] * count  # a driver may repeat it
    ready = run(pairing, pushes)
    assert [p.stamp for p in ready] == times(60, 10.0)
    assert [p.stamp for p in ready if p.thermal is None] == [103.0]
    assert pairing.counters[reason] == 1 and pairing.counters["duplicate"] == count - 1
    assert pairing.counters["reset"] == pairing.counters["leap"] == 0


@pytest.mark.parametrize("sensors", [("rgb",), ("thermal",), ("rgb", "thermal"), ("thermal", "rgb")])
def test_stamps_that_leap_ahead_for_good_cost_no_image(sensors: tuple[Sensor, ...]) -> None:
    # A robot without a clock battery gets the time from the network: 1970 becomes today.
    pairing: Pairing[Image] = Pairing()
    stamps = times(20, 10.0, start=40.0) + times(20, 10.0, start=1.7e9)
    pushes = [Push(sensor, stamp, 5.0 + i / 10) for i, stamp in enumerate(stamps) for sensor in sensors]
    ready = run(pairing, pushes)
    assert [p.stamp for p in ready] == stamps
    assert pairing.counters["future"] == pairing.counters["stale"] == pairing.counters["reset"] == 0
    assert pairing.counters["leap"] == 1


@pytest.mark.parametrize("stamp", [1000.0, 0.5])
def test_one_pair_that_jumps_is_enough(stamp: float) -> None:
    pairing: Pairing[str] = Pairing()
    for i in range(4):
        for sensor in SENSORS:
            pairing.push(sensor, 2.0 + i / 10, "old", i / 10)
    assert pairing.push("thermal", stamp, "t", 0.9) == []
    assert pairing.push("rgb", stamp, "r", 0.91) == [Paired("r", "t", stamp)]


@pytest.mark.parametrize("both", [False, True])
def test_a_leap_at_a_slow_rate_is_followed_too(both: bool) -> None:
    pairing: Pairing[Image] = Pairing()
    stamps = times(5, 1.0) + times(5, 1.0, start=900.0)
    sensors = SENSORS if both else SENSORS[:1]
    ready = run(pairing, [Push(sensor, stamp, 5.0 + i) for i, stamp in enumerate(stamps) for sensor in sensors])
    assert [p.stamp for p in ready] == [stamp for stamp in stamps if both or stamp != 900.0]
    assert pairing.counters["future"] == (0 if both else 1), "alone, the first image has waited out its time"


@pytest.mark.parametrize(
    ("stamp_gap", "arrival_gap"),
    [
        (0.1, 600.0),  # a replay was held and goes on
        (600.0, 600.0),  # both cameras were off
        (600.0, 300.0),  # at half speed of a replay
        (9.0, 0.1),  # images lost in a burst
    ],
)
def test_a_pause_is_no_leap(stamp_gap: float, arrival_gap: float) -> None:
    pairing: Pairing[Image] = Pairing()
    stamps = times(10, 10.0) + times(10, 10.0, start=100.9 + stamp_gap)
    arrival = times(10, 10.0, start=5.0) + times(10, 10.0, start=5.9 + arrival_gap)
    pushes = [Push(sensor, stamp, now) for stamp, now in zip(stamps, arrival, strict=True) for sensor in SENSORS]
    assert [p.stamp for p in run(pairing, pushes, poll_s=0.02)] == stamps
    assert pairing.counters["paired"] == 20 and pairing.counters["leap"] == int(stamp_gap > arrival_gap + 10.0)


@pytest.mark.parametrize("speed", [0.1, 10.0])
def test_the_speed_of_a_replay_does_not_matter(speed: float) -> None:
    pairing: Pairing[Image] = Pairing(PairingOptions(modality_timeout_s=5.0))
    stamps = times(100, 10.0)
    pushes = [Push(sensor, stamp, (stamp - 99.0) / speed) for stamp in stamps for sensor in SENSORS]
    assert [p.stamp for p in run(pairing, pushes, poll_s=0.1)] == stamps
    assert pairing.counters["paired"] == 100


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


def test_offsets_are_added_to_the_stamps_and_the_output_keeps_the_rgb_stamp() -> None:
    # Thermal stamps come 80 ms after the exposure, RGB stamps 20 ms: what was seen at one moment is 60 ms apart.
    pairing: Pairing[Image] = Pairing(PairingOptions(slop_s=0.01, rgb_offset_s=-0.02, thermal_offset_s=-0.08))
    rgb, thermal = [time + 0.02 for time in times(20, 10.0)], [time + 0.08 for time in times(30, 10.0)]
    ready = run(pairing, merged(stream("rgb", rgb, 0.06), stream("thermal", thermal)))
    assert [p.stamp for p in ready[:20]] == rgb, "not even a rounding"
    assert [p.thermal[1] for p in ready if p.thermal] == thermal
    # Alone, a thermal image leaves with the stamp of an RGB image of that moment: order and tracks stay whole.
    assert [p.stamp for p in ready[20:]] == pytest.approx([time + 0.02 for time in times(30, 10.0)[20:]])


def test_offsets_with_the_wrong_sign_give_no_pair() -> None:
    pairing: Pairing[Image] = Pairing(PairingOptions(slop_s=0.01, thermal_offset_s=0.04))
    run(pairing, merged(stream("rgb", times(20, 10.0)), stream("thermal", [t + 0.04 for t in times(20, 10.0)])))
    assert pairing.counters["paired"] == 0


def play(
    pairing: Pairing[Image], seconds: float, sends: dict[Sensor, Callable[[float], bool]], rate: float = 10.0
) -> tuple[list[tuple[float, str]], dict[Sensor, list[str]]]:
    """Cameras at one rate, each sending when its function of the time says so, from second 0 on. Returns (second of the
    stamp, r, t or b for both) of each output, and each camera's state at every image time."""
    out: list[tuple[float, str]] = []
    states: dict[Sensor, list[str]] = {"rgb": [], "thermal": []}
    for step in range(round(seconds * rate)):
        time = step / rate
        ready = []
        for sensor, sending in sends.items():
            if sending(time):
                ready += pairing.push(sensor, 100.0 + time, (sensor, 100.0 + time, step), 7.0 + time)
        for k in range(1, 5):
            ready += pairing.poll(7.0 + time + k / 5 / rate)
        out += [(p.stamp - 100.0, "b" if p.rgb and p.thermal else "r" if p.rgb else "t") for p in ready]
        for sensor in SENSORS:
            states[sensor].append(pairing.state(sensor, 7.0 + time))
    return out, states


def always(time: float) -> bool:
    return True


@pytest.mark.parametrize("rate", [10.0, 30.0])
@pytest.mark.parametrize("order", [SENSORS, SENSORS[::-1]])
@pytest.mark.parametrize("dead", SENSORS)
def test_both_are_in_use_half_a_second_after_a_return(rate: float, order: tuple[Sensor, ...], dead: Sensor) -> None:
    pairing: Pairing[Image] = Pairing()
    sends = {sensor: always if sensor != dead else lambda time: not 1.95 < time < 3.95 for sensor in order}
    out, states = play(pairing, 6.0, sends, rate)
    assert [time for time, _ in out] == pytest.approx([i / rate for i in range(round(6 * rate))]), "none is lost"
    kinds = "".join(kind for _, kind in out)
    alone = "r" if dead == "thermal" else "t"
    assert kinds.strip("b") == alone * kinds.count(alone), "it changes over once, and back once"
    assert all(kind == "b" for time, kind in out if time > 4.35)
    assert states[dead][round(2.6 * rate)] == "pause" and states[dead][round(3.6 * rate)] == "silent"
    assert states[dead][-1] == "ok" and set(states["rgb" if dead == "thermal" else "thermal"]) == {"ok"}


def test_a_flapping_camera_stays_out() -> None:
    pairing: Pairing[Image] = Pairing()
    # From second 2 on, one image in five comes.
    out, states = play(pairing, 10.0, {"rgb": always, "thermal": lambda t: t < 2.0 or round(t * 10) % 5 == 0})
    assert {kind for time, kind in out if time > 2.5} == {"r"}
    assert len(out) == 100 and pairing.counters["recovering"] > 10
    assert states["thermal"][-1] == "silent"


def test_no_probation_means_at_once() -> None:
    pairing: Pairing[Image] = Pairing(PairingOptions(recovery_images=0))
    out, _ = play(pairing, 4.0, {"thermal": lambda t: not 1.0 <= t < 2.95, "rgb": always})
    assert [kind for time, kind in out if time > 2.95] == ["b"] * 10


def test_a_shutter_is_a_pause_and_the_rgb_camera_goes_on() -> None:
    pairing: Pairing[Image] = Pairing()
    # A thermal camera calibrates for half a second, every three.
    out, states = play(pairing, 12.0, {"rgb": always, "thermal": lambda t: not 1.05 < t % 3.0 < 1.55})
    assert len(out) == 120
    assert set(states["thermal"]) == {"ok", "pause"}
    assert sum(kind == "r" for _, kind in out) <= 4 * 8


def test_two_slow_cameras_lose_an_image_and_meet_again() -> None:
    pairing: Pairing[Image] = Pairing()
    out, _ = play(pairing, 12.0, {"rgb": always, "thermal": lambda t: t != 4.0}, rate=1.0)
    assert "".join(kind for _, kind in out) == "bbbbrrrbbbbb"


def test_a_returned_camera_with_another_clock_delays_nobody() -> None:
    pairing: Pairing[Image] = Pairing()
    pushes = stream("rgb", times(60, 10.0)) + stream("thermal", times(10, 10.0))
    pushes += [Push("thermal", 500.0 + i / 10, 103.05 + i / 10) for i in range(25)]
    now_of = {push.stamp: push.now for push in pushes if push.sensor == "rgb"}
    late = []
    for push in sorted(pushes, key=lambda push: push.now):
        late += [
            push.now - now_of[p.stamp]
            for p in pairing.push(push.sensor, push.stamp, (push.sensor, push.stamp, 0), push.now)
            if p.stamp > 103.0
        ]
    assert len(late) == 29 and max(late) == 0.0
    assert pairing.state("thermal", 105.5) == "silent" and pairing.counters["recovering"] == 25


@pytest.mark.parametrize("last", SENSORS)
def test_the_death_of_the_last_camera_ends_the_probation_of_the_other(last: Sensor) -> None:
    other: Sensor = "thermal" if last == "rgb" else "rgb"
    pairing: Pairing[Image] = Pairing()
    out, states = play(pairing, 8.0, {last: lambda t: t < 4.0, other: lambda t: t < 1.0 or t > 3.85})
    # 0.3 s after the last sign of life.
    assert [time for time, _ in out if time > 4.0] == pytest.approx([4.3 + i / 10 for i in range(37)])
    assert states[last][-1] == "silent" and states[other][-1] == "ok"


def test_states_before_the_first_image() -> None:
    pairing: Pairing[str] = Pairing()
    assert [pairing.state(sensor, 0.0) for sensor in SENSORS] == ["never", "never"]
    pairing.push("rgb", 0.0, "r", 0.0)
    pairing.push("rgb", 5.0, "r", 0.1)
    assert [pairing.state(sensor, 0.2) for sensor in SENSORS] == ["ok", "never"]
    assert [pairing.state(sensor, 9.0) for sensor in SENSORS] == ["silent", "never"]


@pytest.mark.parametrize("hung", SENSORS)
def test_a_frozen_picture_counts_as_missing_until_it_changes(hung: Sensor) -> None:
    other: Sensor = "thermal" if hung == "rgb" else "rgb"
    pairing: Pairing[Image] = Pairing(PairingOptions(frozen_after=5))
    ready: list[Paired[Image]] = []
    states: list[str] = []
    for i, stamp in enumerate(times(60, 10.0)):
        picture = 7 if 20 <= i < 40 else 1000 + i
        ready += pairing.push(hung, stamp, (hung, stamp, i), stamp, picture)
        ready += pairing.push(other, stamp, (other, stamp, i), stamp, 5000 + i)
        assert ready[-1].stamp == stamp, "nobody waits for a frozen camera"
        if i in (24, 36, 39, 42):
            states.append(pairing.state(hung, stamp))
        ready += pairing.poll(stamp + 0.05)
    both = [p.rgb is not None and p.thermal is not None for p in ready]
    assert len(ready) == 60
    assert states == ["ok", "pause", "silent", "ok"]
    assert both == [not 25 <= i < 42 for i in range(60)], "five same pictures pass"
    assert pairing.counters["frozen"] == 15 and pairing.counters["recovering"] == 2


def test_frozen_after_0_and_images_without_fingerprint_are_never_frozen() -> None:
    for options, picture in ((PairingOptions(frozen_after=0), 7), (PairingOptions(), None)):
        pairing: Pairing[str] = Pairing(options)
        for stamp in times(50, 10.0):
            for sensor in SENSORS:
                pairing.push(sensor, stamp, "", stamp, picture)
        assert pairing.counters["paired"] == 50 and pairing.counters["frozen"] == 0


def test_two_frozen_cameras_put_nothing_out() -> None:
    pairing: Pairing[str] = Pairing()
    ready = [p for stamp in times(60, 10.0) for s in SENSORS for p in pairing.push(s, stamp, "", stamp, 7)]
    assert len(ready) == 10
    assert [pairing.state(sensor, 106.0) for sensor in SENSORS] == ["silent", "silent"]


def test_a_fingerprint_changes_with_the_noise_and_not_without() -> None:
    rng = np.random.default_rng(3)
    scene = rng.integers(7000, 7200, (512, 640)).astype(np.uint16)
    seen = {fingerprint((scene + rng.integers(0, 2, scene.shape)).astype(np.uint16)) for _ in range(50)}
    assert len(seen) == 50
    assert fingerprint(scene) == fingerprint(scene.copy())
    colour = rng.integers(0, 255, (480, 640, 3)).astype(np.uint8)
    assert fingerprint(colour[..., ::-1]) == fingerprint(colour[..., ::-1].copy()) != fingerprint(colour)
    for shape in ((1, 1), (24, 32, 3), (65, 64)):
        assert isinstance(fingerprint(np.zeros(shape, np.uint8)), int)


@pytest.mark.parametrize(("fast", "slow"), [SENSORS, SENSORS[::-1]])
@pytest.mark.parametrize("slop", [0.01, 0.05])
def test_the_surplus_of_a_faster_camera_is_orphaned(fast: Sensor, slow: Sensor, slop: float) -> None:
    pairing: Pairing[Image] = Pairing(PairingOptions(slop_s=slop))
    quick = times(300, 30.0)
    ready = run(pairing, merged(stream(slow, times(90, 9.0), 0.03), stream(fast, quick)))
    counters = pairing.counters
    # 9 of 30 Hz: the distance to the nearest fast image goes 0, 11, 11 ms and round again.
    expected = 30 if slop == 0.01 else 90
    singles = counters["single_rgb"] + counters["single_thermal"]
    assert counters["paired"] == expected
    assert all(abs(p.rgb[1] - p.thermal[1]) < 0.012 for p in ready if p.rgb and p.thermal)
    assert singles <= 3 and counters["orphan"] == 390 - 2 * expected - singles, "three of the end wait in vain"


def test_a_camera_faster_than_the_queue_is_not_mute() -> None:
    # 60 Hz for 0.3 s are 18 images: the queue runs over before the first has waited out its time.
    pairing: Pairing[Image] = Pairing()
    ready = run(pairing, stream("thermal", times(120, 60.0)))
    assert len(ready) >= 115 and pairing.counters["stale"] <= 5


def test_an_rgb_clock_ahead_does_not_mute_the_thermal_camera_when_it_dies() -> None:
    pairing: Pairing[Image] = Pairing()
    rgb = [Push("rgb", push.stamp + 1000.0, push.now) for push in stream("rgb", times(20, 10.0))]
    ready = run(pairing, merged(rgb, stream("thermal", times(60, 10.0))))
    assert [p.stamp for p in ready if p.thermal][-30:] == times(60, 10.0)[-30:]


def test_the_cameras_of_two_sources_at_once_do_not_reset_each_other() -> None:
    # Somebody plays a recording beside the live cameras, RGB only.
    pairing: Pairing[Image] = Pairing()
    live = merged(*(stream(sensor, times(60, 10.0)) for sensor in SENSORS))
    replayed = [Push("rgb", 10.0 + i / 10, 100.05 + i / 10) for i in range(60)]
    ready = run(pairing, merged(live, replayed))
    assert [p.stamp for p in ready] == times(60, 10.0) and pairing.counters["paired"] == 60
    assert pairing.counters["late"] == 60 and pairing.counters["reset"] == 0


def first_alone(pushes: list[Push], dead: Sensor, **options: float) -> float:
    """Seconds from the last image of the dead camera to the first output of the other alone, polled every 10 ms."""
    pairing, now = Pairing[Image](PairingOptions(**options)), pushes[0].now
    last = max(push.now for push in pushes if push.sensor == dead)
    for number, push in enumerate(pushes):
        while now + 0.01 < push.now:
            now += 0.01
            if any((pair.rgb is None) != (pair.thermal is None) for pair in pairing.poll(now)):
                return now - last
        now = push.now
        ready = pairing.push(push.sensor, push.stamp, (push.sensor, push.stamp, number), now)
        if any((pair.rgb is None) != (pair.thermal is None) for pair in ready):
            return now - last
    pytest.fail("nothing left alone")


@pytest.mark.parametrize("dead", SENSORS)
@pytest.mark.parametrize("rate", [5.0, 9.0, 10.0, 30.0])
def test_a_camera_that_breaks_its_rhythm_is_soon_silent(rate: float, dead: Sensor) -> None:
    both = merged(stream("rgb", times(30, rate)), stream("thermal", times(30, rate), 0.004))
    alive = stream(SENSORS[dead == "rgb"], times(30, rate, 100.0 + 30 / rate), 0.004)
    waited = first_alone(both + alive, dead)
    assert 1 / rate + 0.05 < waited < 1 / rate + 0.085
    assert first_alone(both + alive, dead, overdue_s=60.0) > 1 / rate + 0.29


def test_an_image_that_is_lost_costs_one_pair_and_no_trust() -> None:
    thermal = [stamp for stamp in times(30, 10.0) if stamp != 102.0]
    pairing = Pairing[Image]()
    ready = run(pairing, merged(stream("rgb", times(30, 10.0)), stream("thermal", thermal, 0.004)))
    assert [p.stamp for p in ready] == times(30, 10.0)
    assert [p.stamp for p in ready if p.thermal is None] == [102.0]
    assert pairing.counters["recovering"] == 0


def test_a_slow_camera_is_not_overdue_between_its_images() -> None:
    pushes = merged(stream("rgb", times(90, 30.0)), stream("thermal", times(27, 9.0), 0.005))
    ready = run(Pairing(), pushes)
    assert not [pair for pair in ready[:-3] if pair.thermal is None or pair.rgb is None]


def test_nobody_is_overdue_after_a_pause_of_the_caller_or_of_both_cameras() -> None:
    pairing = Pairing[Image]()
    run(pairing, merged(stream("rgb", times(10, 10.0)), stream("thermal", times(10, 10.0), 0.004)))
    # Both come back after two seconds, and the caller then sleeps between the two images of a pair.
    assert pairing.push("rgb", 103.0, ("rgb", 103.0, 0), 103.0) == []
    (pair,) = pairing.push("thermal", 103.0, ("thermal", 103.0, 1), 103.2)
    assert pair.rgb and pair.thermal
    # ... or while an image waits, and the next poll comes before the image that came meanwhile.
    assert pairing.poll(103.28) + pairing.poll(103.3) + pairing.push("rgb", 103.1, ("rgb", 103.1, 2), 103.31) == []
    assert pairing.poll(103.45) == []
    (pair,) = pairing.push("thermal", 103.1, ("thermal", 103.1, 3), 103.46)
    assert pair.rgb and pair.thermal
