"""Measures what the doctor judges: the middleware, the message types, and the two image topics for a few seconds.

A process of its own, since a middleware that does not fit ends the process that imports it; writes one line of JSON
(`ProbeReport`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.type_support import check_for_type_support
from sensor_msgs.msg import CompressedImage, Image

from mmkd_ros import imaging
from mmkd_ros.doctor.topics import COMPRESSED, IMAGE, CameraFacts, Offer, ProbeReport
from mmkd_ros.imaging import ImagingError
from mmkd_ros.messages import stamp_seconds
from mmkd_ros.nodes.images import cv_bridge_converter
from mmkd_ros.nodes.qos import image_qos

_TYPES = {IMAGE: Image, COMPRESSED: CompressedImage}
# Takes what any publisher offers, and does not lose an image while another one is looked at.
_OPEN_EARS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


class _Camera:
    """One topic: its publishers, and what it sends from the moment its type is known."""

    def __init__(self, node: Node, camera: str, topic: str, reliability: str) -> None:
        self._node, self._camera, self._asked = node, camera, image_qos(reliability)
        self.topic = node.resolve_topic_name(topic)
        self._stamps: list[float] = []
        self._arrivals: list[float] = []
        self._last: Any = None
        self._subscription: Any = None

    def listen(self) -> bool:
        """Subscribe as soon as an image type is offered; whether any publisher is there."""
        offers = self.offers()
        kind = next((_TYPES[offer.type] for offer in offers if offer.type in _TYPES), None)
        if self._subscription is None and kind is not None:
            self._subscription = self._node.create_subscription(kind, self.topic, self._take, _OPEN_EARS)
        return bool(offers)

    def offers(self) -> list[Offer]:
        return [self._offer(info) for info in self._node.get_publishers_info_by_topic(self.topic)]

    def facts(self, window_s: float) -> CameraFacts:
        """What was found out in so many seconds."""
        facts = partial(CameraFacts, self.topic, self.offers(), window_s, self._stamps, self._arrivals)
        if self._last is None:
            return facts()
        encoding = str(self._last.format if isinstance(self._last, CompressedImage) else self._last.encoding)[:64]
        try:
            height, width = _read(self._camera, self._last).shape[:2]
        except ImagingError as error:
            return facts(encoding=encoding, problem=str(error))
        return facts(encoding=encoding, size=(width, height))

    def _take(self, message: Any) -> None:
        self._arrivals.append(time.time())
        self._stamps.append(stamp_seconds(message.header))
        self._last = message

    def _offer(self, info: Any) -> Offer:
        compatibility, reason = qos_check_compatible(info.qos_profile, self._asked)
        # Compared by value: the answer is not the object of this name.
        misfit = compatibility == QoSCompatibility.ERROR
        return Offer(
            node=f"{info.node_namespace.rstrip('/')}/{info.node_name}",
            type=info.topic_type,
            reliability=info.qos_profile.reliability.name.lower(),
            durability=info.qos_profile.durability.name.lower(),
            mismatch=reason.removeprefix("ERROR: ").strip(" ;") if misfit else "",
        )


def probe(topics: dict[str, str], reliability: str, patience_s: float, window_s: float) -> ProbeReport:
    """Look at the system.

    Args:
        topics: by camera, ``rgb`` and ``thermal``; may be empty.
        reliability: that the nodes ask of the image publishers.
        patience_s: longest wait in seconds until both topics have a publisher.
        window_s: seconds to listen from then on.
    """
    middleware, messages = rclpy.get_rmw_implementation_identifier(), message_problems()
    if not topics:
        return ProbeReport(middleware, messages)
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("mmkd_doctor", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        cameras = {name: _Camera(node, name, topic, reliability) for name, topic in topics.items()}
        deadline = time.monotonic() + patience_s
        while not all([camera.listen() for camera in cameras.values()]) and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.05)
        begun = time.monotonic()
        while time.monotonic() < begun + window_s:
            executor.spin_once(timeout_sec=0.05)
        window_s = time.monotonic() - begun
        published = [name for name, kinds in node.get_topic_names_and_types() if set(kinds) & set(_TYPES)]
        image_topics = sorted(name for name in published if node.count_publishers(name))
        facts = {name: camera.facts(window_s) for name, camera in cameras.items()}
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    return ProbeReport(middleware, messages, image_topics, facts)


def message_problems() -> dict[str, str]:
    """What is wrong with the types that the nodes exchange, by name; empty texts where nothing is."""
    problems = {}
    for name, load in {"sensor_msgs/Image": lambda: Image, "vision_msgs/Detection2DArray": _detections}.items():
        try:
            check_for_type_support(load())
            problems[name] = ""
        except Exception as error:  # a package that is absent, or a library of it that does not load
            problems[name] = f"{type(error).__name__}: {error}"
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report: 0, or an end with a traceback where ROS does not work."""
    parser = argparse.ArgumentParser(description="Measure what the doctor judges.")
    parser.add_argument("--rgb", default="", help="topic of the RGB images")
    parser.add_argument("--thermal", default="", help="topic of the thermal images")
    parser.add_argument("--reliability", default="best_effort", choices=("best_effort", "reliable"))
    parser.add_argument("--patience", type=float, default=5.0, help="longest wait in seconds for publishers")
    parser.add_argument("--window", type=float, default=2.5, help="seconds to listen")
    given = parser.parse_args(arguments)
    topics = {camera: topic for camera, topic in (("rgb", given.rgb), ("thermal", given.thermal)) if topic}
    print(probe(topics, given.reliability, given.patience, given.window).to_json())
    return 0


def _read(camera: str, message: Any) -> Any:
    """The image as the nodes read it."""
    if isinstance(message, CompressedImage):
        return (imaging.rgb_from_compressed if camera == "rgb" else imaging.thermal_from_compressed)(message)
    converter = None if message.encoding in imaging.PLAIN_ENCODINGS else cv_bridge_converter()
    return (imaging.rgb_from_image if camera == "rgb" else imaging.thermal_from_image)(message, converter)


def _detections() -> Any:
    from vision_msgs.msg import Detection2DArray

    return Detection2DArray


if __name__ == "__main__":
    sys.exit(main())
