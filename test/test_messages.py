"""Arrays <-> Detection2DArray, with the message classes of ROS where it is present, and with plain stand-ins."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from mmkd_ros.messages import (
    ClassNames,
    MessageTypes,
    detections_from_message,
    detections_to_message,
    stamp_nanoseconds,
    stamp_seconds,
    tracks_to_message,
)
from mmkd_ros.types import Detections, Tracks


@dataclass
class Stamp:
    sec: int = 0
    nanosec: int = 0


@dataclass
class Header:
    stamp: Stamp = field(default_factory=Stamp)
    frame_id: str = ""


@dataclass
class Point2D:
    x: float = 0.0
    y: float = 0.0


@dataclass
class Pose2D:
    position: Point2D = field(default_factory=Point2D)
    theta: float = 0.0


@dataclass
class BoundingBox2D:
    center: Pose2D = field(default_factory=Pose2D)
    size_x: float = 0.0
    size_y: float = 0.0


@dataclass
class ObjectHypothesis:
    class_id: str = ""
    score: float = 0.0


@dataclass
class ObjectHypothesisWithPose:
    hypothesis: ObjectHypothesis = field(default_factory=ObjectHypothesis)
    pose: object = None


@dataclass
class Detection2D:
    header: Header = field(default_factory=Header)
    results: list[ObjectHypothesisWithPose] = field(default_factory=list)
    bbox: BoundingBox2D = field(default_factory=BoundingBox2D)
    id: str = ""


@dataclass
class Detection2DArray:
    header: Header = field(default_factory=Header)
    detections: list[Detection2D] = field(default_factory=list)


PLAIN = MessageTypes(Detection2DArray, Detection2D, ObjectHypothesisWithPose)


@pytest.fixture(params=["plain", "ros"])
def world(request: pytest.FixtureRequest) -> tuple[MessageTypes, Any]:
    """Message classes and a header of 12.000000007 s in frame `camera`."""
    if request.param == "plain":
        return PLAIN, Header(Stamp(12, 7), "camera")
    if any(importlib.util.find_spec(name) is None for name in ("vision_msgs", "std_msgs")):
        pytest.skip("needs vision_msgs and std_msgs")
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header as RosHeader
    from vision_msgs.msg import Detection2D as RosDetection
    from vision_msgs.msg import Detection2DArray as RosArray
    from vision_msgs.msg import ObjectHypothesisWithPose as RosHypothesis

    header = RosHeader(stamp=Time(sec=12, nanosec=7), frame_id="camera")
    return MessageTypes(RosArray, RosDetection, RosHypothesis), header


def some(count: int = 3) -> Detections:
    corners = np.array([[1.5, 2.0, 11.5, 22.0], [0.0, 0.0, 640.0, 512.0], [100.25, 50.0, 130.25, 90.0]], np.float32)
    return Detections(
        corners[:count],
        np.array([0.9, 0.6, 0.31], np.float32)[:count],
        np.array([1, 0, 1], np.int64)[:count],
        ("car", "person"),
        12.000000007,
    )


def through_the_wire(message: Any) -> Any:
    """Serialise and read again, where the message is one of ROS."""
    if isinstance(message, Detection2DArray):
        return message
    from rclpy.serialization import deserialize_message, serialize_message

    return deserialize_message(serialize_message(message), type(message))


def test_detections_come_back_as_they_were(world: tuple[MessageTypes, Any]) -> None:
    types, header = world
    message = through_the_wire(detections_to_message(some(), header, types))
    assert message.header == header
    assert all(detection.header == header and detection.id == "" for detection in message.detections)
    assert [d.results[0].hypothesis.class_id for d in message.detections] == ["person", "car", "person"]
    box = message.detections[0].bbox
    assert (box.center.position.x, box.center.position.y, box.size_x, box.size_y) == (6.5, 12.0, 10.0, 20.0)

    back, rejected = detections_from_message(message, ClassNames(("car", "person")))
    assert rejected == 0 and back.class_names == ("car", "person") and back.stamp == stamp_seconds(header)
    np.testing.assert_allclose(back.boxes, some().boxes, atol=1e-4)
    np.testing.assert_allclose(back.scores, some().scores)
    np.testing.assert_array_equal(back.labels, some().labels)


def test_an_empty_frame_gives_an_empty_array_with_its_header(world: tuple[MessageTypes, Any]) -> None:
    types, header = world
    message = through_the_wire(detections_to_message(Detections.empty(("car",), 12.0), header, types))
    assert message.header == header and len(message.detections) == 0
    back, rejected = detections_from_message(message, ClassNames())
    assert len(back) == 0 and rejected == 0


def test_tracks_carry_their_id_as_a_decimal(world: tuple[MessageTypes, Any]) -> None:
    types, header = world
    tracks = Tracks(
        np.array([7, 12345678901], np.int64),
        some(2).boxes,
        np.ones((2, 2), np.float32),
        some(2).labels,
        some(2).scores,
        np.zeros(2),
        np.zeros(2),
        ("car", "person"),
        12.0,
    )
    message = through_the_wire(tracks_to_message(tracks, header, types))
    assert message.header == header
    assert [d.id for d in message.detections] == ["7", "12345678901"]
    assert [d.results[0].hypothesis.class_id for d in message.detections] == ["person", "car"]
    # One box must not be another's: the parts that copies share are only those nobody sets.
    assert [d.bbox.size_x for d in message.detections] == [10.0, 640.0]


@pytest.mark.parametrize("field_name", ["x", "size", "score"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_left_out_and_counted(field_name: str, value: float) -> None:
    message = detections_to_message(some(), Header(), PLAIN)
    spoiled = message.detections[1]
    if field_name == "x":
        spoiled.bbox.center.position.x = value
    elif field_name == "size":
        spoiled.bbox.size_y = value
    else:
        spoiled.results[0].hypothesis.score = value
    back, rejected = detections_from_message(message, ClassNames())
    assert rejected == 1
    np.testing.assert_allclose(back.boxes, some().boxes[[0, 2]], atol=1e-4)


def test_foreign_messages_are_read_with_care() -> None:
    message = detections_to_message(some(), Header(), PLAIN)
    message.detections[0].results = []
    message.detections[1].bbox.size_x = 0.0
    message.detections[2].results.insert(0, ObjectHypothesisWithPose(ObjectHypothesis("dog", 0.1)))
    message.detections[2].results[1].hypothesis.score = 3.0
    back, rejected = detections_from_message(message, ClassNames())
    assert rejected == 2 and back.class_names == ("person",)
    assert back.scores.tolist() == [3.0]  # what is no score is not made one: the tracker refuses it


def test_scores_come_out_descending_and_names_keep_their_labels() -> None:
    names = ClassNames()
    message = detections_to_message(some(), Header(), PLAIN)
    message.detections.reverse()
    first, _ = detections_from_message(message, names)
    assert first.scores.tolist() == sorted(first.scores.tolist(), reverse=True)
    assert names.names == ("person", "car")
    second, _ = detections_from_message(detections_to_message(some(), Header(), PLAIN), names)
    assert second.class_names == ("person", "car") and second.labels.tolist() == [0, 1, 0]


def test_a_sender_that_invents_names_does_not_fill_the_memory() -> None:
    names = ClassNames(limit=5)
    for i in range(20):
        message = detections_to_message(some(1), Header(), PLAIN)
        message.detections[0].results[0].hypothesis.class_id = f"thing {i}"
        detections_from_message(message, names)
    assert len(names.names) == 5


def test_stamps_are_exact_in_nanoseconds() -> None:
    header = Header(Stamp(1_700_000_000, 123_456_789))
    assert stamp_nanoseconds(header) == 1_700_000_000_123_456_789
    assert stamp_seconds(header) == pytest.approx(1_700_000_000.123456789)
