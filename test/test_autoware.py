"""Boxes -> Autoware's ROIs and UUIDs, with the real message classes where they are, and with plain stand-ins."""

from __future__ import annotations

import importlib.util
import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from mmkd_ros.autoware import (
    LABELS,
    AutowareOptions,
    AutowareTrackOptions,
    AutowareTypes,
    LabelMap,
    identities_to_message,
    regions,
    rois_to_message,
)
from mmkd_ros.types import Detections, Tracks


@dataclass
class Header:
    frame_id: str = ""


@dataclass
class Region:
    x_offset: int = 0
    y_offset: int = 0
    width: int = 0
    height: int = 0


@dataclass
class Feature:
    cluster: object = None
    roi: Region = field(default_factory=Region)


@dataclass
class Kinematics:
    orientation_availability: int = 0
    has_position_covariance: bool = False
    has_twist: bool = False
    has_twist_covariance: bool = False


@dataclass
class Classification:
    label: int = 0
    probability: float = 0.0


@dataclass
class Object:
    existence_probability: float = 0.0
    classification: list[Classification] = field(default_factory=list)
    kinematics: Kinematics = field(default_factory=Kinematics)


@dataclass
class ObjectWithFeature:
    object: Object = field(default_factory=Object)
    feature: Feature = field(default_factory=Feature)


@dataclass
class ObjectsWithFeature:
    header: Header = field(default_factory=Header)
    feature_objects: list[ObjectWithFeature] = field(default_factory=list)


@dataclass
class Uuid:
    uuid: Any = None


@dataclass
class DynamicObject:
    id: Uuid = field(default_factory=Uuid)


@dataclass
class DynamicObjects:
    header: Header = field(default_factory=Header)
    objects: list[DynamicObject] = field(default_factory=list)


@pytest.fixture(params=["plain", "ros"])
def world(request: pytest.FixtureRequest) -> tuple[AutowareTypes, Any]:
    """Message classes, and a header in frame `camera`."""
    if request.param == "plain":
        types = AutowareTypes(ObjectsWithFeature, ObjectWithFeature, Classification, DynamicObjects, DynamicObject)
        return types, Header("camera")
    if any(importlib.util.find_spec(name) is None for name in ("autoware_perception_msgs", "tier4_perception_msgs")):
        pytest.skip("needs autoware_perception_msgs and tier4_perception_msgs: `make env` generates them")
    from autoware_perception_msgs.msg import ObjectClassification
    from std_msgs.msg import Header as RosHeader
    from tier4_perception_msgs import msg

    types = AutowareTypes(
        msg.DetectedObjectsWithFeature,
        msg.DetectedObjectWithFeature,
        ObjectClassification,
        msg.DynamicObjectArray,
        msg.DynamicObject,
    )
    return types, RosHeader(frame_id="camera")


def through_the_wire(message: Any) -> Any:
    """Serialise and read again, where the message is one of ROS."""
    if isinstance(message, (ObjectsWithFeature, DynamicObjects)):
        return message
    from rclpy.serialization import deserialize_message, serialize_message

    return deserialize_message(serialize_message(message), type(message))


def found(*boxes: tuple[float, float, float, float]) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.arange(count, dtype=np.int64) % 3,
        ("person", "car", "scooter"),
    )


def tracked(ids: list[int], detections: Detections) -> Tracks:
    zeros = np.zeros(len(ids))
    velocities = np.ones((len(ids), 2), np.float32)
    boxes, labels, scores = detections.boxes, detections.labels, detections.scores
    return Tracks(np.array(ids), boxes, velocities, labels, scores, zeros, zeros, detections.class_names)


def test_objects_become_rois(world: tuple[AutowareTypes, Any]) -> None:
    types, header = world
    labels = LabelMap(["person:PEDESTRIAN"])
    objects = found((1.4, 2.6, 11.5, 22.4), (-5.0, -3.0, 700.0, 600.0), (300.0, 200.0, 310.0, 230.0))
    message, rows = rois_to_message(objects, header, (640, 512), labels, types)
    message = through_the_wire(message)
    assert message.header == header and rows.tolist() == [0, 1, 2]
    rois = [item.feature.roi for item in message.feature_objects]
    assert [(r.x_offset, r.y_offset, r.width, r.height) for r in rois] == [
        (1, 3, 11, 19),
        (0, 0, 640, 512),
        (300, 200, 10, 30),
    ]
    items = [item.object for item in message.feature_objects]
    assert [[c.label for c in item.classification] for item in items] == [[7], [1], [0]]
    assert all(item.classification[0].probability == 1.0 for item in items)
    np.testing.assert_allclose([item.existence_probability for item in items], objects.scores)
    for item in items:  # a camera measures none of it
        assert item.kinematics.orientation_availability == 0
        assert not (item.kinematics.has_position_covariance or item.kinematics.has_twist)
    assert labels.unknown == {"scooter": 1}


def test_an_empty_street_gives_an_empty_message(world: tuple[AutowareTypes, Any]) -> None:
    types, header = world
    message, rows = rois_to_message(Detections.empty(("car",)), header, (640, 512), LabelMap([]), types)
    message = through_the_wire(message)
    assert message.header == header and len(message.feature_objects) == 0 and len(rows) == 0
    identities = identities_to_message(tracked([], found()), rows, uuid.uuid4(), header, types)
    assert len(through_the_wire(identities).objects) == 0


def test_every_roi_has_its_uuid_and_keeps_it(world: tuple[AutowareTypes, Any]) -> None:
    types, header = world
    run, other_run = uuid.uuid4(), uuid.uuid4()

    def identities(ids: list[int], run: uuid.UUID, *boxes: tuple[float, float, float, float]) -> list[bytes]:
        tracks = tracked(ids, found(*boxes))
        rois, rows = rois_to_message(tracks, header, (640, 512), LabelMap([]), types)
        message = through_the_wire(identities_to_message(tracks, rows, run, header, types))
        assert message.header == header and len(message.objects) == len(rois.feature_objects)
        return [bytes(np.asarray(item.id.uuid)) for item in message.objects]

    box = (10.0, 10.0, 20.0, 30.0)
    first = identities([1, 2, 12345678901], run, box, box, box)
    assert len(set(first)) == 3 and all(len(one) == 16 for one in first)
    assert identities([2], run, box) == [first[1]]
    assert not set(identities([1, 2], other_run, box, box)) & set(first)
    # A track beside the image has no ROI, so it has no UUID there either.
    assert identities([1, 2], run, (700.0, 0.0, 720.0, 10.0), box) == [first[1]]


@pytest.mark.parametrize(
    "box",
    [
        (-20.0, 5.0, -1.0, 25.0),
        (640.0, 5.0, 660.0, 25.0),
        (5.0, 512.0, 25.0, 600.0),
        (10.0, 10.0, 10.4, 40.0),
        (30.0, 10.0, 20.0, 40.0),
        (np.nan, 0.0, 10.0, 10.0),
        (0.0, 0.0, np.inf, 10.0),
    ],
)
def test_what_has_no_pixel_in_the_image_is_left_out(box: tuple[float, float, float, float]) -> None:
    rois, rows = regions(found(box, (1.0, 2.0, 3.0, 4.0)).boxes, (640, 512))
    assert rois.tolist() == [[1, 2, 2, 2]] and rows.tolist() == [1]


def test_rois_stay_inside_the_image_whatever_the_box() -> None:
    random = np.random.default_rng(0)
    boxes = random.uniform(-2000, 2000, (1000, 4)).astype(np.float32)
    rois, rows = regions(boxes, (640, 512))
    assert 50 < len(rois) == len(rows) < 1000
    assert (rois[:, :2] >= 0).all() and (rois[:, 2:] > 0).all()
    assert ((rois[:, :2] + rois[:, 2:]) <= [640, 512]).all()


def test_without_a_size_the_left_and_upper_edge_still_hold() -> None:
    rois, _ = regions(found((-4.0, -6.0, 1000.0, 900.0), (1e9, 1e9, 2e9, 3e9)).boxes, None)
    assert rois.tolist() == [[0, 0, 1000, 900]]


def test_labels_are_matched_by_name_without_regard_to_case() -> None:
    labels = LabelMap(AutowareOptions().label_map)
    names = ("person", "CAR", "Bicycle", "motorcycle", "bus", "truck", " pedestrian ")
    assert [labels(name) for name in names] == [
        LABELS[name] for name in ("PEDESTRIAN", "CAR", "BICYCLE", "MOTORCYCLE", "BUS", "TRUCK", "PEDESTRIAN")
    ]
    assert not labels.unknown
    assert LabelMap(["Dog: animal", "car:TRUCK", "a:b:BUS"])("dog") == LABELS["ANIMAL"]
    assert LabelMap(["car:TRUCK"])("car") == LABELS["TRUCK"]
    assert LabelMap(["a:b:BUS"])("a:b") == LABELS["BUS"]
    assert [labels("drone"), labels("drone"), labels.unknown["drone"]] == [0, 0, 2]


def test_the_numbers_are_those_of_the_message() -> None:
    msg = pytest.importorskip("autoware_perception_msgs.msg")
    assert {name: getattr(msg.ObjectClassification, name) for name in LABELS} == LABELS


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (("dog",), "'dog', but must be class:LABEL"),
        ((":CAR",), "':CAR', but must be class:LABEL"),
        (("dog:DOG",), "a LABEL among UNKNOWN, CAR"),
        (("dog:ANIMAL", "Dog:HAZARD"), "names the class 'dog' twice"),
    ],
)
def test_a_label_map_that_cannot_be_meant_is_refused(entries: tuple[str, ...], sentence: str) -> None:
    for options in (AutowareOptions, AutowareTrackOptions):
        with pytest.raises(ValueError, match=sentence):
            options(label_map=entries)
