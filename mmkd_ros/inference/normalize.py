"""Letterboxed uint8 images -> the network's float input, on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from mmkd_ros.network import DetectorConfig


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
