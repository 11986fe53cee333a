"""The detection node over real DDS, around a fake detector and around the real one."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from fake_detector import BREAKS, FAILS, FakeSession
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node_bench import Bench, Child, header, image, spun
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Float64, String
from vision_msgs.msg import Detection2DArray, LabelInfo, VisionInfo

from mmkd_ros.nodes.detection_node import DetectionNode

Start = Callable[..., Child]
SHIFT = {
    "registration.mode": "homography",
    "registration.rgb_size": [32, 24],
    "registration.thermal_size": [32, 24],
    "registration.homography": [1.0, 0.0, 8.0, 0.0, 1.0, 6.0, 0.0, 0.0, 1.0],
}


def test_pairs_become_detections(bench: Bench, start: Start, some_file: Path) -> None:
    start("fake_detector", weights=str(some_file), score_threshold=0.25)
    detections = bench.collect(Detection2DArray, "detections")
    bench.warm(detections)

    rgb, _ = bench.send_pair(1000.000000123, value=3)
    message = bench.wait(lambda: detections and detections[-1])
    assert message.header == rgb.header and message.header.frame_id == "rgb_optical"
    assert [d.results[0].hypothesis.class_id for d in message.detections] == ["person", "car", "person"]
    assert all(d.header == rgb.header and d.id == "" for d in message.detections)
    box = message.detections[1].bbox
    assert (box.center.position.x, box.center.position.y, box.size_x, box.size_y) == (6.0, 12.0, 10.0, 20.0)

    # An empty street is an answer too.
    rgb, _ = bench.send_pair(1000.1, value=0)
    message = bench.wait(lambda: len(detections) == 2 and detections[-1])
    assert message.header == rgb.header and list(message.detections) == []

    # Names of the classes reach those who come later.
    labels = bench.collect(LabelInfo, "label_info", latched=True)
    methods = bench.collect(VisionInfo, "vision_info", latched=True)
    info = bench.wait(lambda: labels and labels[0])
    assert [(c.class_id, c.class_name) for c in info.class_map] == [(0, "person"), (1, "car")]
    assert info.threshold == pytest.approx(0.25)
    method = bench.wait(lambda: methods and methods[0])
    assert "fake.safetensors" in method.method and method.database_location == "/label_info"


SPOILED: dict[str, dict[str, Any]] = {
    "empty": {"height": 0, "width": 0, "step": 0, "data": b""},
    "oversize": {"height": 20000, "width": 20000, "step": 60000},
    "step": {"step": 7},
    "data": {"data": b"too short"},
    "encoding": {"encoding": "yuv420p_of_the_future"},
}


def test_bad_messages_kill_nothing(bench: Bench, start: Start, some_file: Path) -> None:
    node = start("fake_detector", weights=str(some_file), image_reliability="reliable")
    detections = bench.collect(Detection2DArray, "detections")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.warm(detections)
    stamp = itertools.count(1000)

    def counted(reason: str, count: int) -> None:
        """Wait for it before the next message, which would take the place of one not yet read."""
        bench.wait(lambda: bench.figures(diagnostics).get(f"dropped.{reason}") == str(count), f"for {count} {reason}")

    for reason, fields in SPOILED.items():
        for camera in ("rgb", "thermal"):
            bench.send(camera, next(stamp), **fields)
        counted(reason, 2)
    bench.send("rgb", 0.0)
    counted("invalid", 1)
    for value, reason in ((FAILS, "inference"), (BREAKS, "internal")):
        at = next(stamp)
        bench.send("rgb", at, value)
        bench.send("thermal", at)  # which fails in nothing, should it come too late for its partner
        counted(reason, 1)

    rgb, _ = bench.send_pair(next(stamp), value=2)
    bench.wait(lambda: any(message.header == rgb.header for message in detections), "for the good pair")
    assert node.process.poll() is None

    log = node.log()
    assert "images rejected so far" in log and "/rgb/image_raw" in log and "A pair was lost" in log
    assert "Traceback" not in log


def test_diagnostics_have_the_keys_that_others_read(bench: Bench, start: Start, some_file: Path) -> None:
    start("fake_detector", weights=str(some_file))
    detections = bench.collect(Detection2DArray, "detections")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.warm(detections)
    figures = bench.wait(lambda: bench.told(diagnostics, modality="both"), "for both cameras in the diagnostics")
    assert (
        figures["device"] == "fake" and figures["weights"] == str(some_file) and figures["weights_sha256"] == "0" * 64
    )
    for key in ("frames_rgb", "frames_thermal", "pairs", "messages"):
        assert int(figures[key]) >= 1
    for key in ("network_ms_p50", "network_ms_p95", "latency_ms_p50", "latency_ms_p95", "latency_ms_p99"):
        assert np.isfinite(float(figures[key]))
    for reason in ("late", "stale", "duplicate", "orphan", "invalid", "superseded", "inference", *SPOILED):
        assert f"dropped.{reason}" in figures
    assert diagnostics[-1].status[0].name == "detection_node"


def test_one_camera_alone_goes_on_and_pairs_come_back(bench: Bench, start: Start, some_file: Path) -> None:
    start("fake_detector", weights=str(some_file))
    detections = bench.collect(Detection2DArray, "detections")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    modality = bench.collect(String, "/detection_node/modality", latched=True)
    latency = bench.collect(Float64, "/detection_node/debug/latency_ms")
    bench.warm(detections)

    def alone(camera: str, stamp: float) -> None:
        detections.clear()
        sent, heard = [], len(diagnostics)
        for number in range(10):
            sent.append(bench.send(camera, stamp + number * 0.1).header)
            time.sleep(0.1)
        bench.wait(lambda: detections and detections[-1].header == sent[-1], f"for {camera} alone")
        assert all(message.header in sent for message in detections)
        bench.wait(lambda: bench.told(diagnostics[heard:], modality=camera), f"for {camera} in the diagnostics")
        assert any(message.status[0].level != b"\x00" for message in diagnostics[heard:])

    alone("rgb", 1000.0)
    alone("thermal", 1010.0)
    heard = len(diagnostics)
    for number in range(5):
        rgb, _ = bench.send_pair(1020.0 + number * 0.1)
        time.sleep(0.1)
    bench.wait(lambda: detections[-1].header == rgb.header, "for pairs")
    bench.wait(lambda: bench.told(diagnostics[heard:], modality="both"), "for both in the diagnostics")
    bench.wait(lambda: modality[-1].data == "none", "for word that no camera sends")
    said = iter([message.data for message in modality])
    assert all(word in said for word in ("rgb", "thermal", "both", "none")), "in this order"
    assert len(latency) >= 10 and all(np.isfinite(figure.data) for figure in latency)


def test_a_camera_that_hangs_on_one_picture_counts_as_missing(bench: Bench, start: Start, some_file: Path) -> None:
    start("fake_detector", weights=str(some_file))
    detections = bench.collect(Detection2DArray, "detections")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.warm(detections)
    frozen = image("thermal", 1.0).data
    stamps = itertools.count(10000)

    def alone() -> bool:
        """Sends on until it is said."""
        stamp = next(stamps) / 10
        bench.send("thermal", stamp, data=frozen)
        bench.send("rgb", stamp)
        time.sleep(0.1)
        figures = bench.figures(diagnostics)
        missing = figures.get("state_thermal") in ("pause", "silent")
        return missing and figures["modality"] == "rgb" and int(figures["dropped.frozen"]) >= 5

    bench.wait(alone, lambda: f"for RGB alone, in {bench.figures(diagnostics)}")


def test_thermal_is_registered_and_what_does_not_fit_is_left_out(bench: Bench, start: Start, some_file: Path) -> None:
    node = start("fake_detector", weights=str(some_file), **SHIFT)
    detections = bench.collect(Detection2DArray, "detections")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.warm(detections)
    for number in range(10):  # alone, it is shifted: its first pixel is now the fill, 127 objects to the fake detector
        thermal = bench.send("thermal", 1000.0 + number * 0.1, 3)
        time.sleep(0.1)
    bench.wait(lambda: detections and detections[-1].header == thermal.header, "for thermal alone")
    assert len(detections[-1].detections) == 127
    bench.wait(lambda: float(bench.figures(diagnostics).get("registration_coverage", 0)) > 0.5)
    for number in range(10):
        rgb = bench.send("rgb", 1010.0 + number * 0.1, 2)
        bench.send("thermal", 1010.0 + number * 0.1, 3, height=12, data=image("thermal", 1.0).data[: 12 * 32])
        time.sleep(0.1)
    bench.wait(lambda: detections[-1].header == rgb.header, "for pairs with a thermal image of another aspect")
    bench.wait(lambda: int(bench.figures(diagnostics).get("dropped.registration", 0)) > 0)
    assert "Thermal is not used" in node.log()


def test_a_jump_back_in_time_starts_anew(bench: Bench, start: Start, some_file: Path) -> None:
    node = start("fake_detector", weights=str(some_file))
    detections = bench.collect(Detection2DArray, "detections")
    bench.warm(detections)
    for origin in (1000.0, 50.0):
        for number in range(5):
            rgb, _ = bench.send_pair(origin + number * 0.1)
            time.sleep(0.05)
        bench.wait(lambda: detections and detections[-1].header == rgb.header, f"for stamps from {origin}")  # noqa: B023
    assert "went back" in node.log()


def test_a_slow_detector_turns_to_the_newest_pair(bench: Bench, some_file: Path) -> None:
    sessions: list[FakeSession] = []

    def factory(*args: Any, **options: Any) -> FakeSession:
        sessions.append(FakeSession(*args, **options))
        return sessions[-1]

    overrides = [Parameter("weights", value=str(some_file)), Parameter("image_reliability", value="reliable")]
    overrides += [Parameter("sync.overdue_s", value=60.0)]  # pairs are counted here, however late their second image
    node = DetectionNode(factory, context=bench.context, parameter_overrides=overrides)
    with spun(node, bench.context):
        assert node.autostart()
        (session,) = sessions
        detections = bench.collect(Detection2DArray, "detections")
        diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
        bench.warm(detections)
        before = bench.wait(lambda: bench.figures(diagnostics))
        bench.wait(lambda: int(bench.figures(diagnostics)["messages"]) == len(session.calls))
        before = bench.figures(diagnostics)
        session.calls.clear()
        session.gate.clear()
        for number in range(10):
            bench.send_pair(1000.0 + number * 0.1)
            pairs = int(before["pairs"]) + number + 1
            bench.wait(lambda: node._rigs[""].pairing.counters["paired"] == pairs, f"for pair {number}")  # noqa: B023
        bench.wait(lambda: session.calls, "for the detector")
        session.gate.set()
        bench.wait(lambda: detections and detections[-1].header == header(1000.9, "rgb_optical"))
        # The pair in work, then at once the newest: the eight between are gone, not queued.
        assert [stamp for stamp, _ in session.calls] == pytest.approx([1000.0, 1000.9])
        expected = str(int(before["dropped.superseded"]) + 8)
        bench.wait(lambda: bench.figures(diagnostics)["dropped.superseded"] == expected)


def test_compressed_topics(bench: Bench, start: Start, some_file: Path) -> None:
    start(
        "fake_detector",
        weights=str(some_file),
        rgb_topic="/cam/compressed",
        thermal_topic="/heat",
        thermal_compressed=True,
    )
    detections = bench.collect(Detection2DArray, "detections")
    rgb, heat = (bench.publisher(CompressedImage, topic) for topic in ("/cam/compressed", "/heat"))

    def send(stamp: float, value: int) -> Any:
        stamped = header(stamp, "camera")
        for publisher, pixels in (
            (rgb, np.full((24, 32, 3), value, np.uint8)),
            (heat, np.full((24, 32), 3000, np.uint16)),
        ):
            data = cv2.imencode(".png", pixels)[1].tobytes()
            publisher.publish(CompressedImage(header=stamped, format="png", data=data))
        return stamped

    for number in range(600):
        if detections:
            break
        send(1.0 + number * 0.1, 1)
        time.sleep(0.1)
    rgb.publish(CompressedImage(header=header(999.0, "camera"), format="jpeg", data=b"\xff\xd8 none"))
    sent = send(1000.0, 2)
    bench.wait(lambda: any(m.header == sent and len(m.detections) == 2 for m in detections))


def test_a_reliability_that_does_not_fit_is_told_with_its_cure(bench: Bench, start: Start, some_file: Path) -> None:
    node = start("fake_detector", weights=str(some_file), image_reliability="reliable")
    bench.wait(lambda: bench.node.count_subscribers("/rgb/image_raw") > 0)
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    quality = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    bench.node.create_publisher(Image, "/rgb/image_raw", quality)
    bench.wait(lambda: "set image_reliability to best_effort" in node.log())


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM]])
def test_a_signal_ends_the_node_in_good_order(
    bench: Bench, start: Start, some_file: Path, signals: list[signal.Signals]
) -> None:
    node = start("fake_detector", weights=str(some_file))
    bench.wait(lambda: "activated" in node.log())
    for number in signals:
        node.process.send_signal(number)
        time.sleep(0.05)
    assert node.exit_code() == 0
    assert "Traceback" not in node.log()


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"weights": "/nowhere/w.safetensors"}, "There is no weights file /nowhere/w.safetensors"),
        ({"weights": "no_such_model.safetensors"}, "models/no_such_model.safetensors"),
        ({"weigths": "w.safetensors"}, "no parameter 'weigths'; did you mean 'weights'?"),
        ({"slop_s_": 0.1}, "did you mean 'sync.slop_s'?"),
        ({"score_threshold": 7.0}, "'score_threshold' is 7.0, but must be 0 to 1"),
        ({"max_detections": "many"}, "'max_detections' is 'many', but must be a whole number"),
        ({"image_reliability": "perfect"}, "must be one of best_effort, reliable"),
        ({"registration.mode": "homography"}, "rgb_size is (0, 0)"),
        ({**SHIFT, "registration.homography": [0.0] * 9}, "singular"),
    ],
)
def test_what_cannot_start_says_why_and_ends_with_1(start: Start, parameters: dict[str, Any], sentence: str) -> None:
    node = start("fake_detector", **parameters)
    assert node.exit_code() == 1
    assert sentence in node.log() and "Traceback" not in node.log()


def test_broken_weights_are_refused_by_the_real_node(start: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(bytes(range(256)) * 20)
    node = start("detection_node", weights=str(broken), device="cpu")
    assert node.exit_code() == 1
    assert "detection_node cannot be configured" in node.log() and str(broken) in node.log()
    assert "Traceback" not in node.log()


def test_a_manager_drives_the_node_through_its_life(bench: Bench, some_file: Path) -> None:
    overrides = [Parameter("weights", value=str(some_file)), Parameter("autostart", value=False)]
    node = DetectionNode(FakeSession, context=bench.context, parameter_overrides=overrides)

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(bench.call(ChangeState, "/detection_node/change_state", request).success)

    def state() -> int:
        return int(bench.call(GetState, "/detection_node/get_state", GetState.Request()).current_state.id)

    with spun(node, bench.context):
        client = AsyncParameterClient(bench.node, "detection_node")

        def set_parameter(name: str, value: Any) -> Any:
            future = client.set_parameters([Parameter(name, value=value)])
            bench.wait(future.done, "for a parameter")
            return future.result().results[0]

        assert state() == State.PRIMARY_STATE_UNCONFIGURED
        assert set_parameter("weights", "/nowhere").successful
        assert not change(Transition.TRANSITION_CONFIGURE)
        assert state() == State.PRIMARY_STATE_UNCONFIGURED
        assert set_parameter("weights", str(some_file)).successful
        refused = set_parameter("nms_iou", 1.5)
        assert not refused.successful
        stamps = itertools.count(1000)
        for cycle in range(3):
            assert set_parameter("score_threshold", 0.1 + cycle / 10).successful
            assert change(Transition.TRANSITION_CONFIGURE)
            assert node._session.options["score_threshold"] == pytest.approx(0.1 + cycle / 10)
            refused = set_parameter("device", "cuda")
            assert not refused.successful and "clean the node up first" in refused.reason
            assert set_parameter("nms_iou", 0.3 + cycle / 10).successful
            assert node._session.options["nms_iou"] == pytest.approx(0.3 + cycle / 10)
            assert change(Transition.TRANSITION_ACTIVATE)
            assert state() == State.PRIMARY_STATE_ACTIVE
            detections = bench.collect(Detection2DArray, "detections")
            for _ in range(600):
                if detections:
                    break
                bench.send_pair(next(stamps))
                time.sleep(0.1)
            assert detections
            assert set_parameter("sync.modality_timeout_s", 0.2 + cycle / 10).successful
            assert node._rigs[""].pairing.options.modality_timeout_s == pytest.approx(0.2 + cycle / 10)
            assert change(Transition.TRANSITION_DEACTIVATE)
            bench.wait(lambda: bench.node.count_subscribers("/rgb/image_raw") == 0)
            assert change(Transition.TRANSITION_CLEANUP)
            assert node._session is None
            bench.wait(lambda: bench.node.count_publishers("/detections") == 0)
        assert change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)


def test_the_real_detector_in_the_node(bench: Bench, start: Start, tiny_weights: Path) -> None:
    node = start("detection_node", weights=str(tiny_weights), device="cpu", score_threshold=0.0, max_detections=5)
    detections = bench.collect(Detection2DArray, "detections")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    labels = bench.collect(LabelInfo, "label_info", latched=True)
    bench.warm(detections)
    rgb = bench.send("rgb", 1000.0, value=90)
    thermal = image("thermal", 1000.0, encoding="16UC1", step=64, data=np.arange(768, dtype=np.uint16).tobytes())
    bench.publisher(type(thermal), "/thermal/image_raw").publish(thermal)
    message = bench.wait(lambda: next((m for m in detections if m.header == rgb.header), None))
    names = {c.class_name for c in bench.wait(lambda: labels and labels[0]).class_map}
    assert len(message.detections) == 5
    for detection in message.detections:
        assert detection.results[0].hypothesis.class_id in names
        assert 0 < detection.bbox.size_x <= 32 and 0 < detection.bbox.size_y <= 24
    bench.wait(lambda: len(bench.figures(diagnostics).get("weights_sha256", "")) == 64)
    node.process.send_signal(signal.SIGINT)
    assert node.exit_code() == 0
