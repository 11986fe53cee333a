"""Detections and tracks <-> vision_msgs/Detection2DArray. No ROS import: the message classes are handed in.

A velocity has no place in vision_msgs and is left out; who needs it differentiates the boxes of one id by their stamps.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmkd_ros.types import Detections, Tracks


@dataclass(frozen=True, slots=True)
class MessageTypes:
    """The classes of vision_msgs to build: ``Detection2DArray``, ``Detection2D``, ``ObjectHypothesisWithPose``."""

    array: Any
    detection: Any
    hypothesis: Any


class ClassNames:
    """Names of classes in the order in which they were first seen, so that a label means the same class in every frame.

    Args:
        names: known from the start.
        limit: names beyond are refused: a sender that invents names must not fill the memory.
    """

    def __init__(self, names: tuple[str, ...] = (), limit: int = 1000) -> None:
        self.names = names
        self._limit = limit
        self._labels = {name: label for label, name in enumerate(names)}

    def label(self, name: str) -> int | None:
        """Index of a name, a new one for a new name; None when there are too many."""
        if name not in self._labels:
            if len(self.names) >= self._limit:
                return None
            self._labels[name] = len(self.names)
            self.names = (*self.names, name)
        return self._labels[name]


def stamp_seconds(header: Any) -> float:
    """The stamp of a std_msgs/Header in seconds; for arithmetic only, since a float64 rounds it to about 0.2 us."""
    return float(header.stamp.sec + header.stamp.nanosec * 1e-9)


def stamp_nanoseconds(header: Any) -> int:
    """The exact stamp of a std_msgs/Header in nanoseconds, to find the image that a result belongs to."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def detections_to_message(detections: Detections, header: Any, types: MessageTypes) -> Any:
    """Build a Detection2DArray; an empty one when there are no detections.

    Args:
        detections: boxes in pixels of the image that ``header`` belongs to.
        header: of the source image; becomes that of the array and of every detection.
        types: the message classes.

    Returns:
        The message; ``results[0].hypothesis.class_id`` is the class NAME.
    """
    return _array(detections, [""] * len(detections), header, types)


def tracks_to_message(tracks: Tracks, header: Any, types: MessageTypes) -> Any:
    """Build a Detection2DArray whose ``id`` fields are the track ids in decimal.

    Args:
        tracks: filtered boxes in pixels of the image that ``header`` belongs to.
        header: of the detections that made them.
        types: the message classes.
    """
    return _array(tracks, [str(identity) for identity in tracks.ids.tolist()], header, types)


def _array(objects: Detections | Tracks, ids: list[str], header: Any, types: MessageTypes) -> Any:
    message = types.array(header=header)
    if not ids:
        return message
    # A hypothesis carries a pose with 36 covariances that we never set. Shallow copies share it, and cost a tenth.
    bare_detection, bare_hypothesis = types.detection(header=header), types.hypothesis()
    corners = objects.boxes.astype(np.float64)
    centres = ((corners[:, :2] + corners[:, 2:]) / 2).tolist()
    sizes = (corners[:, 2:] - corners[:, :2]).tolist()
    box_type, name_type = type(bare_detection.bbox), type(bare_hypothesis.hypothesis)
    names = [objects.class_names[label] for label in objects.labels.tolist()]
    rows = zip(ids, names, objects.scores.tolist(), centres, sizes, strict=True)
    for identity, name, score, (x, y), (width, height) in rows:
        detection, hypothesis = copy.copy(bare_detection), copy.copy(bare_hypothesis)
        hypothesis.hypothesis = name_type(class_id=name, score=score)
        detection.results = [hypothesis]
        detection.id = identity
        detection.bbox = box_type(size_x=width, size_y=height)
        detection.bbox.center.position.x, detection.bbox.center.position.y = x, y
        message.detections.append(detection)
    return message


def detections_from_message(message: Any, names: ClassNames) -> tuple[Detections, int]:
    """Read a Detection2DArray, from our detector or any other.

    Args:
        message: boxes in pixels; of several hypotheses the one with the highest score counts.
        names: translates class names to labels and learns new ones.

    Returns:
        The detections, scores descending and as they were sent (the tracker refuses those outside 0..1), and the number
        of those left out because a number was not finite, a side was not positive, there was no hypothesis, or
        ``names`` was full.
    """
    rows: list[tuple[float, float, float, float, float, int]] = []
    for detection in message.detections:
        best = max((result.hypothesis for result in detection.results), key=lambda h: h.score, default=None)
        box = detection.bbox
        x, y, width, height = box.center.position.x, box.center.position.y, box.size_x, box.size_y
        if best is None or not (width > 0 and height > 0 and math.isfinite(x + y + width + height + best.score)):
            continue
        label = names.label(best.class_id)
        if label is None:
            continue
        rows.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2, best.score, label))
    stamp = stamp_seconds(message.header)
    if not rows:
        return Detections.empty(names.names, stamp), len(message.detections)
    table = np.array(rows, np.float64)
    table = table[np.argsort(-table[:, 4], kind="stable")]
    detections = Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int64),
        names.names,
        stamp,
    )
    return detections, len(message.detections) - len(rows)
