"""One camera's topic: messages become arrays, and those that cannot be used are counted and said."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from mmkd_ros import imaging
from mmkd_ros.doctor.finding import Section
from mmkd_ros.imaging import Converter, ImagingError
from mmkd_ros.messages import stamp_nanoseconds, stamp_seconds
from mmkd_ros.nodes.image_type import carries_compressed
from mmkd_ros.nodes.qos import image_qos, mismatch_warning
from mmkd_ros.pairing import Sensor
from mmkd_ros.types import ImagePair


@dataclass(frozen=True, slots=True, eq=False)
class CameraImage:
    """An image with the header that its results must carry.

    Attributes:
        pixels: (H, W, 3) uint8 red first, or thermal (H, W) uint8 or uint16; a view of the message, not to be written.
        header: of the message.
    """

    pixels: NDArray[Any]
    header: Header

    @property
    def stamp(self) -> float:
        """Seconds."""
        return stamp_seconds(self.header)

    @property
    def stamp_ns(self) -> int:
        """Exact stamp in nanoseconds."""
        return stamp_nanoseconds(self.header)

    @property
    def frame_id(self) -> str:
        """Frame of the camera."""
        return str(self.header.frame_id)


def image_pair(rgb: CameraImage | None, thermal: CameraImage | None, stamp: float) -> ImagePair:
    """The pixels of two cameras' images as one pair; either may be None, not both."""
    return ImagePair(rgb.pixels if rgb else None, thermal.pixels if thermal else None, stamp)


class CameraOptions(Protocol):
    """The parameters that every node with camera inputs has."""

    @property
    def rgb_topic(self) -> str: ...
    @property
    def thermal_topic(self) -> str: ...
    @property
    def rgb_compressed(self) -> bool: ...
    @property
    def thermal_compressed(self) -> bool: ...
    @property
    def image_reliability(self) -> str: ...


class CameraTopic:
    """A subscription to Image or CompressedImage.

    Attributes:
        name: of the topic.
        received: messages that came, good or bad.
        rejected: number of bad ones by reason (see ``ImagingError``).
        failing: the last message was a bad one.
        last_error: the sentence of the last bad one, empty before.

    Args:
        node: that subscribes.
        sensor: which camera.
        topic: its name.
        compressed: the type is CompressedImage, unless a publisher that is there already tells otherwise.
        reliability: ``best_effort`` or ``reliable``.
        receive: called with each good image.
    """

    def __init__(
        self,
        node: Node,
        sensor: Sensor,
        topic: str,
        compressed: bool,
        reliability: str,
        receive: Callable[[CameraImage], None],
    ) -> None:
        self.name = topic
        self.received = 0
        self.failing = False
        self.rejected: Counter[str] = Counter()
        self.last_error = ""
        self._node, self._sensor, self._receive = node, sensor, receive
        self._compressed = carries_compressed(node, topic, compressed)
        self._subscription = node.create_subscription(
            CompressedImage if self._compressed else Image,
            topic,
            self._take,
            image_qos(reliability),
            event_callbacks=mismatch_warning(node, topic),
        )

    def destroy(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def _take(self, message: Any) -> None:
        self.received += 1
        try:
            pixels = self._read(message)
        except ImagingError as error:
            self.rejected[error.reason] += 1
            self.failing, self.last_error = True, str(error)
            total = self.rejected.total()
            self._node.get_logger().warning(
                f"{self.name}: {error} ({total} of {self.received} images rejected so far). See {Section.IMAGE.link}",
                throttle_duration_sec=5.0,
            )
            return
        self.failing = False
        self._receive(CameraImage(pixels, message.header))

    def _read(self, message: Any) -> NDArray[Any]:
        if self._compressed:
            read = imaging.rgb_from_compressed if self._sensor == "rgb" else imaging.thermal_from_compressed
            return read(message)
        converter = cv_bridge_converter() if imaging.needs_converter(message.encoding) else None
        if self._sensor == "rgb":
            return imaging.rgb_from_image(message, converter)
        return imaging.thermal_from_image(message, converter)


def subscribe_cameras(
    node: Node, options: CameraOptions, receive: Callable[[Sensor, CameraImage], None]
) -> dict[Sensor, CameraTopic]:
    """Subscribe to both cameras as a node's parameters say; ``receive`` gets each good image and whose it is."""
    return {
        "rgb": CameraTopic(
            node,
            "rgb",
            options.rgb_topic,
            options.rgb_compressed,
            options.image_reliability,
            functools.partial(receive, "rgb"),
        ),
        "thermal": CameraTopic(
            node,
            "thermal",
            options.thermal_topic,
            options.thermal_compressed,
            options.image_reliability,
            functools.partial(receive, "thermal"),
        ),
    }


@functools.cache
def cv_bridge_converter() -> Converter | None:
    """cv_bridge, where it is installed and really works; asked for once, when the first unusual encoding comes."""
    sample = Image(height=2, width=2, encoding="bayer_rggb8", step=2, data=[10, 20, 30, 40])
    try:
        from cv_bridge import CvBridge

        convert = CvBridge().imgmsg_to_cv2
        # Its compiled half may be built for another numpy: it then imports and fails at work, or answers nonsense.
        image = np.asarray(convert(sample, "rgb8"))
    except Exception:  # ImportError, or whatever a mismatched extension raises
        return None
    return convert if image.shape == (2, 2, 3) and image.dtype == np.uint8 else None
