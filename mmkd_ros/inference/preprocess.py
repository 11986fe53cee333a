"""ImagePair -> network input: one resize per image, padding at the right and bottom, normalisation on the device."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_ros.network import DetectorConfig

PAD = 127  # mid grey: what a mean of 0.5 maps to zero


def letterbox(image: NDArray[np.uint8], height: int, width: int) -> tuple[NDArray[np.uint8], float]:
    """Fit an image into (height, width), aspect kept, at the top left.

    Args:
        image: (h, w) or (h, w, 3) uint8, any strides.

    Returns:
        ((height, width[, 3]) uint8, scale) with network pixel = scale * image pixel.
    """
    scale = min(height / image.shape[0], width / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.full((height, width, *image.shape[2:]), PAD, np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=interpolation)
    return canvas, scale


def normalize(images: Tensor, mean: float, std: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, H, W) or (B, H, W, 3) uint8 -> (B, 1 or 3, H, W) ``dtype`` with value (x / 255 - mean) / std."""
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return images.to(dtype).sub(255.0 * mean).mul(1.0 / (255.0 * std))


def network_inputs(
    rgb: Tensor | None, thermal: Tensor | None, config: DetectorConfig, dtype: torch.dtype = torch.float32
) -> tuple[Tensor | None, Tensor | None]:
    """(B, H, W, 3) and (B, H, W) uint8 on any device -> normalised network inputs; None stays None."""
    return (
        None if rgb is None else normalize(rgb, config.rgb_mean, config.rgb_std, dtype),
        None if thermal is None else normalize(thermal, config.thermal_mean, config.thermal_std, dtype),
    )
