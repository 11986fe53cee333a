"""Registers the pairs of a running node: tables made when a size comes first, sizes that do not fit refused once and
remembered."""

from __future__ import annotations

from dataclasses import replace

from mmkd_ros.imaging import thermal_to_uint8
from mmkd_ros.registration.geometry import Size
from mmkd_ros.registration.options import RegistrationOptions
from mmkd_ros.registration.warp import Registration
from mmkd_ros.types import ImagePair


class RegistrationError(ValueError):
    """A lone thermal image cannot be brought onto the RGB grid; the sentence says why."""


class PairAligner:
    """Brings the thermal image of a pair onto the RGB grid, for good: box, crop and picture then share one frame.

    A thermal image that comes alone goes onto the grid of the last RGB image (before the first one, of the size that
    the numbers refer to), so that boxes and tracks do not jump when the RGB camera falls silent.

    Args:
        options: mode ``identity`` leaves every pair as it is.

    Attributes:
        registration: the one in use, None before the first and in mode ``identity``.
        refused: number of thermal images that did not fit, and ``reason`` why the last of them did not.

    Raises:
        ValueError: numbers that no image could be registered with, see :class:`Registration`.
    """

    def __init__(self, options: RegistrationOptions) -> None:
        self._options = options
        self.registration: Registration | None = None
        self.refused = 0
        self.reason = ""
        self._made: dict[tuple[Size, Size], Registration | str] = {}
        if options.mode != "identity":
            self._rgb_size: Size = (options.rgb_size[0], options.rgb_size[1])
            thermal_size: Size = (options.thermal_size[0], options.thermal_size[1])
            # Made at once: bad numbers are refused here, and the sizes that will most likely come need no second table.
            self._made[thermal_size, self._rgb_size] = Registration(options, thermal_size, self._rgb_size)

    def __call__(self, pair: ImagePair) -> ImagePair:
        """The pair with its thermal image registered; the same object where nothing is to be done. Where it does not
        fit, RGB goes on alone: a picture in the wrong place is worse than none.

        Raises:
            RegistrationError: there is no RGB image to go on with.
        """
        if self._options.mode == "identity":
            return pair
        if pair.rgb is not None:
            self._rgb_size = (pair.rgb.shape[1], pair.rgb.shape[0])
        if pair.thermal is None:
            return pair
        made = self._get((pair.thermal.shape[1], pair.thermal.shape[0]), self._rgb_size)
        if isinstance(made, Registration):
            self.registration = made
            return replace(pair, thermal=made(thermal_to_uint8(pair.thermal)))
        self.refused, self.reason = self.refused + 1, made
        if pair.rgb is None:
            raise RegistrationError(made)
        return replace(pair, thermal=None)

    def _get(self, thermal_size: Size, rgb_size: Size) -> Registration | str:
        """The registration for these sizes, or why there is none."""
        key = (thermal_size, rgb_size)
        if key not in self._made:
            if len(self._made) >= 8:  # a source that changes its size all the time must not fill the memory
                self._made.clear()
            try:
                self._made[key] = Registration(self._options, thermal_size, rgb_size)
            except ValueError as error:
                self._made[key] = str(error)
        return self._made[key]
