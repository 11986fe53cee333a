"""One detection node serves two rigs over real DDS: each has its topics, its time line, its drops and its health."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from fake_detector import FAILS, FakeSession
from node_bench import HERE, Bench, Child, spun
from rclpy.parameter import Parameter
from std_msgs.msg import String
from vision_msgs.msg import Detection2DArray, LabelInfo

from mmkd_ros.nodes.detection_node import DetectionNode
from mmkd_ros.processes import node_command, stop_nodes
from mmkd_ros.rigs import system_nodes
from mmkd_ros.wiring import PerceptionOptions

Start = Callable[..., Child]
RIGS = ("front", "rear")


def send(bench: Bench, rig: str, stamp: float, value: int = 1) -> Any:
    """Publish a pair of one rig; returns the header of its RGB image."""
    rgb, _ = (bench.send(camera, stamp, value, topic=f"/{rig}/{camera}/image_raw") for camera in ("rgb", "thermal"))
    return rgb.header


def answer(bench: Bench, rig: str, detections: list[Any], stamps: Any, value: int = 1) -> Any:
    """Send pairs of a rig, one every 50 ms, until the newest one that was sent is answered; returns that message."""
    sent: list[Any] = []

    def answered() -> Any:
        sent.append(send(bench, rig, next(stamps), value))
        time.sleep(0.05)
        return next((message for message in reversed(detections) if message.header in sent), None)

    return bench.wait(answered, f"for {rig}")


def stamps(begin: float) -> Any:
    """Ascending, 50 ms apart, as they are sent."""
    started = time.monotonic()
    while True:
        yield begin + time.monotonic() - started


def status(diagnostics: list[Any], rig: str) -> Any:
    """The newest one of a rig."""
    name = f"{rig}/detection_node"
    return next((one for message in reversed(diagnostics) for one in message.status if one.name == name), None)


def figures(diagnostics: list[Any], rig: str) -> dict[str, str]:
    newest = status(diagnostics, rig)
    return {} if newest is None else {pair.key: pair.value for pair in newest.values}


def seconds(message: Any) -> float:
    return float(message.header.stamp.sec + message.header.stamp.nanosec / 1e9)


def test_two_rigs_are_served_and_one_that_dies_harms_nobody(bench: Bench, start: Start, some_file: Path) -> None:
    node = start("fake_detector", weights=str(some_file), rigs=list(RIGS), image_reliability="reliable")
    found = {rig: bench.collect(Detection2DArray, f"/{rig}/detections") for rig in RIGS}
    labels = bench.collect(LabelInfo, "/rear/label_info", latched=True)
    modality = bench.collect(String, "/rear/detection_node/modality", latched=True)
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    # Two recordings at once: the time of one rig says nothing about that of the other.
    times = {"front": stamps(5000.0), "rear": stamps(100.0)}
    assert len(answer(bench, "front", found["front"], times["front"], 3).detections) == 3
    assert len(answer(bench, "rear", found["rear"], times["rear"], 1).detections) == 1
    assert {detection.results[0].hypothesis.class_id for detection in found["rear"][-1].detections} == {"person"}
    bench.wait(lambda: labels and len(labels[0].class_map) == 2, "for the classes")

    def both_fine() -> bool:
        for rig in RIGS:
            send(bench, rig, next(times[rig]))
        time.sleep(0.05)
        return all(status(diagnostics, rig) and status(diagnostics, rig).level == b"\x00" for rig in RIGS)

    bench.wait(both_fine, "for two good states")
    assert all(
        diagnostic.status[0].name in ("front/detection_node", "rear/detection_node") for diagnostic in diagnostics
    )

    # From now on rear is dead. Front goes on: every pair is answered, none waits for rear.
    def rear_is_missed() -> bool:
        answer(bench, "front", found["front"], times["front"])
        return bool(status(diagnostics, "rear").level == b"\x02")

    bench.wait(rear_is_missed, "for an error of rear")
    assert modality[-1].data == "none"
    before = len(found["rear"])
    for _ in range(10):
        sent = send(bench, "front", next(times["front"]))
        bench.wait(lambda: found["front"][-1].header == sent, "for front beside a dead rig")  # noqa: B023
        time.sleep(0.05)
    assert len(found["rear"]) == before
    bench.wait(lambda: status(diagnostics, "front").level == b"\x00", "for front in good state")
    assert figures(diagnostics, "front")["modality"] == "both"

    # It comes back on another time line; that of front is not touched.
    times["rear"] = stamps(50.0)
    answer(bench, "rear", found["rear"], times["rear"])
    assert found["rear"][-1].header.stamp.sec < 100
    ascending = [seconds(message) for message in found["front"]]
    assert ascending == sorted(set(ascending)) and figures(diagnostics, "front")["resets"] == "0"
    bench.wait(lambda: figures(diagnostics, "rear")["resets"] == "1", "for the restart of rear")
    log = node.log()
    assert "[detection_node.rear]" in log and "[detection_node.front]" in log and "Traceback" not in log
    node.process.send_signal(signal.SIGINT)
    assert node.exit_code() == 0


class BatchSession(FakeSession):
    """Takes four pairs at a time."""

    batch_size = 4


def test_pairs_that_wait_run_together_and_fail_alone(bench: Bench, some_file: Path) -> None:
    sessions: list[BatchSession] = []

    def factory(*args: Any, **options: Any) -> BatchSession:
        sessions.append(BatchSession(*args, **options))
        return sessions[-1]

    values = {
        "weights": str(some_file),
        "rigs": list(RIGS),
        "image_reliability": "reliable",
        "sync.overdue_s": 60.0,  # pairs are counted here, however late their second image
        "front.sync.modality_timeout_s": 20.0,
        "rear.sync.modality_timeout_s": 20.0,
    }
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    node = DetectionNode(factory, context=bench.context, parameter_overrides=overrides)
    with spun(node, bench.context):
        assert node.autostart()
        (session,) = sessions  # one detector for both
        found = {rig: bench.collect(Detection2DArray, f"/{rig}/detections") for rig in RIGS}
        diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
        times = {rig: stamps(1000.0) for rig in RIGS}
        for rig in RIGS:
            answer(bench, rig, found[rig], times[rig])

        def paired(rig: str, stamp: float, value: int) -> Any:
            """Send a pair and wait until it waits for the detector."""
            before = node._rigs[rig].pairing.counters["paired"]
            sent = send(bench, rig, stamp, value)
            bench.wait(lambda: node._rigs[rig].pairing.counters["paired"] > before, f"for a pair of {rig}")
            return sent

        def together(front: int, rear: int) -> tuple[Any, Any]:
            """A pair of front in work, and behind it three of front and one of rear with the last one's values."""
            session.gate.clear()
            begin = next(times["front"]) + 1.0
            calls = len(session.calls)
            paired("front", begin, 1)
            bench.wait(lambda: len(session.calls) > calls, "for the detector")
            for number in (1, 2):
                paired("front", begin + number * 0.1, 1)
            sent = paired("front", begin + 0.3, front), paired("rear", next(times["rear"]) + 1.0, rear)
            times["front"] = stamps(begin + 0.4)
            times["rear"] = stamps(sent[1].stamp.sec + 2.0)
            session.gate.set()
            return sent

        bench.wait(lambda: not bench._grows(session.calls), "for silence after the first pairs")
        session.batches.clear()
        superseded = node._worker.superseded.copy()  # type: ignore[union-attr]
        sent = together(2, 3)
        bench.wait(lambda: found["front"][-1].header == sent[0] and found["rear"][-1].header == sent[1])
        assert [len(found[rig][-1].detections) for rig in RIGS] == [2, 3]
        assert session.batches == [2]
        assert node._worker.superseded - superseded == {"front": 2}  # type: ignore[union-attr]

        expected = {rig: str(node._worker.superseded[rig]) for rig in RIGS}  # type: ignore[union-attr]
        bench.wait(
            lambda: {rig: figures(diagnostics, rig).get("dropped.superseded") for rig in RIGS} == expected,
            "for the pairs of each rig that newer ones have replaced",
        )

        # The batch fails as a whole; one by one, only the pair of rear does.
        sent = together(2, FAILS)
        bench.wait(lambda: found["front"][-1].header == sent[0], "for front beside a pair that fails")
        bench.wait(lambda: figures(diagnostics, "rear").get("dropped.inference") == "1", "for the lost pair")
        assert figures(diagnostics, "front")["dropped.inference"] == "0"
        assert all(message.header != sent[1] for message in found["rear"])
        answer(bench, "rear", found["rear"], times["rear"])

        # A rig's own value wins over the node's, also while the node runs.
        assert node.set_parameters([Parameter("sync.slop_s", value=0.04)])[0].successful
        assert node.set_parameters([Parameter("rear.sync.modality_timeout_s", value=0.5)])[0].successful
        options = {rig: node._rigs[rig].pairing.options for rig in RIGS}
        assert {rig: one.modality_timeout_s for rig, one in options.items()} == {"front": 20.0, "rear": 0.5}
        assert {one.slop_s for one in options.values()} == {0.04}
        refused = node.set_parameters([Parameter("rear.sync.modality_timeout_s", value=99.0)])[0]
        assert not refused.successful
        refused = node.set_parameters([Parameter("rigs", value=["front"])])[0]
        assert not refused.successful


def test_a_rig_file_with_one_detector_feeds_the_tracker_of_each_head(
    bench: Bench, some_file: Path, tmp_path: Path
) -> None:
    """The nodes of ``--shared-detector`` as they are started, but for the detector, which is the fake one."""
    heads = [{"name": rig, "rgb_topic": "rgb/image_raw", "thermal_topic": "thermal/image_raw"} for rig in RIGS]
    file = tmp_path / "rig.yaml"
    file.write_text(yaml.safe_dump({"heads": heads, "parameters": {"appearance": False}}))
    options = PerceptionOptions(
        rig=str(file), shared_detector=True, weights=str(some_file), namespace="robot", detections_topic="objects"
    )
    children = []
    try:
        for plan in system_nodes(options):
            command = node_command(plan.name, namespace=plan.namespace, parameters=plan.parameters, remaps=plan.remaps)
            if plan.name == "detection_node":
                command[1:3] = [str(HERE / "fake_detector.py")]
            children.append(Child(command, tmp_path / f"{plan.label.replace('/', '_')}.log"))
        tracks = {rig: bench.collect(Detection2DArray, f"/robot/{rig}/tracks") for rig in RIGS}
        objects = bench.collect(Detection2DArray, "/robot/front/objects")
        for rig, value in zip(RIGS, (1, 2), strict=True):
            times = stamps(1000.0)
            bench.wait(
                lambda: len(answer(bench, f"robot/{rig}", tracks[rig], times, value).detections) == value,  # noqa: B023
                f"for the tracks of {rig}",
            )
        assert objects and all(len(message.detections) <= 1 for message in objects)
        assert all(detection.id for message in tracks["rear"] for detection in message.detections)
    finally:
        codes = stop_nodes([child.process for child in children])
    assert codes == [0, 0, 0]


@pytest.mark.parametrize(
    ("rigs", "sentence"),
    [
        (["front", "front"], "'rigs' has the name 'front' twice; each rig needs its own"),
        (["front", ""], "'rigs' has the name '', but a rig's name is letters"),
        (["front left"], "'rigs' has the name 'front left', but a rig's name is letters"),
    ],
)
def test_names_that_cannot_be_used_are_refused(start: Start, rigs: list[str], sentence: str) -> None:
    node = start("fake_detector", rigs=rigs)
    assert node.exit_code() == 1
    assert sentence in node.log() and "Traceback" not in node.log()


def test_a_rig_whose_cameras_are_one_topic_is_refused(start: Start, some_file: Path) -> None:
    rear = {"rear.rgb_topic": "/cam", "rear.thermal_topic": "/cam"}
    node = start("fake_detector", weights=str(some_file), rigs=list(RIGS), **rear)
    assert node.exit_code() == 1
    assert "/cam and /cam are one topic here" in node.log() and "Traceback" not in node.log()


def test_one_process_for_detection_and_tracking_serves_one_rig(start: Start, some_file: Path) -> None:
    node = start("fake_composed", weights=str(some_file), appearance=False, rigs=list(RIGS))
    assert node.exit_code() == 1
    assert "serves one rig; start detection_node for several" in node.log() and "Traceback" not in node.log()
