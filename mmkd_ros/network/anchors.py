"""Anchor boxes, and the offsets between a box and its anchor (Faster R-CNN, arXiv 1506.01497, eq. 2, scaled as
SSD does)."""

from __future__ import annotations

import torch
from torch import Tensor

from mmkd_ros.network.config import DetectorConfig

# Typical size of each offset, so that smooth L1 sees values near 1 (SSD's "variances").
OFFSET_STD = (0.1, 0.1, 0.2, 0.2)
_MAX_LOG_RATIO = 4.135  # log(1000 / 16): keeps exp() finite


def make_anchors(config: DetectorConfig, height: int, width: int) -> Tensor:
    """All anchors of an input, in the heads' order.

    Args:
        config: scale, octaves, ratios and levels.
        height, width: of the network's input in pixels.

    Returns:
        (A, 4) float32 xyxy in input pixels.
    """
    shapes = torch.tensor(
        [
            (2 ** (octave / config.anchor_octaves) * ratio**0.5, 2 ** (octave / config.anchor_octaves) / ratio**0.5)
            for octave in range(config.anchor_octaves)
            for ratio in config.anchor_ratios
        ]
    )
    levels = []
    for stride in config.strides:
        rows, columns = -(-height // stride), -(-width // stride)
        y = (torch.arange(rows) + 0.5) * stride
        x = (torch.arange(columns) + 0.5) * stride
        centers = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 1, 2)
        half = shapes * (config.anchor_scale * stride / 2)
        levels.append(torch.cat((centers - half, centers + half), dim=-1).reshape(-1, 4))
    return torch.cat(levels)


def anchors_per_level(config: DetectorConfig, height: int, width: int) -> list[int]:
    """How many of :func:`make_anchors`' rows belong to each level."""
    return [-(-height // stride) * -(-width // stride) * config.anchors_per_cell for stride in config.strides]


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(..., 4) xyxy boxes relative to (..., 4) xyxy anchors -> (..., 4) offsets (dx, dy, dw, dh)."""
    size, anchor = boxes[..., 2:] - boxes[..., :2], anchors[..., 2:] - anchors[..., :2]
    shift = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / 2 / anchor
    offsets = torch.cat((shift, torch.log(size.clamp_min(1e-3) / anchor)), dim=-1)
    return offsets / offsets.new_tensor(OFFSET_STD)


def decode_boxes(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Inverse of :func:`encode_boxes`: (..., 4) offsets -> (..., 4) xyxy in input pixels."""
    offsets = offsets * offsets.new_tensor(OFFSET_STD)
    anchor = anchors[..., 2:] - anchors[..., :2]
    center = (anchors[..., :2] + anchors[..., 2:]) / 2 + offsets[..., :2] * anchor
    half = anchor * torch.exp(offsets[..., 2:].clamp(max=_MAX_LOG_RATIO)) / 2
    return torch.cat((center - half, center + half), dim=-1)
