"""Where RGB and thermal meet: one fusion per pyramid level, (B, C, H, W) twice -> (B, C, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd_ros.network.config import Fusion


class ConcatFusion(nn.Module):
    """Batch norm and SiLU of a 1x1 convolution of the concatenation. A missing modality enters as zeros."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Equal shapes (B, C, H, W) in, the same shape out."""
        return F.silu(self.norm(self.conv(torch.cat((rgb, thermal), dim=1))))


class WeightedFusion(nn.Module):
    """Per-channel softmax weights over the two modalities, then a 1x1 convolution, batch norm and SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.balance = nn.Parameter(torch.zeros(2, channels, 1, 1))
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Equal shapes (B, C, H, W) in, the same shape out."""
        weights = self.balance.softmax(dim=0)
        return F.silu(self.norm(self.conv(weights[0] * rgb + weights[1] * thermal)))


def build_fusion(kind: Fusion, channels: int) -> nn.Module:
    """The fusion of one level."""
    return ConcatFusion(channels) if kind == "concat" else WeightedFusion(channels)
