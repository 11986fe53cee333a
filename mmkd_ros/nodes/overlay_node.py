"""Draws tracks into the images they belong to, on the topic ``overlay``, while somebody looks at it."""

from __future__ import annotations

import sys
from typing import Any

from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import String
from vision_msgs.msg import Detection2DArray

from mmkd_ros.drawing import Overlay, Scene, caption, objects_from_message
from mmkd_ros.image_cache import ImageCache
from mmkd_ros.messages import stamp_nanoseconds
from mmkd_ros.nodes.distribution import WatchedPublisher
from mmkd_ros.nodes.images import CameraImage, CameraTopic, image_pair, subscribe_cameras
from mmkd_ros.nodes.lifecycle import ManagedNode, run
from mmkd_ros.nodes.qos import LATCHED, RESULTS
from mmkd_ros.nodes.topics import require_distinct
from mmkd_ros.pairing import Sensor
from mmkd_ros.parameters import OverlayParameters
from mmkd_ros.registration import PairAligner, RegistrationError

_OUTPUT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)
_LEAST_HEIGHT = 64


class OverlayNode(ManagedNode[OverlayParameters]):
    """Subscribes to images and tracks only while ``overlay`` has a subscriber: an unwatched picture costs nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__("overlay_node", OverlayParameters, **options)
        self._publisher: WatchedPublisher | None = None
        self._active = False
        self._cameras: dict[Sensor, CameraTopic] = {}
        self._images: ImageCache[CameraImage] = ImageCache(1, 0.0)
        self._tracks: Any = None
        self._modality: Any = None
        self._used = ""
        self._overlay: Overlay | None = None

    def configure(self) -> None:
        require_distinct(self, self.parameters.rgb_topic, self.parameters.thermal_topic, "overlay")
        self._align = PairAligner(self.parameters.registration)
        self._publisher = WatchedPublisher(self, Image, "overlay", _OUTPUT, self._look)

    def activate(self) -> None:
        self._active = True
        self._look()

    def deactivate(self) -> None:
        self._active = False
        self._look()

    def cleanup(self) -> None:
        if self._publisher is not None:
            self._publisher.destroy()
            self._publisher = None

    def _look(self) -> None:
        """Subscribe or unsubscribe, as somebody looks or nobody does."""
        watched = self._active and self._publisher is not None and self._publisher.subscribers() > 0
        if watched and self._tracks is None:
            self._overlay, self._used = None, ""
            self._images = ImageCache(self.parameters.image_cache, self.parameters.slop_s)
            self._cameras = subscribe_cameras(self, self.parameters, self._images.keep)
            self._modality = self.create_subscription(String, "detection_node/modality", self._note_modality, LATCHED)
            self._tracks = self.create_subscription(Detection2DArray, "tracks", self._draw, RESULTS)
        elif not watched and self._tracks is not None:
            self.destroy_subscription(self._tracks)
            self.destroy_subscription(self._modality)
            self._tracks = self._modality = None
            for camera in self._cameras.values():
                camera.destroy()
            self._cameras, self._images = {}, ImageCache(1, 0.0)

    def _note_modality(self, message: String) -> None:
        self._used = message.data

    def _draw(self, tracks: Any) -> None:
        if self._publisher is None:
            return
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
        """Tracks with the images that they were made from; None when those are gone."""
        stamp = stamp_nanoseconds(tracks.header)
        rgb, thermal = self._images.find(stamp, tracks.header.frame_id)
        if rgb is None and thermal is None:
            return None
        objects = objects_from_message(tracks)
        pair = image_pair(rgb, thermal, stamp / 1e9)
        try:
            pair = self._align(pair)
        except RegistrationError as error:
            self.get_logger().error(f"A thermal image is not drawn: {error}", throttle_duration_sec=10.0)
            return None
        latency_s = (self.get_clock().now().nanoseconds - stamp) / 1e9
        note = caption(stamp / 1e9, len(objects), latency_s)
        return Scene(pair.rgb, pair.thermal, objects, stamp / 1e9, note, self._used)


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal comes."""
    return run(OverlayNode, args)


if __name__ == "__main__":
    sys.exit(main())
