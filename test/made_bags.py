"""Serialised messages for bags that tests make up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmkd_ros import bags
from mmkd_ros.drawing import DrawnObject

SECOND = 10**9


def detection_array(stamp_ns: int, objects: list[DrawnObject]) -> bytes:
    """A Detection2DArray with the header of an RGB camera."""
    types: Any = bags.typestore().types
    vision: Any = {name: types[f"vision_msgs/msg/{name}"] for name in bags._VISION_MSGS}
    header = types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND),
        frame_id="rgb_camera",
    )
    geometry: Any = {
        name: types[f"geometry_msgs/msg/{name}"] for name in ("Pose", "PoseWithCovariance", "Point", "Quaternion")
    }
    pose = geometry["PoseWithCovariance"](
        pose=geometry["Pose"](
            position=geometry["Point"](0.0, 0.0, 0.0), orientation=geometry["Quaternion"](0.0, 0.0, 0.0, 1.0)
        ),
        covariance=np.zeros(36),
    )
    detections = []
    for drawn in objects:
        x1, y1, x2, y2 = drawn.box
        centre = vision["Pose2D"](position=vision["Point2D"](x=(x1 + x2) / 2, y=(y1 + y2) / 2), theta=0.0)
        hypothesis = vision["ObjectHypothesis"](class_id=drawn.name, score=drawn.score)
        detections.append(
            vision["Detection2D"](
                header=header,
                results=[vision["ObjectHypothesisWithPose"](hypothesis=hypothesis, pose=pose)],
                bbox=vision["BoundingBox2D"](center=centre, size_x=x2 - x1, size_y=y2 - y1),
                id=drawn.id,
            )
        )
    return bags.serialize(vision["Detection2DArray"](header=header, detections=detections))


def diagnostics(figures: Mapping[str, str], level: int = 0, name: str = "detection_node") -> bytes:
    """A DiagnosticArray with one status."""
    types: Any = bags.typestore().types
    values = [types["diagnostic_msgs/msg/KeyValue"](key=key, value=value) for key, value in figures.items()]
    status = types["diagnostic_msgs/msg/DiagnosticStatus"](
        level=level, name=name, message="", hardware_id="cpu", values=values
    )
    header = types["std_msgs/msg/Header"](stamp=types["builtin_interfaces/msg/Time"](sec=0, nanosec=0), frame_id="")
    return bags.serialize(types[bags.DIAGNOSTIC_ARRAY](header=header, status=[status]))
