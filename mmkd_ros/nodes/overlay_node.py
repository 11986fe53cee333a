"""Draws tracks into the images they belong to, on the topic ``overlay``, while somebody looks at it."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from mmkd_ros.drawing import Overlay, Scene, objects_from_message
from mmkd_ros.messages import stamp_nanoseconds
from mmkd_ros.nodes.images import CameraImage, CameraTopic
from mmkd_ros.nodes.lifecycle import ManagedNode, run
from mmkd_ros.nodes.qos import RESULTS
from mmkd_ros.pairing import Sensor
from mmkd_ros.parameters import OverlayParameters

_CAMERAS: tuple[Sensor, Sensor] = ("rgb", "thermal")
_OUTPUT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)
_LEAST_HEIGHT = 64


class OverlayNode(ManagedNode[OverlayParameters]):
    """Subscribes to images and tracks only while ``overlay`` has a subscriber: an unwatched picture costs nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__("overlay_node", OverlayParameters, **options)
        self._publisher: Any = None
        self._active = False
        self._cameras: list[CameraTopic] = []
        self._tracks: Any = None
        self._images: dict[Sensor, OrderedDict[int, CameraImage]] = {camera: OrderedDict() for camera in _CAMERAS}
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
        if watched and self._tracks is None:
            self._overlay = None
            self._cameras = [self._subscribe(camera) for camera in _CAMERAS]
            self._tracks = self.create_subscription(Detection2DArray, "tracks", self._draw, RESULTS)
        elif not watched and self._tracks is not None:
            self.destroy_subscription(self._tracks)
            self._tracks = None
            while self._cameras:
                self._cameras.pop().destroy()
            for images in self._images.values():
                images.clear()

    def _subscribe(self, camera: Sensor) -> CameraTopic:
        options, images = self.parameters, self._images[camera]

        def keep(image: CameraImage) -> None:
            images[image.stamp_ns] = image
            while len(images) > options.image_cache:
                images.popitem(last=False)

        topic, compressed = getattr(options, f"{camera}_topic"), getattr(options, f"{camera}_compressed")
        return CameraTopic(self, camera, topic, compressed, options.image_reliability, keep)

    def _draw(self, tracks: Any) -> None:
        scene = self._scene(tracks)
        if scene is None:
            self.get_logger().debug("The images of these tracks are gone; raise image_cache if this goes on.")
            return
        if self._overlay is None:
            height = round(scene.size[1] * self.parameters.scale)
            self._overlay = Overlay(max(_LEAST_HEIGHT, height), self.parameters.trail_s, self.parameters.thermal_panel)
        self._overlay.advance(scene)
        picture = self._overlay.render(scene)
        message = Image(header=tracks.header, encoding="bgr8", is_bigendian=0)
        message.height, message.width = picture.shape[:2]
        message.step = message.width * 3
        message.data = picture.tobytes()
        self._publisher.publish(message)

    def _scene(self, tracks: Any) -> Scene | None:
        """Tracks with the RGB image of their stamp and the thermal image nearest to it; None without any image."""
        stamp = stamp_nanoseconds(tracks.header)
        rgb, heat = self._images["rgb"].get(stamp), self._images["thermal"]
        near = [other for other in heat if abs(other - stamp) <= self.parameters.slop_s * 1e9]
        thermal = heat[min(near, key=lambda other: abs(other - stamp))] if near else None
        if rgb is None and thermal is None:
            return None
        objects = objects_from_message(tracks)
        return Scene(
            None if rgb is None else rgb.pixels,
            None if thermal is None else thermal.pixels,
            objects,
            stamp / 1e9,
            f"{stamp / 1e9:.2f} s    {len(objects)} tracked",
        )


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal comes."""
    return run(OverlayNode, args)


if __name__ == "__main__":
    sys.exit(main())
