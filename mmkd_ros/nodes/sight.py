"""What the tracker node sees in the images of its detections: the looks of the objects, and how the camera moved."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.impl.rcutils_logger import RcutilsLogger
from std_msgs.msg import Header

from mmkd_ros.image_cache import ImageCache
from mmkd_ros.messages import stamp_nanoseconds
from mmkd_ros.nodes.images import CameraImage, image_pair
from mmkd_ros.pairing import Sensor
from mmkd_ros.parameters import TrackerParameters
from mmkd_ros.registration import PairAligner, RegistrationError
from mmkd_ros.tracking import TrackerOptions
from mmkd_ros.tracking.camera_motion import CameraMotion
from mmkd_ros.tracking.screening import worth_a_look
from mmkd_ros.types import Detections, ImagePair

Looks = NDArray[np.float32]
Motion = NDArray[np.float64]


class Sight:
    """Keeps the newest images and looks at those that belong to a detection message. ``keep`` may be called from
    another thread than the rest.

    Attributes:
        wants_images: whether there is anything to do with them.
        counts: frames ``with_appearance``, and ``motion_only`` where objects could not be looked at.

    Args:
        options: of the tracker node.
        encoder: the ``AppearanceEncoder``, or None to compare no looks.
        logger: of the node.
    """

    def __init__(self, options: TrackerParameters, encoder: Any, logger: RcutilsLogger) -> None:
        self._encoder, self._logger = encoder, logger
        self._camera = CameraMotion() if options.tracker.motion_compensation == "affine" else None
        self._align = PairAligner(options.registration)
        self._cache: ImageCache[CameraImage] = ImageCache(options.image_cache, options.slop_s)
        self.wants_images = encoder is not None or self._camera is not None
        self.counts: Counter[str] = Counter()

    def keep(self, sensor: Sensor, image: CameraImage) -> None:
        """Take an image until its detections come."""
        if self.wants_images:
            self._cache.keep(sensor, image)

    def reset(self) -> None:
        """The recording or the clock started again: nothing is compared with the frame before."""
        if self._camera is not None:
            self._camera.reset()

    def look(
        self, header: Header, detections: Detections, options: TrackerOptions
    ) -> tuple[Looks | None, Motion | None]:
        """Vectors (N, D) of the objects, zeros for those that the tracker's options leave out of the comparison, and
        the motion (2, 3) of the camera; None where they cannot be told: the tracker then goes by the boxes alone."""
        looking = self._encoder is not None and len(detections) > 0
        if not looking and self._camera is None:
            return None, None
        pair = self._images(header, detections.stamp)
        looks = self._looks(pair, detections, options) if looking and pair is not None else None
        if looking:
            self.counts["with_appearance" if looks is not None else "motion_only"] += 1
        if pair is None or self._camera is None:
            return looks, None
        return looks, self._camera.estimate(pair, detections.boxes)

    def figures(self) -> dict[str, int]:
        """For the diagnostics."""
        figures = {key: self.counts[key] for key in ("with_appearance", "motion_only")}
        if self._camera is not None:
            figures |= {f"camera_motion.{key}": n for key, n in (self._camera.used + self._camera.skipped).items()}
        return figures

    def _images(self, header: Header, stamp: float) -> ImagePair | None:
        """The images of the detections, thermal brought to the pixels of RGB."""
        rgb, thermal = self._cache.find(stamp_nanoseconds(header), header.frame_id)
        if rgb is None and thermal is None:
            self._logger.warning(
                "The images of some detections have not come here, so these are tracked by motion alone; if this goes "
                "on, check rgb_topic and thermal_topic, or raise image_cache.",
                throttle_duration_sec=10.0,
            )
            return None
        try:
            return self._align(image_pair(rgb, thermal, stamp))
        except RegistrationError as error:
            self._complain(error)
            return None

    def _looks(self, pair: ImagePair, detections: Detections, options: TrackerOptions) -> Looks | None:
        chosen = worth_a_look(detections.scores, options)
        vectors: Looks = np.zeros((len(detections), self._encoder.dimension), np.float32)
        try:
            vectors[chosen] = self._encoder.encode(pair, detections.boxes[chosen])
            return vectors
        except RuntimeError as error:  # torch's device errors; motion still works
            self._complain(error)
            return None

    def _complain(self, error: Exception) -> None:
        self._logger.error(f"Appearance cannot be used: {error}", throttle_duration_sec=10.0)
