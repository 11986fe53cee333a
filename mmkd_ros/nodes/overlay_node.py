"""Draws tracks into the images they belong to, on the topic ``overlay``, while somebody looks at it."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from mmkd_ros import imaging
from mmkd_ros.drawing import Overlay, Scene, objects_from_message
from mmkd_ros.nodes.lifecycle import ManagedNode, run
from mmkd_ros.nodes.qos import RESULTS, image_qos, mismatch_warning
from mmkd_ros.parameters import OverlayParameters

_CAMERAS = ("rgb", "thermal")
_OUTPUT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)
_LEAST_HEIGHT = 64


class OverlayNode(ManagedNode[OverlayParameters]):
    """Subscribes to images and tracks only while ``overlay`` has a subscriber: an unwatched picture costs nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__("overlay_node", OverlayParameters, **options)
        self._publisher: Any = None
        self._active = False
        self._inputs: list[Any] = []
        # Messages as they came, by stamp in ns: most images are never drawn, so none is converted before its tracks.
        self._images: dict[str, OrderedDict[int, Any]] = {camera: OrderedDict() for camera in _CAMERAS}
        self._overlay: Overlay | None = None

    def configure(self) -> None:
        events = PublisherEventCallbacks(matched=lambda _: self._look())
        self._publisher = self.create_lifecycle_publisher(Image, "overlay", _OUTPUT, event_callbacks=events)

    def activate(self) -> None:
        self._active = True
        self._look()

    def deactivate(self) -> None:
        self._active = False
        self._look()

    def cleanup(self) -> None:
        if self._publisher is not None:
            self.destroy_publisher(self._publisher)
            self._publisher = None

    def _look(self) -> None:
        """Subscribe or unsubscribe, as somebody looks or nobody does."""
        watched = self._active and self._publisher is not None and self._publisher.get_subscription_count() > 0
        if watched and not self._inputs:
            for camera in _CAMERAS:
                self._inputs.append(self._subscribe(camera))
            self._inputs.append(self.create_subscription(Detection2DArray, "tracks", self._draw, RESULTS))
            self._overlay = None
        elif not watched and self._inputs:
            while self._inputs:
                self.destroy_subscription(self._inputs.pop())
            for images in self._images.values():
                images.clear()

    def _subscribe(self, camera: str) -> Any:
        topic = getattr(self.parameters, f"{camera}_topic")
        compressed = getattr(self.parameters, f"{camera}_compressed") or topic.endswith("/compressed")
        return self.create_subscription(
            CompressedImage if compressed else Image,
            topic,
            lambda message: self._keep(camera, message),
            image_qos(self.parameters.image_reliability),
            event_callbacks=mismatch_warning(self, topic),
        )

    def _keep(self, camera: str, message: Any) -> None:
        images = self._images[camera]
        images[_stamp_ns(message)] = message
        while len(images) > self.parameters.image_cache:
            images.popitem(last=False)

    def _draw(self, tracks: Any) -> None:
        stamp = _stamp_ns(tracks)
        rgb, thermal = self._images["rgb"].get(stamp), self._nearest_thermal(stamp)
        if rgb is None and thermal is None:
            self.get_logger().debug("The images of these tracks are gone; raise image_cache if this goes on.")
            return
        try:
            scene = self._scene(rgb, thermal, tracks, stamp / 1e9)
        except imaging.ImagingError as error:
            self.get_logger().warning(f"Not drawn: {error}", throttle_duration_sec=5.0)
            return
        if self._overlay is None:
            image = scene.rgb if scene.rgb is not None else scene.thermal
            height = round((image.shape[0] if image is not None else 0) * self.parameters.scale)
            self._overlay = Overlay(max(_LEAST_HEIGHT, height), self.parameters.trail_s, self.parameters.thermal_panel)
        self._overlay.advance(scene)
        picture = self._overlay.render(scene)
        message = Image(header=tracks.header, encoding="bgr8", is_bigendian=0)
        message.height, message.width = picture.shape[:2]
        message.step = message.width * 3
        message.data = picture.tobytes()
        self._publisher.publish(message)

    def _nearest_thermal(self, stamp: int) -> Any:
        stamps = self._images["thermal"]
        nearest = min(stamps, key=lambda other: abs(other - stamp), default=None)
        if nearest is None or abs(nearest - stamp) > self.parameters.slop_s * 1e9:
            return None
        return stamps[nearest]

    def _scene(self, rgb: Any, thermal: Any, tracks: Any, stamp: float) -> Scene:
        """Decode the images; raises ImagingError."""
        objects = objects_from_message(tracks)
        colour = heat = None
        if rgb is not None:
            colour = imaging.rgb_from_image(rgb) if hasattr(rgb, "encoding") else imaging.rgb_from_compressed(rgb)
        if thermal is not None and (self.parameters.thermal_panel or rgb is None):
            plain = hasattr(thermal, "encoding")
            heat = imaging.thermal_from_image(thermal) if plain else imaging.thermal_from_compressed(thermal)
        modality = "thermal" if rgb is None else "rgb" if thermal is None else "both"
        return Scene(colour, heat, objects, stamp, modality, f"{stamp:.2f} s    {len(objects)} tracked")


def _stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal comes."""
    return run(OverlayNode, args)


if __name__ == "__main__":
    sys.exit(main())
