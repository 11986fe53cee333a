"""Detections and tracks -> Autoware's 2D messages: regions of interest in whole pixels, and one UUID a track.

In: boxes in pixels of the RGB image. Out: ``tier4_perception_msgs/DetectedObjectsWithFeature``, as Autoware's fusion
nodes take it on ``rois{i}``, and ``DynamicObjectArray``, as its bytetrack publishes the UUIDs. What a camera does not
measure (pose, velocity, size in metres) stays unset. No ROS import: the message classes are handed in.
"""

from __future__ import annotations

import copy
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.imaging import MAX_SIDE
from mmkd_ros.option import option
from mmkd_ros.tracking.identity import track_uuid
from mmkd_ros.types import Detections, Tracks

# autoware_perception_msgs/ObjectClassification
_NAMES = "UNKNOWN CAR TRUCK BUS TRAILER MOTORCYCLE BICYCLE PEDESTRIAN ANIMAL HAZARD OVER_DRIVABLE UNDER_DRIVABLE"
LABELS = {name: number for number, name in enumerate(_NAMES.split())}


@dataclass(frozen=True, slots=True)
class AutowareTypes:
    """The message classes to build.

    Attributes:
        rois: tier4_perception_msgs/DetectedObjectsWithFeature.
        roi: tier4_perception_msgs/DetectedObjectWithFeature.
        classification: autoware_perception_msgs/ObjectClassification.
        identities: tier4_perception_msgs/DynamicObjectArray.
        identity: tier4_perception_msgs/DynamicObject.
    """

    rois: Any
    roi: Any
    classification: Any
    identities: Any
    identity: Any


@dataclass(frozen=True, slots=True)
class CameraView:
    """The camera whose pixels the ROIs are in: its frame, and the size of its images."""

    frame_id: str
    width: int
    height: int


class LabelMap:
    """Class names -> the numbers of Autoware's labels, whatever the case of the letters.

    Args:
        entries: ``class:LABEL`` for each class that Autoware calls otherwise; its own labels need no entry.

    Attributes:
        unknown: how many objects of a class that has no label became UNKNOWN.

    Raises:
        ValueError: an entry that is not of that form, names no label of Autoware, or names a class again.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self.unknown: Counter[str] = Counter()
        self._labels = {name.lower(): number for name, number in LABELS.items()}
        given: set[str] = set()
        for entry in entries:
            name, colon, label = entry.rpartition(":")
            name, label = name.strip().lower(), label.strip().upper()
            if not colon or not name or label not in LABELS:
                raise ValueError(
                    f"output.label_map holds '{entry}', but must be class:LABEL with a LABEL among {', '.join(LABELS)}."
                )
            if name in given:
                raise ValueError(f"output.label_map names the class '{name}' twice; keep one of the entries.")
            given.add(name)
            self._labels[name] = LABELS[label]

    def __call__(self, name: str) -> int:
        """The label of one object; UNKNOWN for a class that has none, which is counted."""
        label = self._labels.get(name.strip().lower())
        if label is None:
            self.unknown[name] += 1
            return LABELS["UNKNOWN"]
        return label


@dataclass(frozen=True)
class AutowareOptions:
    """What the detection node publishes for Autoware.

    Raises:
        ValueError: a label map that :class:`LabelMap` refuses.
    """

    autoware: bool = option(False, "also publish Autoware's messages: ~/output/rois and its latency topics")
    label_map: tuple[str, ...] = option(
        ("person:PEDESTRIAN",), "class:LABEL for each class that Autoware calls otherwise; others become UNKNOWN"
    )

    def __post_init__(self) -> None:
        LabelMap(self.label_map)


@dataclass(frozen=True)
class AutowareTrackOptions(AutowareOptions):
    """What the tracker node publishes for Autoware."""

    camera_info_topic: str = option(
        "/rgb/camera_info", "CameraInfo of the RGB camera: frame of the tracked ROIs, and size to cut them at"
    )


def regions(boxes: NDArray[np.float32], size: tuple[int, int] | None) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Boxes as whole pixels inside the image.

    Args:
        boxes: (N, 4), x1 y1 x2 y2 in pixels; edges go to the nearest whole pixel.
        size: (width, height) of the image; None cuts at the left and the upper edge alone.

    Returns:
        (K, 4) x_offset, y_offset, width, height, and the K rows of ``boxes`` that they came from: the others have no
        pixel inside the image, or are not finite.
    """
    limit = np.array(size or (MAX_SIDE, MAX_SIDE), np.float64)
    corners = boxes.astype(np.float64)
    corners[~np.isfinite(corners).all(axis=1)] = 0
    corners = np.clip(np.rint(corners).reshape(-1, 2, 2), 0, limit).astype(np.int64)
    sides = corners[:, 1] - corners[:, 0]
    rows = np.flatnonzero((sides > 0).all(axis=1))
    return np.concatenate((corners[rows, 0], sides[rows]), axis=1), rows


def rois_to_message(
    objects: Detections | Tracks, header: Any, size: tuple[int, int] | None, labels: LabelMap, types: AutowareTypes
) -> tuple[Any, NDArray[np.intp]]:
    """Build a DetectedObjectsWithFeature; an empty one when there is no object.

    Args:
        objects: boxes in pixels of the image that ``header`` belongs to.
        header: std_msgs/Header of that image.
        size: its (width, height), as for :func:`regions`.
        labels: translates and counts the class names.
        types: the message classes.

    Returns:
        The message, and the rows of ``objects`` that it holds.
    """
    message = types.rois(header=header)
    boxes, rows = regions(objects.boxes, size)
    # An object carries a point cloud and a pose with covariances that we never set. Shallow copies share them.
    bare = types.roi()
    region_type = type(bare.feature.roi)
    for (x, y, width, height), row in zip(boxes.tolist(), rows.tolist(), strict=True):
        item = copy.copy(bare)
        item.object, item.feature = copy.copy(bare.object), copy.copy(bare.feature)
        item.object.existence_probability = float(objects.scores[row])
        label = labels(objects.class_names[objects.labels[row]])
        item.object.classification = [types.classification(label=label, probability=1.0)]
        item.feature.roi = region_type(x_offset=x, y_offset=y, width=width, height=height)
        message.feature_objects.append(item)
    return message, rows


def identities_to_message(
    tracks: Tracks, rows: NDArray[np.intp], run: uuid.UUID, header: Any, types: AutowareTypes
) -> Any:
    """Build the DynamicObjectArray beside the ROIs: the UUID of the n-th object is that of the n-th ROI.

    Args:
        tracks: whose ids they are.
        rows: of the tracks that have a ROI.
        run: of the tracker (``DeepSort.run``), so that no UUID is used again by another run.
        header: of the ROIs.
        types: the message classes.
    """
    message = types.identities(header=header)
    bare = types.identity()
    for row in rows.tolist():
        item = copy.copy(bare)
        item.id = type(bare.id)(uuid=np.frombuffer(track_uuid(run, int(tracks.ids[row])), np.uint8))
        message.objects.append(item)
    return message
