"""What is around the nodes and goes wrong: disks, parameters set to nonsense, a manager that is confused, a device that
hangs, topics that collide."""

from __future__ import annotations

import math
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from cameras import Cameras, Watch
from diagnostic_msgs.msg import DiagnosticArray
from fake_detector import FakeSession
from lifecycle_msgs.srv import ChangeState, GetState
from modality_detector import SCRIPT
from node_bench import Bench, Child, found, spun
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from vision_msgs.msg import Detection2DArray

from mmkd_ros.nodes import diagnostics as diagnostics_module
from mmkd_ros.nodes.detection_node import DetectionNode
from mmkd_ros.parameters import NODE_PARAMETERS, ParameterSpec, specifications
from mmkd_ros.processes import node_command
from mmkd_train.make_bag import make_bag_from_frames

Start = Callable[..., Child]
SUCCESS = TransitionCallbackReturn.SUCCESS


@pytest.mark.parametrize("home", ["/dev/null/home", ""])
def test_a_home_that_cannot_be_written(
    bench: Bench, start: Start, some_file: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """As on a disk that is read-only, or under a service manager that sets no home: no log file, no cache."""
    for name in ("XDG_CACHE_HOME", "ROS_LOG_DIR", "ROS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", home)
    node = start(SCRIPT, weights=str(some_file))
    watch = Watch(bench)
    with Cameras(bench):
        watch.settle()
    assert "The log is written to no file" in node.log() and "Traceback" not in node.log()


def test_a_disk_that_fills_up(bench: Bench, start: Start, tmp_path: Path) -> None:
    """The recorder cannot go on, says why and ends. A limit on the size of its files stands for the disk."""
    recorder = start("recorder_node", output=str(tmp_path / "result.mcap"))
    detections = bench.publisher(Detection2DArray, "detections")
    bench.wait(lambda: "Recording" in recorder.log(), "for the recorder")
    resource.prlimit(recorder.process.pid, resource.RLIMIT_FSIZE, (20000, 20000))
    crowd = found(1.0, *[(10.0 * i, 50.0) for i in range(300)])
    bench.wait(lambda: recorder.process.poll() is not None or detections.publish(crowd), "for its end")
    assert recorder.process.returncode == 1
    assert "check the disk" in recorder.log() and "Traceback" not in recorder.log()


@pytest.mark.parametrize("name", ["replay_node", "recorder_node"])
def test_a_report_that_cannot_be_written(start: Start, tmp_path: Path, name: str) -> None:
    """The one who asked for it is told."""
    make_bag_from_frames([(np.zeros((24, 32, 3), np.uint8), np.zeros((24, 32), np.uint8))] * 3, tmp_path / "bag", 10.0)
    parameters = {"bag": str(tmp_path / "bag")} if name == "replay_node" else {"output": str(tmp_path / "result")}
    tool = start(name, report="/dev/null/report.json", **parameters)
    assert tool.exit_code() == 1
    assert "report.json" in tool.log() and "Traceback" not in tool.log()


def nonsense(spec: ParameterSpec) -> list[Parameter]:
    """Values that a parameter must not take, whatever its description."""
    values: list[Any] = {float: [math.nan, math.inf, -math.inf, -1e300, "text", True], int: [-(2**62), 2**62, "1", 0.5]}
    values = values.get(spec.type, [[1, 2], "no such choice"] if spec.choices or spec.type is bool else [1.0])  # type: ignore[attr-defined]
    return [Parameter(spec.name, value=value) for value in values if not spec.is_list]


@pytest.mark.parametrize("name", ["detection_node", "tracker_node"])
def test_parameters_set_to_nonsense(bench: Bench, start: Start, some_file: Path, name: str) -> None:
    """Each is refused with a reason, changes nothing, and the node goes on."""
    start(SCRIPT, weights=str(some_file))
    start("tracker_node", appearance=False)
    watches = {"detection_node": Watch(bench, "detections"), "tracker_node": Watch(bench, "tracks")}
    specs = specifications(NODE_PARAMETERS[name])
    names = GetParameters.Request(names=[spec.name for spec in specs])
    with Cameras(bench):
        bench.wait(lambda: all(len(watch.outputs) > 5 for watch in watches.values()), "for outputs")
        before = bench.call(GetParameters, f"/{name}/get_parameters", names).values
        asked = [parameter for spec in specs for parameter in nonsense(spec)]
        request = SetParameters.Request(parameters=[parameter.to_parameter_msg() for parameter in asked])
        results = bench.call(SetParameters, f"/{name}/set_parameters", request).results
        accepted = [(p.name, p.value) for p, result in zip(asked, results, strict=True) if result.successful]
        assert accepted == []
        assert all(result.reason for result in results)
        assert bench.call(GetParameters, f"/{name}/get_parameters", names).values == before
        since = time.monotonic()
        bench.wait(lambda: len(watches[name].since(since)) > 5, "for outputs afterwards")


@contextmanager
def held(bench: Bench, some_file: Path) -> Iterator[tuple[DetectionNode, list[FakeSession]]]:
    """A node of this process whose detector can be held in the middle of its work."""
    sessions: list[FakeSession] = []

    def factory(*arguments: Any, **options: Any) -> FakeSession:
        sessions.append(FakeSession(*arguments, **options))
        return sessions[-1]

    overrides = [Parameter("weights", value=str(some_file))]
    with spun(DetectionNode(factory, context=bench.context, parameter_overrides=overrides), bench.context) as node:
        yield node, sessions


def test_transitions_in_any_order_during_a_running_inference(bench: Bench, some_file: Path) -> None:
    """200 transitions drawn at random, most of which the state machine refuses, while images come."""
    rng = random.Random(3)  # noqa: S311 - a repeatable sequence, no secret
    threads = threading.active_count()
    with held(bench, some_file) as (node, sessions):
        diagnostics = bench.collect(DiagnosticArray, "/diagnostics", match=False)
        watch = Watch(bench)
        client = bench.node.create_client(ChangeState, "/detection_node/change_state")
        bench.wait(client.service_is_ready)
        assert node.autostart()
        with Cameras(bench):
            bench.wait(lambda: watch.outputs, "for outputs")
            for _ in range(200):
                if sessions[-1].gate.is_set() and rng.random() < 0.2:
                    sessions[-1].gate.clear()
                    threading.Timer(0.1, sessions[-1].gate.set).start()
                request = ChangeState.Request()
                request.transition.id = rng.choice((1, 2, 3, 4))
                future = client.call_async(request)
                bench.wait(future.done, "for the transition")
            for transition in (4, 2, 1, 3):  # down and up again, from wherever it is
                request = ChangeState.Request()
                request.transition.id = transition
                bench.wait(client.call_async(request).done, "for the transition")
            state = bench.call(GetState, "/detection_node/get_state", GetState.Request()).current_state
            assert state.label == "active"
            since = time.monotonic()
            bench.wait(lambda: len(watch.since(since)) > 5, "for outputs afterwards")
    assert diagnostics and watch.backward_steps() == []
    bench.wait(lambda: threading.active_count() <= threads + 1, "for the end of the workers")


@pytest.mark.parametrize("verb", ["activate", "deactivate", "cleanup"])
def test_a_transition_that_fails_leads_back_to_a_working_node(
    bench: Bench, some_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], verb: str
) -> None:
    """Whatever a transition meets, the node is unconfigured or inactive then, never dead, and can be started again."""
    with held(bench, some_file) as (node, _):
        watch, real, failures = Watch(bench), getattr(node, verb), [RuntimeError("the device is gone")]

        def fail() -> None:
            if failures:
                raise failures.pop()
            real()

        monkeypatch.setattr(node, verb, fail)
        for step in (node.trigger_configure, node.trigger_activate, node.trigger_deactivate, node.trigger_cleanup):
            if step() != SUCCESS:
                break
        state = bench.call(GetState, "/detection_node/get_state", GetState.Request()).current_state.label
        assert "the device is gone" in capfd.readouterr().err
        assert not failures and state == ("inactive" if verb == "activate" else "unconfigured")
        assert state == "inactive" or node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == SUCCESS
        with Cameras(bench):
            bench.wait(lambda: watch.outputs, "for outputs")


def test_a_result_of_a_device_that_hung_is_never_published(bench: Bench, some_file: Path) -> None:
    """It comes back only after the node was deactivated and activated again."""
    with held(bench, some_file) as (node, sessions):
        watch = Watch(bench)
        assert node.autostart()
        with Cameras(bench) as cameras:
            bench.wait(lambda: len(watch.outputs) > 3, "for outputs")
            gate, sessions[0].gate = sessions[0].gate, threading.Event()
            calls = len(sessions[0].calls)
            bench.wait(lambda: len(sessions[0].calls) > calls, "for the call that hangs")
            hung, sessions[0].gate = sessions[0].gate, gate
            assert node.trigger_deactivate() == SUCCESS
            assert node.trigger_activate() == SUCCESS
            since = time.monotonic()
            bench.wait(lambda: len(watch.since(since)) > 3, "for outputs beside the call that hangs")
            hung.set()
            since = time.monotonic()
            bench.wait(lambda: len(watch.since(since)) > 3, "for outputs")
        assert cameras.sent["rgb"]
    assert watch.backward_steps() == []


@pytest.mark.parametrize("node", ["detection_node", "overlay_node"])
def test_one_topic_for_both_cameras_is_refused(start: Start, some_file: Path, node: str) -> None:
    """A colour picture read as thermal would give boxes that nobody can trust."""
    weights = {"weights": str(some_file)} if node == "detection_node" else {}
    child = start(SCRIPT if weights else node, thermal_topic="/rgb/image_raw", **weights)
    assert child.exit_code() == 1
    assert "are one topic here, /rgb/image_raw" in child.log() and "Traceback" not in child.log()


def test_the_tracker_does_not_track_its_own_tracks(ros_domain: int, tmp_path: Path) -> None:
    command = [*node_command("tracker_node", remaps={"tracks": "/detections"}), "-p", "appearance:=false"]
    child = Child(command, tmp_path / "tracker.log")
    assert child.exit_code() == 1
    assert "detections and tracks are one topic here, /detections" in child.log()


def test_two_nodes_of_one_name_are_told(bench: Bench, some_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time in which a killed process would have gone out of the graph; the node works on."""
    monkeypatch.setattr(diagnostics_module, "_NAMESAKE_S", 1.5)
    with held(bench, some_file) as (node, _):
        assert node.autostart()
        diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
        with Cameras(bench):
            bench.wait(lambda: diagnostics and diagnostics[-1].status[0].level == b"\x00", "for a healthy node")
            namesake = rclpy.create_node("detection_node", context=bench.context)

            def warned() -> bool:
                said = [message.status[0] for message in diagnostics]
                return any("same name" in status.message and status.level == b"\x01" for status in said)

            bench.wait(warned, "for word of the other node")
            namesake.destroy_node()
            bench.wait(lambda: diagnostics[-1].status[0].level == b"\x00", "for a healthy node")
