"""Cameras, stamps and clocks that fail, over real DDS: what comes out, and after how long."""

from __future__ import annotations

import itertools
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cameras import CAMERAS, PERIOD_S, RATE_HZ, Cameras, Watch
from diagnostic_msgs.msg import DiagnosticArray
from fault_report import FaultReport
from modality_detector import SCRIPT
from node_bench import Bench, Child
from std_msgs.msg import String

Start = Callable[..., Child]


def other(camera: str) -> str:
    return CAMERAS[1 - CAMERAS.index(camera)]


def test_one_camera_fails_and_comes_back(bench: Bench, start: Start, some_file: Path, figures: FaultReport) -> None:
    start(SCRIPT, weights=str(some_file))
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    watch = Watch(bench)
    with Cameras(bench) as cameras:
        for camera, way in (("rgb", "dies"), ("thermal", "dies"), ("rgb", "one stamp"), ("thermal", "one stamp")):
            watch.settle()
            failing = cameras.alive if way == "dies" else cameras.stuck
            failing.symmetric_difference_update({camera})
            failed = cameras.sent[camera][-1].at
            heard = len(diagnostics)
            alone = watch.first(other(camera), since=failed)
            figures.seconds(f"{camera} {way}: first output of the other alone", alone.at - failed, PERIOD_S + 0.1)

            def degraded() -> bool:
                said = [message.status[0] for message in diagnostics[heard:]]  # noqa: B023
                words = f"Only the {other(camera)} camera"  # noqa: B023
                return any(status.level != b"\x00" and words in status.message for status in said)

            bench.wait(degraded, f"for word of {other(camera)} alone")
            time.sleep(0.7)  # long enough to lose its trust
            before = len(cameras.sent[camera])
            failing.symmetric_difference_update({camera})
            stamps = cameras.sent[camera]
            bench.wait(lambda: len(stamps) > before + 1, "for the camera")  # noqa: B023
            returned = stamps[before].at
            both = watch.first("both", since=returned)
            figures.seconds(f"{camera} {way}: back to both", both.at - returned, 0.5)
    assert watch.backward_steps() == []


def test_a_camera_hangs_on_one_picture(bench: Bench, start: Start, some_file: Path, figures: FaultReport) -> None:
    start(SCRIPT, weights=str(some_file))
    watch = Watch(bench)
    with Cameras(bench) as cameras:
        watch.settle()
        cameras.frozen.add("thermal")
        failed = cameras.sent["thermal"][-1].at
        alone = watch.first("rgb", since=failed)
        figures.frames("thermal hangs on one picture: images until RGB alone", (alone.at - failed) * RATE_HZ, 12)
        cameras.frozen.clear()
        thawed = cameras.sent["thermal"][-1].at
        both = watch.first("both", since=thawed)
        figures.seconds("thermal hangs on one picture: back to both", both.at - thawed, 0.5)
    assert watch.backward_steps() == []


def test_a_shutter_is_a_pause_and_no_death(bench: Bench, start: Start, some_file: Path, figures: FaultReport) -> None:
    """A thermal camera closes its shutter for half a second, three times."""
    start(SCRIPT, weights=str(some_file))
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    watch, slowest, longest, states = Watch(bench), 0.0, 0.0, set()
    with Cameras(bench) as cameras:
        for _ in range(3):
            watch.settle()
            cameras.alive.remove("thermal")
            closed = cameras.sent["thermal"][-1].at
            watch.first("rgb", since=closed)
            time.sleep(0.3)
            before = len(cameras.sent["thermal"])
            cameras.alive.add("thermal")
            bench.wait(lambda: len(cameras.sent["thermal"]) > before, "for the camera")  # noqa: B023
            returned = cameras.sent["thermal"][before].at
            longest = max(longest, returned - closed)
            slowest = max(slowest, watch.first("both", since=returned).at - returned)
    for message in diagnostics:
        states |= {pair.value for pair in message.status[0].values if pair.key == "state_thermal"}
    assert states
    assert "silent" not in states or longest > 1.0, "half a second is a pause, if this machine has not made more of it"
    figures.seconds("thermal closes its shutter for half a second: back to both", slowest, 0.5)
    assert watch.backward_steps() == []


def test_both_cameras_die(bench: Bench, start: Start, some_file: Path, figures: FaultReport) -> None:
    start(SCRIPT, weights=str(some_file))
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    modality = bench.collect(String, "detection_node/modality", latched=True)
    watch = Watch(bench)
    with Cameras(bench) as cameras:
        watch.settle()
        cameras.alive.clear()
        died = max(cameras.sent[camera][-1].at for camera in CAMERAS)
        bench.wait(lambda: modality and modality[-1].data == "none", "for word of it")
        bench.wait(lambda: diagnostics and diagnostics[-1].status[0].level == b"\x02", "for an ERROR")
        figures.seconds("both cameras die: ERROR on /diagnostics", time.monotonic() - died, 1.2)
        time.sleep(1.0)
        late = [output for output in watch.since(died + 0.5)]
        figures.frames("both cameras die: outputs after half a second", len(late), 0)
        cameras.alive.update(CAMERAS)
        before = len(cameras.sent["rgb"])
        bench.wait(lambda: len(cameras.sent["rgb"]) > before)
        returned = cameras.sent["rgb"][before].at
        figures.seconds("both cameras die: back to both", watch.first("both", returned).at - returned, 0.5)
    assert watch.backward_steps() == []


def test_stamps_of_every_kind_never_make_the_output_go_back(
    bench: Bench, start: Start, some_file: Path, figures: FaultReport
) -> None:
    """Out of order, repeated, zero, and strays of the far future and past that no second image agrees with."""
    node = start(SCRIPT, weights=str(some_file))
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    watch = Watch(bench)
    rng = random.Random(4)  # noqa: S311 - a repeatable sequence, no secret
    with Cameras(bench, origin=1e6):
        watch.settle()
    strays = itertools.count(1)
    now = watch.outputs[-1].stamp_ns / 1e9
    reasons = {"late": "late", "repeat": "duplicate", "zero": "invalid", "future": "future"}

    def send(kind: str, cameras: Sequence[str], pause_s: float = 0.0) -> None:
        for camera in cameras:
            stray = 30.0 * next(strays)  # no two agree
            stamp = {"late": now - rng.uniform(0.0, 0.3), "zero": 0.0, "future": now + stray, "past": now - stray}
            for _ in range(2 if kind == "repeat" else 1):
                bench.send(camera, stamp.get(kind, now))
                time.sleep(pause_s)

    def uncounted() -> dict[str, str]:
        counted = bench.figures(diagnostics)
        return {kind: reason for kind, reason in reasons.items() if int(counted.get(f"dropped.{reason}", 0)) == 0}

    def all_counted() -> bool:
        """Go on with the kinds of which the node has reported none: it takes the newest image only, so that on a busy
        machine the second of two in a row replaces the first unseen."""
        nonlocal now
        for kind in uncounted():
            now += 0.02
            send(kind, CAMERAS, pause_s=0.1)
        return not uncounted()

    for _ in range(600):
        now += 0.02
        kind = rng.choice(("good", "good", "late", "repeat", "zero", "future", "past"))
        send(kind, rng.sample(CAMERAS, rng.randint(1, 2)))
        time.sleep(0.005)
    bench.wait(all_counted, lambda: f"for {uncounted()} among {bench.figures(diagnostics)}")
    time.sleep(1.2)  # for outputs that are on their way
    assert bench.figures(diagnostics)["resets"] == "0" and node.process.poll() is None
    back = len(watch.backward_steps())
    figures.number("stamps out of order, repeated, zero, far off: outputs that went back", back, 0)


def test_the_clock_stands_still_and_starts_again(
    bench: Bench, start: Start, some_file: Path, figures: FaultReport
) -> None:
    start(SCRIPT, weights=str(some_file), use_sim_time=True)
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    watch = Watch(bench)
    with Cameras(bench, clock=True) as cameras:
        watch.settle()
        cameras.alive.clear()
        time.sleep(1.5)
        heard, resumed = len(diagnostics), cameras.sent["rgb"][-1]
        bench.wait(lambda: len(diagnostics) > heard + 1, "for a node that went dumb with its clock")
        cameras.origin = resumed.stamp_ns / 1e9 + PERIOD_S
        cameras.alive.update(CAMERAS)
        first = watch.first("both", since=resumed.at + 1.0)
        figures.frames("/clock pauses: frames until the first output", _frames(cameras, first, resumed.at), 2)
        assert watch.backward_steps() == []
        watch.settle()

        cameras.origin = 1.0
        last = cameras.sent["rgb"][-1].at
        bench.wait(lambda: cameras.sent["rgb"][-1].stamp_ns < 500 * 10**9, "for the reset of the cameras")
        begun = next(sent.at for sent in cameras.sent["rgb"] if sent.at > last and sent.stamp_ns < 500 * 10**9)
        bench.wait(lambda: watch.outputs[-1].stamp_ns < 500 * 10**9, "for an output of the new time")
        first = next(output for output in watch.outputs if output.stamp_ns < 500 * 10**9)
        figures.frames("/clock resets: frames until the first output", _frames(cameras, first, begun - PERIOD_S), 2)
        watch.settle()
        assert len(watch.backward_steps()) == 1


def _frames(cameras: Cameras, first: Any, since: float) -> int:
    """Number of RGB images sent after a moment, and before that of an output."""
    later = [sent.stamp_ns for sent in cameras.sent["rgb"] if sent.at > since]
    return later.index(first.stamp_ns)


STUCK = """
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from vision_msgs.msg import Detection2DArray
rclpy.init()
node = Node("stuck")
quality = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
node.create_subscription(Detection2DArray, "detections", print, quality)
rclpy.spin(node)
"""


def test_a_subscriber_that_hangs_holds_nobody_up(
    bench: Bench, start: Start, some_file: Path, figures: FaultReport, tmp_path: Path
) -> None:
    start(SCRIPT, weights=str(some_file))
    stuck = Child([sys.executable, "-uc", STUCK], tmp_path / "stuck.log")
    try:
        watch = Watch(bench)
        with Cameras(bench) as cameras:
            watch.settle()
            bench.wait(lambda: bench.node.count_subscribers("/detections") == 2, "for the other subscriber")
            bench.wait(lambda: "Detection2DArray" in stuck.log(), "for its first message")
            stuck.process.send_signal(signal.SIGSTOP)
            since = time.monotonic()
            bench.wait(lambda: len(watch.since(since)) >= 40, "for outputs beside a subscriber that hangs")
        sent = {image.stamp_ns: image.at for image in cameras.sent["rgb"]}
        lags = [output.at - sent[output.stamp_ns] for output in watch.since(since)]
        figures.seconds("a reliable subscriber hangs: lag of the others, median", float(np.median(lags)), PERIOD_S)
        assert watch.backward_steps() == []
    finally:
        stuck.process.kill()
        stuck.process.wait()
