"""The newest images of both cameras, to find those that a result belongs to. No ROS, safe across threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from mmkd_ros.pairing import Sensor


class Stamped(Protocol):
    """What is kept: an image that knows its stamp and frame."""

    @property
    def stamp_ns(self) -> int: ...
    @property
    def frame_id(self) -> str: ...


T = TypeVar("T", bound=Stamped)

# A thermal image is taken for the source of a result only if the RGB camera has been silent around it for so long.
_SILENCE_NS = 1_000_000_000


class ImageCache(Generic[T]):
    """A bounded number of images of each camera, by stamp.

    Args:
        size: images kept of each camera; the oldest to arrive go first.
        slop_s: largest distance in seconds of the thermal image that goes with an RGB image.
    """

    def __init__(self, size: int, slop_s: float) -> None:
        self._size, self._slop_ns = size, round(slop_s * 1e9)
        self._images: dict[Sensor, OrderedDict[int, T]] = {"rgb": OrderedDict(), "thermal": OrderedDict()}
        self._lock = threading.Lock()

    def keep(self, sensor: Sensor, image: T) -> None:
        """Take one image; a second one with the same stamp replaces the first."""
        with self._lock:
            images = self._images[sensor]
            images[image.stamp_ns] = image
            while len(images) > self._size:
                images.popitem(last=False)

    def find(self, stamp_ns: int, frame_id: str) -> tuple[T | None, T | None]:
        """The (RGB, thermal) images that a result with this header was made from; (None, None) when they are gone.

        The RGB image has the very stamp of the result, and the thermal image is the one nearest to it within the slop.
        Without RGB, the thermal image must have the stamp and the frame, and the RGB camera must have been silent: else
        the boxes are in the pixels of an RGB image that never came here.
        """
        with self._lock:
            rgb, thermal = self._images["rgb"], self._images["thermal"]
            if stamp_ns in rgb:
                near = min(thermal, key=lambda stamp: abs(stamp - stamp_ns), default=None)
                close = near is not None and abs(near - stamp_ns) <= self._slop_ns
                return rgb[stamp_ns], thermal[near] if near is not None and close else None
            alone = thermal.get(stamp_ns)
            if alone is None or alone.frame_id != frame_id:
                return None, None
            if any(abs(stamp - stamp_ns) < _SILENCE_NS and rgb[stamp].frame_id == frame_id for stamp in rgb):
                return None, None
            return None, alone
