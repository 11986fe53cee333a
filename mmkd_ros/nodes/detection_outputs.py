"""What the detection node publishes about objects: ``detections``, for Autoware too, and the names of the classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.node import Node
from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass, VisionInfo

from mmkd_ros.messages import MessageTypes, detections_to_message
from mmkd_ros.nodes.autoware_output import AutowareOutput
from mmkd_ros.nodes.images import CameraImage
from mmkd_ros.nodes.qos import LATCHED, RESULTS
from mmkd_ros.parameters import DetectionParameters
from mmkd_ros.types import Detections, ImagePair

_TYPES = MessageTypes(Detection2DArray, Detection2D, ObjectHypothesisWithPose)


class DetectionOutputs:
    """The topics of one configured detection node.

    Args:
        node: that publishes them.
        options: its parameters.

    Attributes:
        autoware: the part for Autoware, which does nothing unless it is asked for.
        listener: is called with every message of ``detections``, in the thread that publishes it.

    Raises:
        RuntimeError: Autoware's message packages are asked for and missing.
    """

    def __init__(self, node: Node, options: DetectionParameters) -> None:
        self._node = node
        self.listener: Callable[[Detection2DArray], None] | None = None
        self.autoware = AutowareOutput(node, options.output, registered=options.registration.mode != "identity")
        self._detections = node.create_publisher(Detection2DArray, "detections", RESULTS)
        self._labels = node.create_publisher(LabelInfo, "label_info", LATCHED)
        self._vision = node.create_publisher(VisionInfo, "vision_info", LATCHED)

    def tell_labels(self, session: Any, threshold: float, weights: Path) -> None:
        """Names of the classes, the least score and the weights in use, kept for whoever subscribes later."""
        labels = LabelInfo(threshold=threshold)
        labels.class_map = [VisionClass(class_id=n, class_name=name) for n, name in enumerate(session.class_names)]
        vision = VisionInfo(method=f"mmkd_ros {weights.name}", database_location=self._labels.topic_name)
        vision.header.stamp = labels.header.stamp = self._node.get_clock().now().to_msg()
        self._labels.publish(labels)
        self._vision.publish(vision)

    def publish(self, detections: Detections, source: CameraImage, pair: ImagePair, begun: float) -> None:
        """The objects of one pair; boxes are in pixels of ``pair``, the header is that of ``source``, and the work on
        it began at ``begun`` on the monotonic clock."""
        message = detections_to_message(detections, source.header, _TYPES)
        self._detections.publish(message)
        if self.listener is not None:
            self.listener(message)
        lone_thermal = pair.rgb is None
        self.autoware.publish_detections(detections, source.header, pair.size, lone_thermal=lone_thermal, begun=begun)

    def destroy(self) -> None:
        """Take the topics away."""
        self.autoware.destroy()
        for publisher in (self._detections, self._labels, self._vision):
            self._node.destroy_publisher(publisher)
