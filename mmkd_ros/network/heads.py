"""Class and box heads, shared over the levels, with batch norms of their own per level (EfficientDet's layout)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FOREGROUND_PRIOR = 0.01  # RetinaNet (arXiv 1708.02002, section 3.3): start as if 1 % of the anchors held an object


class Head(nn.Module):
    """``repeats`` separable convolutions and a separable prediction layer.

    Args:
        channels: C of the fused levels.
        outputs: values per anchor.
        anchors: anchors per cell.
    """

    def __init__(self, channels: int, outputs: int, anchors: int, repeats: int, levels: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.depthwise = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False) for _ in range(repeats + 1)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in range(repeats))
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(levels)) for _ in range(repeats)
        )
        self.predict = nn.Conv2d(channels, outputs * anchors, 1)
        self.start_at(torch.zeros(anchors, outputs))

    def start_at(self, values: Tensor) -> None:
        """Make (anchors, outputs) ``values`` the answer of an untrained head."""
        nn.init.normal_(self.predict.weight, std=0.01)
        if self.predict.bias is not None:  # it has one; tells the type checker so
            self.predict.bias.data.copy_(values.flatten())

    def forward(self, levels: list[Tensor]) -> Tensor:
        """[(B, C, H_l, W_l)] -> (B, sum_l H_l W_l anchors, outputs), cells row by row, anchors innermost."""
        predictions = []
        for level, feature in enumerate(levels):
            for depthwise, pointwise, norms in zip(self.depthwise, self.pointwise, self.norms, strict=False):
                feature = F.silu(norms.get_submodule(str(level))(pointwise(depthwise(feature))))
            values = self.predict(self.depthwise[-1](feature))
            predictions.append(values.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, self.outputs)))
        return torch.cat(predictions, dim=1)


def build_class_head(channels: int, classes: int, anchors: int, repeats: int, levels: int) -> Head:
    """Logits over ``classes`` + background (last); starts with the foreground prior."""
    head = Head(channels, classes + 1, anchors, repeats, levels)
    start = torch.zeros(anchors, classes + 1)
    start[:, classes] = math.log((1.0 - FOREGROUND_PRIOR) * classes / FOREGROUND_PRIOR)
    head.start_at(start)
    return head


def build_box_head(channels: int, anchors: int, repeats: int, levels: int) -> Head:
    """Four anchor offsets, see :mod:`mmkd_ros.network.anchors`; starts at the anchors themselves."""
    return Head(channels, 4, anchors, repeats, levels)
