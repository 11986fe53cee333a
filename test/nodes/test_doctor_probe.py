"""The doctor looks at real publishers over DDS."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from node_bench import Bench, image
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from mmkd_ros.doctor import machine
from mmkd_ros.doctor.__main__ import main
from mmkd_ros.doctor.finding import ok
from mmkd_ros.doctor.topics import CameraFacts, ProbeReport
from mmkd_ros.nodes.doctor_probe import message_problems
from mmkd_ros.processes import ros_environment


@contextmanager
def at_work(send: Callable[[], None], period_s: float = 0.05) -> Iterator[None]:
    """Send again and again in a thread."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(period_s):
            send()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def probe(*arguments: str) -> ProbeReport:
    command = [sys.executable, "-m", "mmkd_ros.nodes.doctor_probe", "--patience", "30", *arguments]
    done = subprocess.run(command, env=ros_environment(), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return ProbeReport.from_json(done.stdout.splitlines()[-1])


def publisher(bench: Bench, kind: Any, topic: str, reliability: ReliabilityPolicy) -> Any:
    return bench.node.create_publisher(kind, topic, QoSProfile(depth=10, reliability=reliability))


def test_the_messages_of_this_environment_can_be_used() -> None:
    assert message_problems() == {"sensor_msgs/Image": "", "vision_msgs/Detection2DArray": ""}


def test_the_probe_measures_and_sees_which_quality_of_service_does_not_fit(bench: Bench) -> None:
    rgb = publisher(bench, type(image("rgb", 0.0)), "/left/image", ReliabilityPolicy.BEST_EFFORT)
    thermal = publisher(bench, type(image("thermal", 0.0)), "/ir/image", ReliabilityPolicy.RELIABLE)

    def send() -> None:
        now = time.time()
        rgb.publish(image("rgb", now))
        thermal.publish(image("thermal", now - 0.01))

    with at_work(send):
        report = probe("--rgb", "/left/image", "--thermal", "/ir/image", "--reliability", "reliable")
    assert report.middleware.startswith("rmw_")
    assert report.image_topics == ["/ir/image", "/left/image"]
    left, right = report.cameras["rgb"], report.cameras["thermal"]
    assert [(offer.node, offer.reliability) for offer in left.offers] == [("/bench", "best_effort")]
    assert "reliable" in left.offers[0].mismatch.lower(), "a node that asks reliable gets nothing of best effort"
    assert (right.offers[0].reliability, right.offers[0].mismatch) == ("reliable", "")
    for facts, encoding in ((left, "rgb8"), (right, "mono8")):
        assert (facts.encoding, facts.size, facts.problem) == (encoding, (32, 24), "")
        assert len(facts.stamps) == len(facts.arrivals) > 3
        assert facts.window_s >= 2.5
        assert all(arrival > stamp for arrival, stamp in zip(facts.arrivals, facts.stamps, strict=True))
        assert all(abs(stamp - time.time()) < 120.0 for stamp in facts.stamps)


def test_the_probe_reads_what_cannot_be_read(bench: Bench) -> None:
    """A message of another type, and an encoding that no thermal camera has."""
    publisher(bench, String, "/words", ReliabilityPolicy.RELIABLE)
    thermal = publisher(bench, CompressedImage, "/ir/compressed", ReliabilityPolicy.RELIABLE)
    with at_work(lambda: thermal.publish(CompressedImage(format="theora", data=b"\1\2\3"))):
        report = probe("--rgb", "words", "--thermal", "/ir/compressed")
    words, infrared = report.cameras["rgb"], report.cameras["thermal"]
    assert (words.topic, words.offers[0].type, words.stamps) == ("/words", "std_msgs/msg/String", [])
    assert infrared.offers[0].type == "sensor_msgs/msg/CompressedImage"
    assert "neither JPEG nor PNG" in infrared.problem
    assert set(infrared.stamps) == {0.0}


def test_a_topic_of_nobody_ends_after_the_patience(ros_domain: int) -> None:
    report = probe("--rgb", "/nobody", "--patience", "0.1", "--window", "0.1")
    assert report.cameras["rgb"] == CameraFacts("/nobody", window_s=report.cameras["rgb"].window_s)


def test_the_doctor_names_the_mismatch_and_its_cure(
    bench: Bench, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command: a publisher in best effort, nodes that ask reliable; the other camera does not publish."""
    for name in ("check_torch", "check_weights"):  # which take their time
        monkeypatch.setattr(machine, name, lambda *_: ok("skipped", ""))
    rgb = publisher(bench, type(image("rgb", 0.0)), "/rgb/image_raw", ReliabilityPolicy.BEST_EFFORT)
    with at_work(lambda: rgb.publish(image("rgb", time.time()))):
        code = main(
            ["--rgb-topic", "/rgb/image_raw", "--thermal-topic", "/none", "--image-reliability", "reliable", "--json"]
        )
    assert code == 1
    findings = {finding["check"]: finding for finding in json.loads(capfd.readouterr().out)["findings"]}
    assert findings["ROS"]["level"] == "OK"
    assert findings["rgb QoS"]["level"] == "FAIL"
    assert "image_reliability" in findings["rgb QoS"]["cure"]
    assert findings["rgb QoS"]["link"] == "docs/troubleshooting.md#qos"
    assert "images/s" in findings["rgb rate"]["found"], "the doctor itself listens as the publisher offers"
    assert findings["rgb stamps"]["level"] in ("OK", "WARN")
    assert "image topics here: /rgb/image_raw" in findings["thermal publisher"]["found"]
