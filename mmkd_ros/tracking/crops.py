"""What the appearance network sees: the RGB and the thermal crop of every box, and the configuration they follow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_ros.imaging import thermal_to_uint8
from mmkd_ros.types import ImagePair

_MIN_CROP_PX = 2  # a crop thinner than this shows nothing


@dataclass(frozen=True, slots=True)
class AppearanceConfig:
    """Everything that defines the embedding network; stored in the weights file.

    Attributes:
        height: of the resized crop in pixels.
        width: of the resized crop in pixels.
        stem: channels after the first convolution.
        blocks: channels of the residual blocks; each halves the map.
        stripes: horizontal stripes that the last map is averaged in.
        dimension: length D of the vector.
        mean: of the channels R, G, B, thermal in 0..1; subtracted.
        std: of the same channels; divides.
        level_thermal: subtract each thermal crop's own mean instead: gain control moves the brightness of a picture.

    Raises:
        ValueError: a size that gives no network.
    """

    height: int = 64
    width: int = 32
    stem: int = 32
    blocks: tuple[int, ...] = (48, 64)
    stripes: int = 4
    dimension: int = 64
    mean: tuple[float, ...] = (0.45, 0.45, 0.45, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)
    level_thermal: bool = False

    def __post_init__(self) -> None:
        stride = 2 ** (1 + len(self.blocks))
        if self.height % stride or self.width % stride or min(self.height, self.width) < stride:
            raise ValueError(f"The crop size {self.height}x{self.width} must be a multiple of {stride}.")
        if (self.height // stride) % self.stripes:
            raise ValueError(f"{self.stripes} stripes do not divide the last map's height {self.height // stride}.")
        channels = (self.stem, self.dimension, *self.blocks)
        if min(channels) < 1 or max(channels) > 512 or max(self.height, self.width) > 1024:
            raise ValueError("Channels and dimension must be 1 to 512, and crops at most 1024 pixels a side.")
        if len(self.mean) != 4 or len(self.std) != 4 or min(self.std) <= 0:
            raise ValueError("mean and std need four values, std above zero.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AppearanceConfig:
        """Build from JSON values (lists become tuples).

        Raises:
            TypeError: unknown or badly typed entries.
            ValueError: a size that gives no network.
        """
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(values).items()}
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def cut_crops(
    pair: ImagePair, boxes: NDArray[np.float32], config: AppearanceConfig
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Cut, resize and normalise what the boxes show in both images.

    Args:
        pair: the images; a thermal image of another size is taken to see the same field of view.
        boxes: (N, 4) x1 y1 x2 y2 in pixels of the RGB image (of the thermal image without RGB); may stick out.

    Returns:
        crops: (N, 4, height, width) float32, channels R, G, B, thermal; zeros for a missing modality.
        valid: (N,) bool, False where the box is not finite or shows fewer than 2 x 2 pixels.

    Raises:
        ValueError: boxes of another shape.
    """
    exact: NDArray[np.float64] = np.asarray(boxes, dtype=np.float64)
    if exact.ndim != 2 or exact.shape[1] != 4:
        raise ValueError(f"boxes must be (N, 4), got {exact.shape}.")
    n, size = len(exact), (config.width, config.height)
    crops = np.zeros((n, 4, config.height, config.width), np.float32)
    valid: NDArray[np.bool_] = np.asarray(np.isfinite(exact).all(axis=1))
    mean = np.asarray(config.mean, np.float32)
    scale = 1 / np.asarray(config.std, np.float32)
    frame_height, frame_width = pair.size
    if pair.rgb is not None:
        corners, shown = _clip_to_pixels(exact, valid, frame_height, frame_width)
        valid &= shown
        for i in np.flatnonzero(valid):
            x1, y1, x2, y2 = corners[i]
            crop = _resize(pair.rgb[y1:y2, x1:x2], size) * np.float32(1 / 255)
            crops[i, :3] = ((crop - mean[:3]) * scale[:3]).transpose(2, 0, 1)
    if pair.thermal is not None:
        height, width = pair.thermal.shape
        stretched = exact * np.asarray([width / frame_width, height / frame_height] * 2)
        corners, shown = _clip_to_pixels(stretched, valid, height, width)
        if pair.rgb is None:
            valid &= shown
        thermal = thermal_to_uint8(pair.thermal)
        for i in np.flatnonzero(valid & shown):
            x1, y1, x2, y2 = corners[i]
            crop = _resize(thermal[y1:y2, x1:x2], size) * np.float32(1 / 255)
            crops[i, 3] = (crop - (crop.mean() if config.level_thermal else mean[3])) * scale[3]
    return crops, valid


def _clip_to_pixels(
    boxes: NDArray[np.float64], finite: NDArray[np.bool_], height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Whole-pixel corners inside the image, and which boxes show enough pixels."""
    limits = np.asarray([width, height, width, height], np.float64)
    safe = np.where(finite[:, None], boxes, 0.0)
    corners = np.rint(np.clip(safe, 0, limits)).astype(np.int64)
    shown = (corners[:, 2:] - corners[:, :2] >= _MIN_CROP_PX).all(axis=1)
    return corners, shown & finite


def _resize(crop: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize to (width, height); averaging where it shrinks, so that fine texture does not alias."""
    shrinks = crop.shape[0] > size[1] and crop.shape[1] > size[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(crop), size, interpolation=interpolation).astype(np.float32)
