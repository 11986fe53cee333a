"""Two hours of a robot in the field, in a minute: cameras that come back otherwise, sensors that see nothing, clocks
that are set, rates that do not fit; over real DDS."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cameras import CAMERAS, PERIOD_S, RATE_HZ, Cameras, Watch
from diagnostic_msgs.msg import DiagnosticArray
from fault_report import FaultReport
from modality_detector import SCRIPT
from node_bench import Bench, Child, header
from sensor_msgs.msg import Image

Start = Callable[..., Child]
_rng = np.random.default_rng(7)

# (encoding, bytes a pixel, rows, columns) that a camera may send after a restart.
OTHERWISE = {
    "rgb": (("bgr8", 3, 48, 64), ("bgra8", 4, 24, 32), ("mono8", 1, 24, 32), ("yuv422_yuy2", 2, 24, 32)),
    "thermal": (("16UC1", 2, 24, 32), ("mono8", 1, 12, 16), ("mono16", 2, 120, 160)),
}


def noise(encoding: str, pixel_bytes: int, rows: int, columns: int) -> Callable[[str, float], Any]:
    """Makes images of this kind whose pixels change."""

    def make(camera: str, stamp: float) -> Any:
        message = Image(header=header(stamp, f"{camera}_optical"), encoding=encoding, height=rows, width=columns)
        message.step = columns * pixel_bytes
        message.data = _rng.integers(0, 255, rows * message.step, np.uint8).tobytes()
        return message

    return make


def flat(encoding: str, value: int) -> Callable[[str, float], Any]:
    """Makes images of 24x32 pixels that all have one value, without noise."""

    def make(camera: str, stamp: float) -> Any:
        message = Image(header=header(stamp, f"{camera}_optical"), encoding=encoding, height=24, width=32)
        pixels = np.full((24, 32, 3 if encoding == "rgb8" else 1), value, "<u2" if encoding == "16UC1" else "u1")
        message.step, message.data = pixels.strides[0], pixels.tobytes()
        return message

    return make


def other(camera: str) -> str:
    return CAMERAS[1 - CAMERAS.index(camera)]


def test_a_camera_comes_back_otherwise(bench: Bench, start: Start, some_file: Path, figures: FaultReport) -> None:
    """Another size or encoding after a restart is read; one that cannot be read is as if the camera were dead."""
    node = start(SCRIPT, weights=str(some_file))
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    watch = Watch(bench)
    slowest = 0.0
    with Cameras(bench) as cameras:
        watch.settle()

        def restart(camera: str, make: Callable[[str, float], Any]) -> float:
            cameras.alive.remove(camera)
            watch.first(other(camera), since=cameras.sent[camera][-1].at)
            time.sleep(0.5)
            cameras.make[camera], before = make, len(cameras.sent[camera])
            cameras.alive.add(camera)
            bench.wait(lambda: len(cameras.sent[camera]) > before, "for the camera")
            return cameras.sent[camera][before].at

        for camera, kinds in OTHERWISE.items():
            for kind in kinds:
                returned = restart(camera, noise(*kind))
                slowest = max(slowest, watch.first("both", since=returned).at - returned)
                watch.settle(count=3)
        figures.seconds("a camera restarts with another size or encoding: back to both", slowest, 0.5)

        returned = restart("rgb", noise("mono16", 2, 24, 32))
        bench.wait(lambda: diagnostics and "swapped" in diagnostics[-1].status[0].message, "for the reason")
        assert all(output.name == "thermal" for output in watch.since(returned))
        returned = restart_after_refusal(cameras, "rgb")
        watch.first("both", since=returned)
    assert node.process.poll() is None and "Traceback" not in node.log()
    assert watch.backward_steps() == []


def restart_after_refusal(cameras: Cameras, camera: str) -> float:
    cameras.make[camera] = noise("rgb8", 3, 24, 32)
    return time.monotonic()


@pytest.mark.parametrize(
    ("camera", "encoding", "value"),
    [("thermal", "16UC1", 65535), ("thermal", "16UC1", 0), ("thermal", "16UC1", 30000), ("rgb", "rgb8", 0)],
)
def test_a_sensor_without_noise_counts_as_missing(
    bench: Bench, start: Start, some_file: Path, camera: str, encoding: str, value: int
) -> None:
    """Saturated, cut off or black: the same pixels again and again tell nothing, until they change."""
    start(SCRIPT, weights=str(some_file))
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    watch = Watch(bench)
    with Cameras(bench) as cameras:
        watch.settle()
        cameras.make[camera], since = flat(encoding, value), time.monotonic()
        watch.first(other(camera), since)
        bench.wait(lambda: int(bench.figures(diagnostics).get("dropped.frozen", 0)) > 0, "for frozen images")
        cameras.make[camera] = noise(encoding, 2 if encoding == "16UC1" else 3, 24, 32)
        watch.first("both", since=time.monotonic())
    assert watch.backward_steps() == []


@pytest.mark.parametrize(("step", "limit"), [(-0.3, 5), (-3600.0, 2), (0.3, 2), (3600.0, 2)])
def test_the_clock_is_set(
    bench: Bench, start: Start, some_file: Path, figures: FaultReport, step: float, limit: int
) -> None:
    """By NTP, for both cameras at once."""
    start(SCRIPT, weights=str(some_file))
    start("tracker_node", appearance=False, **{"tracker.n_init": 1, "tracker.birth_score": 0.0})
    watches = {topic: Watch(bench, topic) for topic in ("detections", "tracks")}
    with Cameras(bench, origin=1e6) as cameras:
        bench.wait(lambda: all(len(watch.outputs) > 15 for watch in watches.values()), "for outputs")
        before = len(cameras.sent["rgb"])
        cameras.origin = cameras.sent["rgb"][-1].stamp_ns / 1e9 + PERIOD_S + step
        set_at = time.monotonic()
        for topic, watch in watches.items():
            bench.wait(lambda: len(watch.since(set_at + PERIOD_S)) > 10, f"for {topic}")  # noqa: B023
            gap = max(np.diff([output.at for output in watch.outputs if output.at > set_at - 0.5]))
            figures.frames(f"the clock is set by {step:+g} s: frames without {topic}", gap * RATE_HZ - 1, limit)
        assert len(cameras.sent["rgb"]) > before
    went_back = [len(watch.backward_steps()) for watch in watches.values()]
    assert max(went_back) <= (1 if step < 0 else 0)


def test_rates_that_do_not_fit(bench: Bench, start: Start, some_file: Path) -> None:
    """RGB at 60 Hz beside thermal at 5 Hz: pairs at 5 Hz; when thermal dies, RGB alone; and both again."""
    start(SCRIPT, weights=str(some_file))
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    watch = Watch(bench)
    with Cameras(bench, rate_hz=60.0) as cameras:
        cameras.every["thermal"] = 12
        watch.settle(count=8)
        cameras.alive.remove("thermal")
        watch.settle("rgb", count=30)
        cameras.alive.add("thermal")
        watch.settle(count=8)
    assert watch.backward_steps() == []

    def surplus() -> bool:
        """Eleven of twelve RGB images have no partner; on a busy machine the node sees fewer of them."""
        counted = bench.figures(diagnostics)
        return int(counted.get("pairs", 0)) >= 10 and int(counted["dropped.orphan"]) > 2 * int(counted["pairs"])

    bench.wait(surplus, lambda: f"for a surplus, in {bench.figures(diagnostics)}")
