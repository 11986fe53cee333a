"""Processes that are killed, recordings that loop, nodes that are configured a hundred times."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cameras import RATE_HZ, Cameras, Watch, resident_bytes
from diagnostic_msgs.msg import DiagnosticArray
from fake_detector import FakeSession
from fault_report import FaultReport
from modality_detector import SCRIPT
from node_bench import Bench, Child, spun
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from mmkd_ros.nodes.detection_node import DetectionNode, load_session
from mmkd_ros.nodes.tracker_node import TrackerNode
from mmkd_ros.own_ports import ports, used_ports
from mmkd_ros.processes import stop_nodes
from mmkd_ros.status_file import read_status
from mmkd_train.__main__ import main as command_line
from mmkd_train.make_bag import make_bag_from_frames

Start = Callable[..., Child]
SUCCESS = TransitionCallbackReturn.SUCCESS
FRAMES = 20
BAG_START = 5000.0


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of two noisy cameras."""
    rng = np.random.default_rng(0)
    frames = [
        (rng.integers(0, 255, (24, 32, 3), np.uint8), rng.integers(0, 255, (24, 32), np.uint8)) for _ in range(FRAMES)
    ]
    path = tmp_path_factory.mktemp("bag") / "noise.mcap"
    make_bag_from_frames(frames, path, RATE_HZ, start_stamp=BAG_START)
    return path


def test_a_recording_loops(bench: Bench, start: Start, some_file: Path, bag: Path, figures: FaultReport) -> None:
    start(SCRIPT, weights=str(some_file), image_reliability="reliable")
    start("tracker_node", appearance=False, **{"tracker.n_init": 1, "tracker.birth_score": 0.0})
    watches = {topic: Watch(bench, topic) for topic in ("detections", "tracks")}
    bench.wait(lambda: bench.node.count_publishers("/detections") and bench.node.count_publishers("/tracks"))
    start("replay_node", bag=str(bag), loop=True, restamp=False, wait_for_subscribers_s=30.0)
    for topic, watch in watches.items():
        bench.wait(lambda: len(watch.backward_steps()) >= 3, f"for three loops on {topic}")  # noqa: B023
        first = [watch.outputs[i].stamp_ns / 1e9 for i in watch.backward_steps()]
        frames = max(round((stamp - BAG_START) * RATE_HZ) for stamp in first)
        figures.frames(f"a recording loops: frames until the first message of {topic}", frames, 2)


def test_no_image_is_lost_at_30_hz(
    bench: Bench, start: Start, some_file: Path, tmp_path: Path, figures: FaultReport
) -> None:
    """640x512, both cameras, best effort, with the shipped Fast DDS profile."""
    rng = np.random.default_rng(1)
    frames = (
        (rng.integers(0, 255, (512, 640, 3), np.uint8), rng.integers(0, 255, (512, 640), np.uint8)) for _ in range(60)
    )
    make_bag_from_frames(frames, tmp_path / "fast.mcap", 30.0)
    start(SCRIPT, weights=str(some_file))
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.wait(lambda: bench.figures(diagnostics), "for the node")
    report = tmp_path / "replay.json"
    start(
        "replay_node",
        bag=str(tmp_path / "fast.mcap"),
        image_reliability="best_effort",
        wait_for_subscribers_s=30.0,
        start_delay_s=0.5,
        report=str(report),
    )
    bench.wait(lambda: report.is_file() and read_status(report)["state"] == "done", "for the end of the recording")
    heard = len(diagnostics)
    bench.wait(lambda: len(diagnostics) > heard + 1, "for the last count")
    sent, counted = read_status(report), bench.figures(diagnostics)
    lost = sum(sent[camera] - int(counted[f"frames_{camera}"]) for camera in ("rgb", "thermal"))
    assert sent["rgb"] == sent["thermal"] == 60
    figures.frames("30 Hz, 640x512, both cameras: images lost before the node", lost, 0)


@contextmanager
def perception(folder: Path, *arguments: str) -> Iterator[Child]:
    """The system as a user starts it, ended in good order."""
    params = folder / "perception.yaml"
    params.write_text(
        "/**/detection_node:\n  ros__parameters: {device: cpu, threads: 1}\n"
        "/**/tracker_node:\n  ros__parameters: {appearance: false}\n"
    )
    command = [sys.executable, "-m", "mmkd_ros.nodes.perception", "--params-file", str(params), *arguments]
    system = Child(command, folder / "perception.log")
    try:
        yield system
    finally:
        stop_nodes([system.process], grace=20.0)


def process_id(system: Child, node: str) -> int:
    """Of the node's latest process."""
    return int(re.findall(rf"{node} started \(process (\d+)\)", system.log())[-1])


@pytest.fixture(scope="module")
def tiny_onnx(tiny_weights: Path) -> Path:
    """The tiny detector as an exported model, which needs no torch."""
    for module in ("onnx", "onnxruntime"):
        pytest.importorskip(module, reason=f"needs {module}: `pip install --no-deps -r requirements/backends.txt`")
    path = tiny_weights.with_suffix(".onnx")
    assert command_line(["export", "--weights", str(tiny_weights), "--format", "onnx", "--output", str(path)]) == 0
    return path


@pytest.mark.parametrize("fixture", ["tiny_onnx", "tiny_weights"])
def test_a_node_is_killed(
    bench: Bench, request: pytest.FixtureRequest, tmp_path: Path, figures: FaultReport, fixture: str
) -> None:
    weights: Path = request.getfixturevalue(fixture)
    with perception(tmp_path, "--respawn", "--weights", str(weights)) as system, Cameras(bench):
        watches = {"detection_node": Watch(bench, "detections"), "tracker_node": Watch(bench, "tracks")}
        for watch in watches.values():
            bench.wait(lambda: len(watch.outputs) > 10, "for outputs")  # noqa: B023
        for node, watch in watches.items():
            os.kill(process_id(system, node), signal.SIGKILL)
            killed = time.monotonic()
            time.sleep(0.3)  # what was on its way
            bench.wait(lambda: watch.since(killed + 0.3), "for outputs after the death")  # noqa: B023
            after = watch.since(killed + 0.3)[0].at - killed
            figures.seconds(f"SIGKILL of {node} with {weights.suffix} under respawn: next output", after, 2.0)
            # The new process has ports of its own: those of the dead one are not heard for a while.
            assert any(used_ports() & set(ports(int(os.environ["ROS_DOMAIN_ID"]), number)) for number in range(16, 32))
    assert system.process.returncode == 0
    assert system.log().count("it starts again") == 2


def test_the_source_is_killed(bench: Bench, start: Start, some_file: Path, bag: Path, figures: FaultReport) -> None:
    node = start(SCRIPT, weights=str(some_file))
    watch = Watch(bench)
    bench.wait(lambda: bench.node.count_publishers("/detections"))
    for death in range(2):
        since = time.monotonic()
        source = start("replay_node", bag=str(bag), loop=True, wait_for_subscribers_s=30.0)
        bench.wait(lambda: len(watch.since(since)) > 10, "for outputs")  # noqa: B023
        if death == 0:
            source.process.send_signal(signal.SIGKILL)
            source.process.wait()
    bench.wait(lambda: any(output.name == "both" for output in watch.since(since)), "for both cameras")
    again = watch.since(since)
    log = source.log()
    assert "Playing" in log and node.process.poll() is None
    figures.frames("SIGKILL of the source: frames of the new one until both are used", _until_both(again), 5)


def _until_both(outputs: list[Any]) -> int:
    return next(number for number, output in enumerate(outputs) if output.name == "both")


def footprint() -> tuple[int, int, float]:
    """(threads, open file descriptors, resident megabytes) of this process."""
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd")), resident_bytes(os.getpid()) / 1e6


@pytest.mark.parametrize(("kind", "cycles"), [("fake detector", 100), ("detector", 25), ("tracker", 100)])
def test_cycles_leak_nothing(bench: Bench, tiny_weights: Path, figures: FaultReport, kind: str, cycles: int) -> None:
    overrides = [Parameter("weights", value=str(tiny_weights)), Parameter("device", value="cpu")]
    overrides += [Parameter("backend", value="torch"), Parameter("threads", value=1)]
    node: Any
    if kind == "tracker":
        node = TrackerNode(context=bench.context, parameter_overrides=[Parameter("appearance", value=False)])
    else:
        factory: Any = FakeSession if kind == "fake detector" else load_session
        node = DetectionNode(factory, context=bench.context, parameter_overrides=overrides)

    def cycle() -> None:
        steps = (node.trigger_configure, node.trigger_activate, node.trigger_deactivate, node.trigger_cleanup)
        assert [step() for step in steps] == [SUCCESS] * 4

    with spun(node, bench.context):
        for _ in range(10):  # pools fill
            cycle()
        before = footprint()
        for _ in range(cycles):
            cycle()
        after = footprint()
    figures.number(f"{cycles} cycles of the {kind}: threads more", after[0] - before[0], 0)
    figures.number(f"{cycles} cycles of the {kind}: file descriptors more", after[1] - before[1], 0)
    figures.number(f"{cycles} cycles of the {kind}: memory more", after[2] - before[2], 15, "MB")
