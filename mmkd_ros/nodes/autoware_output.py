"""What the detection and the tracker node publish for Autoware, under their own names.

``~/output/rois`` (to be remapped to ``rois{i}``) with the objects of every image; from the tracker also
``~/output/rois/debug/uuid``, one UUID a ROI; and the times that Autoware's tools collect. Autoware's message packages
are imported only when they are asked for, and by name: they are no dependency of this package.
"""

from __future__ import annotations

import dataclasses
import importlib
import uuid
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from mmkd_ros.autoware import (
    AutowareOptions,
    AutowareTrackOptions,
    AutowareTypes,
    CameraView,
    LabelMap,
    identities_to_message,
    rois_to_message,
)
from mmkd_ros.nodes.qos import RESULTS, image_qos
from mmkd_ros.nodes.telemetry import AutowareTimes
from mmkd_ros.types import Detections, Tracks


class AutowareOutput:
    """Publishes ROIs in pixels of the RGB image, whichever camera they come from: that is the one whose CameraInfo the
    fusion nodes have. Without ``options.autoware`` it imports, makes and publishes nothing.

    Args:
        node: under whose name the topics are.
        options: those of the detection node, or those of the tracker node with the topic of the CameraInfo.
        registered: boxes of a lone thermal image are in RGB pixels too (registration mode other than ``identity``).

    Raises:
        RuntimeError: Autoware's message packages cannot be imported.
    """

    def __init__(self, node: Node, options: AutowareOptions, *, registered: bool) -> None:
        self._on, self._node, self._registered = options.autoware, node, registered
        if not self._on:
            return
        self._types, float64 = _load_types()
        self._labels = LabelMap(options.label_map)
        self._told: set[str] = set()
        self._held_back = self._empty_rois = 0
        self._view: CameraView | None = None
        self._times = AutowareTimes(node, float64)
        self._rois = node.create_publisher(self._types.rois, "~/output/rois", RESULTS)
        self._identities: Any = None
        self._camera_info: Any = None
        if isinstance(options, AutowareTrackOptions):
            self._identities = node.create_publisher(self._types.identities, "~/output/rois/debug/uuid", RESULTS)
            topic, qos = options.camera_info_topic, image_qos("best_effort")
            self._camera_info = node.create_subscription(CameraInfo, topic, self._take_camera_info, qos)

    def publish_detections(
        self, detections: Detections, header: Header, size: tuple[int, int], *, lone_thermal: bool, begun: float
    ) -> None:
        """The objects of one image. Those of a lone thermal image are stretched to the last RGB image, whose view it
        shows; before the first RGB image they are held back.

        Args:
            detections: boxes in pixels of an image of ``size``.
            header: of the image.
            size: (height, width) in pixels.
            lone_thermal: the image is a thermal one.
            begun: ``time.monotonic()`` when the work on the image began.
        """
        if not self._on:
            return
        height, width = size
        if not lone_thermal:
            self._view = CameraView(header.frame_id, width, height)
        view = self._view
        if view is None:
            self._hold_back("no RGB image has come yet, in whose pixels they would have to be")
            return
        if (width, height) != (view.width, view.height):
            stretch = [view.width / width, view.height / height] * 2
            detections = dataclasses.replace(detections, boxes=(detections.boxes * stretch).astype("float32"))
        self._publish(detections, Header(stamp=header.stamp, frame_id=view.frame_id), view, begun)

    def publish_tracks(self, tracks: Tracks, run: uuid.UUID, header: Header, begun: float) -> None:
        """The tracks of one image, and their UUIDs. Which frame the RGB camera has and where its image ends is known
        from its CameraInfo; until one has come, ROIs are cut at the left and the upper edge alone.

        Args:
            tracks: boxes in pixels of the image.
            run: of the tracker, ``DeepSort.run``.
            header: of the image.
            begun: ``time.monotonic()`` when the work on the detections began.
        """
        if not self._on:
            return
        view = self._view
        if view is None:
            self._node.get_logger().warning(
                f"No CameraInfo has come yet on {self._camera_info.topic_name}: ROIs are not cut at the right and the "
                "lower edge of the image.",
                throttle_duration_sec=10.0,
            )
        elif header.frame_id != view.frame_id:
            if not self._registered:
                self._hold_back(
                    f"their frame is '{header.frame_id}', that on {self._camera_info.topic_name} '{view.frame_id}'; if "
                    "RGB is at work, let output.camera_info_topic name its CameraInfo"
                )
                return
            header = Header(stamp=header.stamp, frame_id=view.frame_id)
        rows = self._publish(tracks, header, view, begun)
        if self._identities.get_subscription_count():  # for debugging, and nearly as dear as the ROIs
            self._identities.publish(identities_to_message(tracks, rows, run, header, self._types))

    def figures(self) -> dict[str, object]:
        """Counters for /diagnostics: messages held back, boxes without a pixel in the image, objects without a label
        of Autoware."""
        if not self._on:
            return {}
        return {
            "autoware.held_back": self._held_back,
            "autoware.outside": self._empty_rois,
            "autoware.unknown_label": self._labels.unknown.total(),
        }

    def destroy(self) -> None:
        """Take the topics away."""
        if not self._on:
            return
        self._times.destroy()
        self._node.destroy_publisher(self._rois)
        if self._camera_info is not None:
            self._node.destroy_publisher(self._identities)
            self._node.destroy_subscription(self._camera_info)

    def _publish(self, objects: Detections | Tracks, header: Header, view: CameraView | None, begun: float) -> Any:
        size = None if view is None else (view.width, view.height)
        message, rows = rois_to_message(objects, header, size, self._labels, self._types)
        self._rois.publish(message)
        self._empty_rois += len(objects) - len(rows)
        self._tell_unknown()
        self._times.published(begun, header)
        return rows

    def _tell_unknown(self) -> None:
        """Name each class without a label once."""
        news = self._labels.unknown.keys() - self._told
        self._told |= news
        for name in sorted(news):
            self._node.get_logger().warning(
                f"Autoware has no label for the class '{name}', so it goes out as UNKNOWN; an entry '{name}:LABEL' in "
                "output.label_map gives it one."
            )

    def _hold_back(self, reason: str) -> None:
        self._held_back += 1
        self._node.get_logger().warning(f"ROIs are held back: {reason}.", throttle_duration_sec=10.0)

    def _take_camera_info(self, info: CameraInfo) -> None:
        if info.width and info.height:
            self._view = CameraView(info.header.frame_id, info.width, info.height)


def _load_types() -> tuple[AutowareTypes, Any]:
    """Autoware's message classes, and its stamped float.

    Raises:
        RuntimeError: a package is missing.
    """
    try:
        tier4 = importlib.import_module("tier4_perception_msgs.msg")
        autoware = importlib.import_module("autoware_perception_msgs.msg")
        debug = importlib.import_module("autoware_internal_debug_msgs.msg")
    except ImportError as error:
        raise RuntimeError(
            f"output.autoware is true, but {error.name or error} cannot be imported; source Autoware's workspace "
            "before the start, or set output.autoware to false."
        ) from error
    types = AutowareTypes(
        tier4.DetectedObjectsWithFeature,
        tier4.DetectedObjectWithFeature,
        autoware.ObjectClassification,
        tier4.DynamicObjectArray,
        tier4.DynamicObject,
    )
    return types, debug.Float64Stamped
