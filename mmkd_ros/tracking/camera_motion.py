"""How the camera moved between two frames: images in, an affine map of the pixels out, for ``DeepSort.update``.

Corners outside the boxes of the last frame are followed into this one by sparse optical flow (Shi and Tomasi 1994;
Lucas and Kanade 1981 in pyramids), and a similarity (turn, scale, shift) is fitted to them by RANSAC, so that what
moves by itself is outvoted: the camera-motion compensation of Aharon, Orfaig, Bobrovsky, "BoT-SORT", 2022, section 3.2.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_ros.imaging import thermal_to_uint8
from mmkd_ros.types import ImagePair

_LONG_SIDE = 320  # pixels that the images are shrunk to
_CORNERS = 200
_QUALITY, _DISTANCE = 0.02, 6  # of the weakest corner relative to the strongest; pixels between two
_MIN_CONTRAST = 2.0  # standard deviation in grey levels; below, the image shows nothing
_MIN_POINTS = 12
_INLIER_PX = 1.0  # in the shrunk image
_MIN_INLIERS = 0.4  # share of the followed corners
_MAX_TURN, _MAX_SCALE = 0.35, 1.25  # radians and factor between two frames; more is a wrong fit
_MASKED = 0.1  # a box is taken to be so much larger on each side, as a share of it
_MASK_LIMIT = 0.6  # boxes that cover more of the image hide nothing: the corners on them are all there is


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """An image of the last frame, shrunk and grey (h, w) uint8, and corners (K, 1, 2) float32 in it."""

    grey: NDArray[np.uint8]
    corners: NDArray[np.float32]


class CameraMotion:
    """Estimates the motion from one call to the next; one object per stream.

    The RGB image is asked first, then the thermal one: at night, or when the RGB camera is silent, thermal still sees
    edges.

    Attributes:
        used: estimates by the image that gave them, ``rgb`` or ``thermal``.
        skipped: frames without an estimate by reason: ``first`` (nothing to compare with), ``blank`` (no image shows
            corners enough), ``flow`` (they were not found again), ``model`` (no motion that enough of them share),
            ``late`` (not later than the frame before, which stays).
    """

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.reset()

    def reset(self) -> None:
        """Forget the last frame."""
        self._last: dict[str, _View] = {}
        self._stamp = -math.inf

    def estimate(self, pair: ImagePair, boxes: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Motion since the frame of the call before.

        Args:
            pair: the images; a thermal image of another size is taken to see the same field of view.
            boxes: (N, 4) x1 y1 x2 y2 in pixels of the RGB image (of the thermal image without RGB): what may move by
                itself. What is not finite is passed over.

        Returns:
            (2, 3) float64, maps pixels (x, y, 1) of the frame before to this one, in the pixels of the boxes; None
            where it cannot be told, which is counted.
        """
        if not pair.stamp > self._stamp:
            self.skipped["late"] += 1
            return None
        self._stamp = pair.stamp
        height, width = pair.size
        shares = np.asarray(boxes, np.float64)
        shares = shares[np.isfinite(shares).all(axis=1)] / (width, height, width, height)
        last, self._last = self._last, {}
        found: NDArray[np.float64] | None = None
        reason = "blank" if last else "first"
        for sensor, image in (("rgb", pair.rgb), ("thermal", pair.thermal)):
            if image is None:
                continue
            grey = _shrunk(image)
            if found is None and sensor in last and last[sensor].grey.shape == grey.shape:
                motion = _fit(last[sensor], grey)
                if isinstance(motion, str):
                    reason = motion
                else:
                    h, w = grey.shape
                    found = _rescaled(motion, width / w, height / h)
                    self.used[sensor] += 1
            corners = _corners(grey, shares)
            if corners is not None:
                self._last[sensor] = _View(grey, corners)
        if found is None:
            self.skipped[reason] += 1
        return found


def _shrunk(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 or thermal (H, W) -> grey uint8 of at most 320 pixels a side."""
    grey = thermal_to_uint8(image) if image.ndim == 2 else image
    factor = min(1.0, _LONG_SIDE / max(grey.shape[:2]))
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    small = cv2.resize(np.ascontiguousarray(grey), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _corners(grey: NDArray[np.uint8], shares: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Corners (K, 1, 2) outside the boxes, which are in shares of the image; None where there are too few."""
    if float(grey.std()) < _MIN_CONTRAST:
        return None
    h, w = grey.shape
    mask = np.full((h, w), 255, np.uint8)
    margin = (shares[:, 2:] - shares[:, :2]) * _MASKED
    low = np.clip(np.floor((shares[:, :2] - margin) * (w, h)), 0, (w, h)).astype(int)
    high = np.clip(np.ceil((shares[:, 2:] + margin) * (w, h)), 0, (w, h)).astype(int)
    for (x1, y1), (x2, y2) in zip(low, high, strict=True):
        mask[y1:y2, x1:x2] = 0
    free = mask if np.count_nonzero(mask) > (1 - _MASK_LIMIT) * mask.size else None
    corners = cv2.goodFeaturesToTrack(grey, _CORNERS, _QUALITY, _DISTANCE, mask=free)
    return None if corners is None or len(corners) < _MIN_POINTS else np.asarray(corners, np.float32)


def _fit(last: _View, grey: NDArray[np.uint8]) -> NDArray[np.float64] | str:
    """The similarity (2, 3) from the last view to this one, or why there is none."""
    start = np.zeros_like(last.corners)
    there, status, _ = cv2.calcOpticalFlowPyrLK(last.grey, grey, last.corners, start)
    kept = status[:, 0] == 1
    if kept.sum() < _MIN_POINTS:
        return "flow"
    motion, inliers = cv2.estimateAffinePartial2D(
        last.corners[kept], there[kept], method=cv2.RANSAC, ransacReprojThreshold=_INLIER_PX
    )
    if motion is None or inliers.sum() < max(_MIN_POINTS, _MIN_INLIERS * kept.sum()):
        return "model"
    scale = float(np.hypot(motion[0, 0], motion[1, 0]))
    turn = float(np.arctan2(motion[1, 0], motion[0, 0]))
    if not (1 / _MAX_SCALE < scale < _MAX_SCALE and abs(turn) < _MAX_TURN):
        return "model"
    return np.asarray(motion, np.float64)


def _rescaled(motion: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    """The motion in an image that is x times as wide and y times as high."""
    zoom = np.array([x, y])
    return np.column_stack((motion[:, :2] * zoom[:, None] / zoom, motion[:, 2] * zoom))
