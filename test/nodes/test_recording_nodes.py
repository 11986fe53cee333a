"""Replay, recorder and overlay over real DDS."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from node_bench import Bench, Child, header, image
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from mmkd_ros import bags
from mmkd_ros.bags import BagReader, read_stamp
from mmkd_ros.messages import stamp_nanoseconds
from mmkd_ros.status_file import read_status
from mmkd_train.make_bag import make_bag_from_frames

Start = Callable[..., Child]


def recording(path: Path, count: int = 5) -> Path:
    frames = [(np.full((24, 32, 3), n + 1, np.uint8), np.full((24, 32), n + 1, np.uint8)) for n in range(count)]
    make_bag_from_frames(frames, path, fps=20.0, start_stamp=1000.0)
    return path


def tracks_of(stamp: float) -> Detection2DArray:
    found = Detection2D(id="7")
    found.bbox.center.position.x, found.bbox.center.position.y = 16.0, 12.0
    found.bbox.size_x = found.bbox.size_y = 10.0
    found.results.append(ObjectHypothesisWithPose())
    found.results[0].hypothesis.class_id, found.results[0].hypothesis.score = "car", 0.5
    return Detection2DArray(header=header(stamp, "rgb_optical"), detections=[found])


def test_a_recording_is_replayed_in_its_own_time(bench: Bench, start: Start, tmp_path: Path) -> None:
    rgb, thermal = (bench.collect(Image, f"/{camera}/image_raw", match=False) for camera in ("rgb", "thermal"))
    clock = bench.collect(Clock, "/clock", match=False)
    begun = time.time_ns()
    node = start(
        "replay_node",
        bag=str(recording(tmp_path / "bag.mcap")),
        wait_for_subscribers_s=30.0,
        start_delay_s=1.0,
        rate=2.0,
        publish_clock=True,
        report=str(tmp_path / "report.json"),
    )
    assert node.exit_code() == 0, node.log()
    bench.wait(lambda: len(rgb) == 5 and len(thermal) == 5, "for all images")
    stamps = [stamp_nanoseconds(message.header) for message in rgb]
    assert stamps == [stamp_nanoseconds(message.header) for message in thermal]
    assert begun < stamps[0] and set(np.diff(stamps)) == {25_000_000}
    assert [message.data[0] for message in rgb] == [1, 2, 3, 4, 5]
    assert (rgb[0].encoding, rgb[0].header.frame_id, rgb[0].step) == ("rgb8", "rgb_camera", 96)
    report = read_status(tmp_path / "report.json")
    assert (report["state"], report["rgb"], report["thermal"], report["start_ns"]) == ("done", 5, 5, stamps[0])
    assert clock and clock[0].clock.sec >= begun // 10**9


def test_stamps_can_be_kept_and_a_replay_can_go_round(bench: Bench, start: Start, tmp_path: Path) -> None:
    rgb = bench.collect(Image, "/front", match=False)
    bag = str(recording(tmp_path / "bag.mcap", 2))
    node = start("replay_node", bag=bag, rgb_out="/front", restamp=False, loop=True)
    bench.wait(lambda: len(rgb) > 5, "for the third round")
    assert {message.header.stamp.sec for message in rgb} == {1000}
    node.process.send_signal(signal.SIGINT)
    assert node.exit_code() == 0, node.log()


def test_compressed_images_are_replayed_as_they_are(bench: Bench, start: Start, tmp_path: Path) -> None:
    with bags.BagWriter(tmp_path / "bag.mcap") as writer:
        for topic in ("/color/compressed", "/lwir/compressed"):
            writer.add_topic(topic, bags.COMPRESSED_IMAGE)
            types = bags.typestore().types
            stamp = types["builtin_interfaces/msg/Time"](sec=5, nanosec=0)
            head = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
            data = np.frombuffer(b"coded", np.uint8)
            message = types[bags.COMPRESSED_IMAGE](header=head, format="jpeg", data=data)
            writer.write(topic, 6 * 10**9, bags.serialize(message))
    images = bench.collect(CompressedImage, "/rgb/image_raw/compressed", match=False)
    hot = bench.collect(CompressedImage, "/thermal/image_raw/compressed", match=False)
    node = start("replay_node", bag=str(tmp_path / "bag.mcap"), wait_for_subscribers_s=30.0, start_delay_s=1.0)
    assert node.exit_code() == 0, node.log()
    bench.wait(lambda: images and hot, "for both images")
    assert bytes(images[0].data) == b"coded"


def test_what_cannot_be_replayed_is_said(start: Start, tmp_path: Path) -> None:
    node = start("replay_node", bag=str(tmp_path / "absent.mcap"))
    assert node.exit_code() == 1
    assert "There is no bag at" in node.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_recorder_finishes_its_bag_on_a_signal(
    bench: Bench, start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    output, report = tmp_path / "result.mcap", tmp_path / "report.json"
    node = start("recorder_node", output=str(output), report=str(report), watch_topics="/rgb/image_raw")
    bench.wait(lambda: read_status(report), "for the first report")
    for topic in ("/detections", "/tracks"):
        assert read_status(report)["subscribers"][topic] == ["recorder_node"]
    publisher = bench.publisher(Detection2DArray, "/tracks")
    for stamp in range(1, 4):
        publisher.publish(tracks_of(float(stamp)))
    bench.wait(lambda: read_status(report)["tracks"] == 3, "for three messages")
    assert not output.exists()
    node.process.send_signal(number)
    assert node.exit_code() == 0, node.log()
    assert {key: value for key, value in read_status(report).items() if key != "subscribers"} == {
        "state": "done",
        "detections": 0,
        "tracks": 3,
        "diagnostics": 0,
        "detection_node/modality": 0,
        "detection_node/debug/processing_time_ms": 0,
        "track_ids": 1,
    }
    with BagReader(output) as bag:
        messages = list(bag.messages())
        assert set(bag.topics) == {
            "/detections",
            "/tracks",
            "/diagnostics",
            "/detection_node/modality",
            "/detection_node/debug/processing_time_ms",
        }
        assert [read_stamp(m.data) for m in messages] == [10**9, 2 * 10**9, 3 * 10**9]
        assert all(abs(m.time_ns - time.time_ns()) < 600 * 10**9 for m in messages)  # the time of publishing
        assert bags.deserialize(messages[0]).detections[0].id == "7"

    again = start("recorder_node", output=str(output))
    assert again.exit_code() == 1
    assert "exists already" in again.log()


def says_thermal(picture: Image) -> bool:
    """Whether the badge has the colour of one camera alone."""
    pixels = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
    return bool((pixels[:24, :60] == (40, 140, 235)).all(axis=2).sum() > 100)


def test_the_overlay_is_drawn_only_while_somebody_looks(bench: Bench, start: Start) -> None:
    start("overlay_node")
    bench.wait(lambda: bench.node.count_publishers("/overlay"), "for the overlay's publisher")
    inputs = ("/rgb/image_raw", "/thermal/image_raw", "/tracks")
    assert [bench.node.count_subscribers(topic) for topic in inputs] == [0, 0, 0]

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    bench.node.create_publisher(String, "/detection_node/modality", latched).publish(String(data="thermal"))
    pictures: list[Image] = []
    look = bench.node.create_subscription(Image, "/overlay", pictures.append, 10)
    bench.wait(lambda: all(bench.node.count_subscribers(topic) for topic in inputs), "for the overlay's subscriptions")
    for number in range(200):
        stamp = 10.0 + number / 10
        rgb, _ = bench.send_pair(stamp, value=90)
        time.sleep(0.05)
        bench.publisher(Detection2DArray, "/tracks").publish(tracks_of(stamp))
        if pictures and says_thermal(pictures[-1]):
            break
    picture = bench.wait(lambda: pictures and pictures[-1], "for a picture")
    assert says_thermal(picture), "the badge follows the detector, not the images"
    assert (picture.encoding, picture.header.frame_id) == ("bgr8", "rgb_optical")
    assert 10 * 10**9 <= stamp_nanoseconds(picture.header) <= stamp_nanoseconds(rgb.header)
    pixels = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.step)
    assert picture.step == 3 * picture.width and len(np.unique(pixels)) > 10

    bench.node.destroy_subscription(look)
    bench.wait(lambda: not any(bench.node.count_subscribers(topic) for topic in inputs), "for the overlay to rest")


def test_a_bad_image_does_not_end_the_overlay(bench: Bench, start: Start) -> None:
    node = start("overlay_node")
    pictures = bench.collect(Image, "/overlay")
    bench.publisher(Image, "/rgb/image_raw").publish(image("rgb", 1.0, encoding="no such encoding"))
    bench.publisher(Detection2DArray, "/tracks").publish(tracks_of(1.0))
    for number in range(200):
        bench.send("rgb", 10.0 + number)
        time.sleep(0.05)
        bench.publisher(Detection2DArray, "/tracks").publish(tracks_of(10.0 + number))
        if pictures:
            break
    assert bench.wait(lambda: pictures, "for a picture") and node.process.poll() is None
