"""BiFPN (Tan et al., EfficientDet, arXiv 1911.09070, section 3): P3..P7 of one modality, refined top-down and
bottom-up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SeparableConv(nn.Sequential):
    """Depthwise 3x3, pointwise 1x1, batch norm: (B, C, H, W) -> (B, out, H, W)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )


class FastNormalizedFusion(nn.Module):
    """sum_i w_i x_i / (sum_i w_i + eps) with w = relu(weights) (EfficientDet, section 3.3), then SiLU and a
    separable conv."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.conv = SeparableConv(channels, channels)

    def forward(self, *features: Tensor) -> Tensor:
        """Equal shapes (B, C, H, W) in, the same shape out."""
        weights = F.relu(self.weights)
        weights = weights / (weights.sum() + 1e-4)
        total = features[0] * weights[0]
        for index in range(1, len(features)):
            total = total + features[index] * weights[index]
        fused: Tensor = self.conv(F.silu(total))
        return fused


def _down(feature: Tensor) -> Tensor:
    return F.max_pool2d(feature, 3, stride=2, padding=1)


def _up(feature: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(feature, size=like.shape[-2:], mode="nearest")


class BiFPNLayer(nn.Module):
    """One top-down and one bottom-up pass over the levels."""

    def __init__(self, levels: int, channels: int) -> None:
        super().__init__()
        self.top_down = nn.ModuleList(FastNormalizedFusion(2, channels) for _ in range(levels - 1))
        self.bottom_up = nn.ModuleList(
            FastNormalizedFusion(3 if level < levels - 1 else 2, channels) for level in range(1, levels)
        )

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """[(B, C, H_l, W_l)] fine to coarse, same shapes out."""
        top_down = list(inputs)
        for level in range(len(inputs) - 2, -1, -1):
            top_down[level] = self.top_down[level](inputs[level], _up(top_down[level + 1], inputs[level]))
        outputs = [top_down[0]]
        for level in range(1, len(inputs)):
            sources = [inputs[level], _down(outputs[-1])]
            if level < len(inputs) - 1:
                sources.insert(1, top_down[level])
            outputs.append(self.bottom_up[level - 1](*sources))
        return outputs


class BiFPN(nn.Module):
    """[C3, C4, C5] of a backbone -> [P3, ..., P7], all with ``channels`` channels."""

    def __init__(self, in_channels: Sequence[int], channels: int, repeats: int, levels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels)) for width in in_channels
        )
        self.extra = nn.Sequential(nn.Conv2d(in_channels[-1], channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.extra_levels = levels - len(in_channels)
        self.layers = nn.ModuleList(BiFPNLayer(levels, channels) for _ in range(repeats))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """[(B, c_k, H/s_k, W/s_k)] -> [(B, channels, H/s, W/s)] for s = 8, 16, 32, 64, 128 (rounded up)."""
        pyramid = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        coarse = self.extra(features[-1])  # noqa: S610 - not Django
        for _ in range(self.extra_levels):
            coarse = _down(coarse)
            pyramid.append(coarse)
        for layer in self.layers:
            pyramid = layer(pyramid)
        return pyramid
