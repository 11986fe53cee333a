"""A thermal image onto the RGB grid: one remap with a table that is made once."""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np

from mmkd_ros.imaging import Thermal
from mmkd_ros.registration.geometry import Size, covered, source_pixels
from mmkd_ros.registration.options import RegistrationOptions, require_size

FILL = 127
"""Grey of RGB pixels that the thermal camera does not see: the network's padding, zero after its normalisation."""
MIN_COVERAGE = 0.1
"""Least fraction of the RGB image that a registration must cover."""


class Registration:
    """Warps thermal images of one size onto the grid of RGB images of one size.

    RGB pixels that the thermal camera does not see get ``FILL``; in 16-bit counts, the middle of the image's robust
    range, which ``thermal_to_uint8`` turns into about that grey. (Repeating the border instead would draw streaks that
    look like objects.)

    Args:
        options: numbers for images of ``options.rgb_size`` and ``options.thermal_size``. Images binned or enlarged by
            the same factor in x and y are served by scaling the numbers.
        thermal_size: (width, height) of the images that come.
        rgb_size: (width, height) of the grid that they go to.

    Attributes:
        coverage: fraction of the RGB image that the thermal image covers.
        cost_ms: median time of one warp in milliseconds, measured when it is made.

    Raises:
        ValueError: sizes of another aspect, a singular or mirroring map, one that folds the image over, or a coverage
            below ``MIN_COVERAGE``.
    """

    def __init__(self, options: RegistrationOptions, thermal_size: Size, rgb_size: Size) -> None:
        require_size("The size of the thermal image", thermal_size)
        require_size("The size of the RGB image", rgb_size)
        self.options, self.thermal_size, self.rgb_size = options, thermal_size, rgb_size
        self.coverage, self._table = 1.0, None
        if options.mode != "identity":
            source = source_pixels(options, thermal_size, rgb_size)
            self.coverage = float(covered(source, thermal_size).mean())
            if self.coverage < MIN_COVERAGE:
                raise ValueError(
                    f"The thermal image covers {self.coverage:.1%} of the RGB image, but must cover "
                    f"{MIN_COVERAGE:.0%}; the numbers map thermal to RGB, are they the inverse?"
                )
            # The table holds 16-bit numbers; what lies outside is outside wherever it lies.
            inside = np.clip(np.nan_to_num(source, nan=-2.0, posinf=-2.0, neginf=-2.0), -2, np.add(thermal_size, 2))
            x, y = (np.ascontiguousarray(inside[..., k], np.float32) for k in (0, 1))
            self._table = cv2.convertMaps(x, y, cv2.CV_16SC2)
        blank = np.zeros((thermal_size[1], thermal_size[0]), np.uint8)
        self.cost_ms = float(np.median([self._milliseconds(blank) for _ in range(3)]))

    def __call__(self, thermal: Thermal) -> Thermal:
        """Warp one image.

        Args:
            thermal: (h, w) uint8 or uint16.

        Returns:
            (H, W) of the same dtype on the RGB grid; the same array, not a copy, where nothing moves.

        Raises:
            ValueError: an image of another size or dtype.
        """
        if thermal.shape != self.thermal_size[::-1] or thermal.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"This registration takes (H, W) = {self.thermal_size[::-1]} uint8 or uint16, got {thermal.shape} "
                f"{thermal.dtype}; make another one for that size."
            )
        if self._table is None:
            if self.thermal_size == self.rgb_size:
                return thermal
            stretched: Any = cv2.resize(thermal, self.rgb_size, interpolation=cv2.INTER_LINEAR)
            return np.asarray(stretched)
        fill = float(FILL)
        if thermal.dtype == np.uint16:
            fill = float(np.mean(np.percentile(thermal[::4, ::4], (1, 99))))
        points, fractions = self._table
        warped: Any = cv2.remap(thermal, points, fractions, cv2.INTER_LINEAR, None, cv2.BORDER_CONSTANT, fill)
        return np.asarray(warped)

    def _milliseconds(self, image: Thermal) -> float:
        started = time.perf_counter()
        self(image)
        return (time.perf_counter() - started) * 1e3
