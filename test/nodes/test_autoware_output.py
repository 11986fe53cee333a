"""What Autoware gets from the nodes over real DDS, read as its fusion nodes read it: best effort, depth 1."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from node_bench import HERE, Bench, Child, found, header
from sensor_msgs.msg import CameraInfo
from vision_msgs.msg import Detection2DArray

from mmkd_ros.autoware import AutowareTrackOptions
from mmkd_ros.nodes.autoware_output import AutowareOutput
from mmkd_ros.processes import node_command, stop_nodes
from mmkd_ros.rigs import system_nodes
from mmkd_ros.types import Tracks
from mmkd_ros.wiring import PerceptionOptions

perception = pytest.importorskip("autoware_perception_msgs.msg", reason="`make env` generates it, and Autoware has it")
tier4 = pytest.importorskip("tier4_perception_msgs.msg", reason="`make env` generates it, and Autoware has it")
debug = pytest.importorskip("autoware_internal_debug_msgs.msg", reason="`make env` generates it, and Autoware has it")
LABEL = perception.ObjectClassification
Start = Callable[..., Child]


def fusion(bench: Bench, kind: Any, topic: str) -> list[Any]:
    """A list that grows with what a fusion node gets."""
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    messages: list[Any] = []
    quality = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    bench.node.create_subscription(kind, topic, messages.append, quality)
    bench.wait(lambda: bench.node.count_publishers(topic) > 0, f"for a publisher of {topic}")
    return messages


def of(messages: list[Any], wanted: Any) -> Any:
    """The message with this header, or None."""
    return next((message for message in list(messages) if message.header == wanted), None)


def corners(message: Any) -> list[tuple[int, int, int, int]]:
    rois = [item.feature.roi for item in message.feature_objects]
    return [(roi.x_offset, roi.y_offset, roi.width, roi.height) for roi in rois]


def labels(message: Any) -> list[int]:
    return [item.object.classification[0].label for item in message.feature_objects]


def test_detections_reach_a_fusion_node_as_rois(bench: Bench, start: Start, some_file: Path) -> None:
    options = {"output.autoware": True, "output.label_map": ["driver:CAR"]}
    node = start("fake_detector", weights=str(some_file), **options)
    rois = fusion(bench, tier4.DetectedObjectsWithFeature, "/detection_node/output/rois")
    names = ("cyclic_time_ms", "processing_time_ms", "pipeline_latency_ms")
    times = [fusion(bench, debug.Float64Stamped, f"/detection_node/debug/{name}") for name in names]
    detections = bench.collect(Detection2DArray, "detections")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.warm(detections)

    rgb, _ = bench.send_pair(1000.000000123, value=4)
    message = bench.wait(lambda: of(rois, rgb.header), "for the ROIs")
    # Boxes of 10x20 pixels at (i, 2 i) in an image of 32x24: the last one is cut.
    assert corners(message) == [(0, 0, 10, 20), (1, 2, 10, 20), (2, 4, 10, 20), (3, 6, 10, 18)]
    assert labels(message) == [LABEL.UNKNOWN, LABEL.CAR] * 2
    scores = [item.object.existence_probability for item in message.feature_objects]
    assert (scores[0], scores[-1]) == pytest.approx((0.9, 0.5), abs=1e-6)
    kinematics = message.feature_objects[0].object.kinematics
    assert kinematics.orientation_availability == kinematics.UNAVAILABLE and not kinematics.has_twist

    rgb, _ = bench.send_pair(1000.1, value=0)
    assert len(bench.wait(lambda: of(rois, rgb.header), "for an empty street").feature_objects) == 0

    cyclic, processing, latency = (bench.wait(lambda n=n: n and n[-1], "for its times") for n in times)
    assert cyclic.data > 0 and processing.data > 0 and latency.data > 0
    assert bench.node.count_publishers("/detection_node/debug/latency_ms") == 0  # said once, in Autoware's way

    figures = bench.wait(
        lambda: bench.figures(diagnostics).get("autoware.unknown_label", "0") != "0" and bench.figures(diagnostics)
    )
    assert figures["autoware.held_back"] == figures["autoware.outside"] == "0"
    assert node.log().count("no label for the class 'person'") == 1


def test_rois_are_in_pixels_of_the_rgb_image_whichever_camera_sees(bench: Bench, start: Start, some_file: Path) -> None:
    start("fake_detector", weights=str(some_file), **{"output.autoware": True})
    rois = fusion(bench, tier4.DetectedObjectsWithFeature, "/detection_node/output/rois")
    detections = bench.collect(Detection2DArray, "detections")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")

    def thermal_alone(stamp: float, messages: list[Any], frame_id: str) -> Any:
        """Small thermal images until one comes out with this frame."""
        for number in range(400):
            small = {"height": 12, "width": 16, "step": 16, "data": bytes([2]) * 190 + number.to_bytes(2)}
            bench.send("thermal", stamp + number * 0.1, **small)
            time.sleep(0.05)
            new = [m for m in list(messages) if m.header.stamp.sec >= stamp and m.header.frame_id == frame_id]
            if new:
                return new[-1]
        pytest.fail("nothing came of the thermal camera")

    # Nobody knows yet which pixels the RGB camera has.
    thermal_alone(1000.0, detections, "thermal_optical")
    bench.wait(lambda: int(bench.figures(diagnostics).get("autoware.held_back", "0")) > 0)
    assert rois == []

    for number in range(400):
        bench.send_pair(2000.0 + number * 0.1, value=2)
        time.sleep(0.05)
        if rois:
            break
    assert rois[-1].header.frame_id == "rgb_optical"
    assert corners(rois[-1]) == [(0, 0, 10, 20), (1, 2, 10, 20)]

    message = thermal_alone(3000.0, rois, "rgb_optical")
    assert corners(message) == [(0, 0, 20, 24), (2, 4, 20, 20)]  # twice as large, and cut at 24 rows


def test_tracks_have_rois_with_uuids_for_life(bench: Bench, start: Start) -> None:
    options = {"appearance": False, "output.autoware": True, "output.camera_info_topic": "/front/camera_info"}
    node = start("tracker_node", **options)
    rois = fusion(bench, tier4.DetectedObjectsWithFeature, "/tracker_node/output/rois")
    identities = fusion(bench, tier4.DynamicObjectArray, "/tracker_node/output/rois/debug/uuid")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    detections = bench.publisher(Detection2DArray, "/detections")

    def answer(message: Any) -> tuple[Any, list[bytes]]:
        """ROIs and UUIDs of these detections."""
        detections.publish(message)
        answered = bench.wait(lambda: of(rois, message.header), "for ROIs")
        beside = bench.wait(lambda: of(identities, message.header), "for UUIDs")
        return answered, [bytes(item.id.uuid) for item in beside.objects]

    # Without a CameraInfo, ROIs are cut at the left and upper edge.
    for number in range(4):
        message, first = answer(found(1000.0 + number * 0.1, (2.0, 10.0), (630.0, 100.0)))
    assert sorted(corners(message)) == [(0, 4, 6, 12), (626, 94, 8, 12)]
    assert labels(message) == [LABEL.PEDESTRIAN] * 2 and len(set(first)) == 2
    assert "No CameraInfo has come yet on /front/camera_info" in node.log()

    # With one, at all four.
    info = CameraInfo(header=header(1000.4, "rgb_optical"), width=632, height=512)
    camera = bench.publisher(CameraInfo, "/front/camera_info")
    for number in range(100):
        camera.publish(info)
        message, uuids = answer(found(1000.4 + number * 0.1, (2.0, 10.0), (630.0, 100.0)))
        assert uuids == first
        if sorted(corners(message))[1] == (626, 94, 6, 12):
            break
    else:
        pytest.fail("the CameraInfo was not used")

    # Pixels of another camera are not passed off as this one's.
    stamp = 1000.4 + number * 0.1
    foreign = found(stamp + 0.1, (2.0, 10.0), frame_id="thermal_optical")
    detections.publish(foreign)
    message, uuids = answer(found(stamp + 0.2, (2.0, 10.0), (630.0, 100.0)))
    assert set(uuids) <= set(first) and of(rois, foreign.header) is None
    bench.wait(lambda: bench.figures(diagnostics).get("autoware.held_back") == "1")

    # A recording that starts again: other tracks, other UUIDs.
    for number in range(4):
        message, uuids = answer(found(50.0 + number * 0.1, (2.0, 10.0)))
    assert len(uuids) == 1 and uuids[0] not in first


def test_a_head_of_a_rig_sends_its_rois_where_autoware_looks(bench: Bench, tmp_path: Path, some_file: Path) -> None:
    parameters = {"appearance": False, "output.autoware": True, "weights": str(some_file)}
    head = {"name": "front", "rgb_topic": "/rgb/image_raw", "thermal_topic": "/thermal/image_raw"}
    head |= {"rois_topic": "/detection/rois0", "tracked_rois_topic": "/detection/tracked_rois0"}
    rig = tmp_path / "rig.yaml"
    rig.write_text(yaml.safe_dump({"parameters": parameters, "heads": [head]}))
    (plan,) = system_nodes(PerceptionOptions(rig=str(rig), composed=True))
    command = node_command(plan.name, namespace=plan.namespace, parameters=plan.parameters, remaps=plan.remaps)
    command[1:3] = [str(HERE / "fake_composed.py")]
    node = Child(command, tmp_path / "composed.log")

    def publishers(topic: str) -> list[str]:
        return [f"{info.node_namespace}/{info.node_name}" for info in bench.node.get_publishers_info_by_topic(topic)]

    try:
        # Two nodes in one process: the rule of the one must not touch the other.
        bench.wait(lambda: publishers(head["rois_topic"]) == ["/front/detection_node"], "for the detection node")
        bench.wait(lambda: publishers(head["tracked_rois_topic"]) == ["/front/tracker_node"], "for the tracker node")
        assert bench.node.count_publishers("/front/tracker_node/output/rois/debug/uuid") == 1
    finally:
        stop_nodes([node.process])


@pytest.fixture
def without_autoware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that are started now cannot import one of the packages."""
    package = tmp_path / "hidden" / "tier4_perception_msgs" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text('raise ModuleNotFoundError("hidden", name="tier4_perception_msgs")\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))


@pytest.mark.usefixtures("without_autoware")
def test_missing_packages_are_said_when_they_are_asked_for(start: Start, some_file: Path) -> None:
    detector = start("fake_detector", weights=str(some_file), **{"output.autoware": True})
    tracker = start("tracker_node", appearance=False, **{"output.autoware": True})
    for node in (detector, tracker):
        assert node.exit_code() == 1
        assert "output.autoware is true, but tier4_perception_msgs cannot be imported; source Autoware's" in node.log()
        assert "Traceback" not in node.log()


@pytest.mark.usefixtures("without_autoware")
def test_nobody_else_needs_the_packages(bench: Bench, start: Start, some_file: Path) -> None:
    start("fake_detector", weights=str(some_file))
    tracker = start("tracker_node", appearance=False)
    bench.collect(Detection2DArray, "detections")
    bench.collect(Detection2DArray, "tracks")
    assert tracker.process.poll() is None
    assert bench.node.count_publishers("/detection_node/output/rois") == 0


def test_a_label_that_autoware_has_not_ends_the_node(start: Start) -> None:
    node = start("tracker_node", appearance=False, **{"output.label_map": ["dog:DOG"]})
    assert node.exit_code() == 1
    assert "output.label_map holds 'dog:DOG', but must be class:LABEL" in node.log()


def test_registered_boxes_of_the_thermal_camera_get_the_frame_of_the_rgb_camera(bench: Bench) -> None:
    output = AutowareOutput(bench.node, AutowareTrackOptions(autoware=True), registered=True)
    rois = fusion(bench, tier4.DetectedObjectsWithFeature, "/bench/output/rois")
    camera = bench.publisher(CameraInfo, "/rgb/camera_info")
    one, none = np.ones(1, np.int64), np.zeros(1)
    box, still = np.array([[600.0, 500.0, 700.0, 600.0]], np.float32), np.zeros((1, 2), np.float32)
    tracks = Tracks(one, box, still, none.astype(np.int64), np.ones(1, np.float32), none, none, ("car",))

    for number in range(400):
        camera.publish(CameraInfo(header=header(1.0, "rgb_optical"), width=640, height=512))
        output.publish_tracks(tracks, uuid.uuid4(), header(1000.0 + number, "thermal_optical"), time.monotonic())
        time.sleep(0.05)
        if rois and rois[-1].header.frame_id == "rgb_optical":
            break
    assert corners(rois[-1]) == [(600, 500, 40, 12)]
    assert rois[-1].header.stamp.sec >= 1000
    assert output.figures()["autoware.held_back"] == 0

    output.destroy()
    bench.wait(lambda: bench.node.count_publishers("/bench/output/rois") == 0, "until the topics are gone")
    assert bench.node.count_subscribers("/rgb/camera_info") == 0
