"""The RGB-thermal detector: two backbones, a BiFPN each, fusion per level, class and box heads."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmkd_ros.network.anchors import make_anchors
from mmkd_ros.network.backbone import Backbone
from mmkd_ros.network.bifpn import BiFPN
from mmkd_ros.network.config import DetectorConfig
from mmkd_ros.network.fusion import build_fusion
from mmkd_ros.network.heads import build_box_head, build_class_head


class DetectorOutput(NamedTuple):
    """What one forward pass gives; the feature lists are what a student is distilled on."""

    logits: Tensor
    """(B, A, C + 1) over the classes and, last, background."""
    offsets: Tensor
    """(B, A, 4) from the anchors."""
    fused: list[Tensor]
    """[(B, bifpn_channels, H/s, W/s)] for P3..P7."""
    rgb: list[Tensor] | None
    """The RGB pyramid before fusion, or None when the modality was not given."""
    thermal: list[Tensor] | None


class Detector(nn.Module):
    """Teacher and student alike: ``Detector(config)``.

    Args:
        config: architecture and input contract.
        pretrained: for both backbones, see :class:`Backbone`.
    """

    def __init__(self, config: DetectorConfig, pretrained: bool | str = False) -> None:
        super().__init__()
        self.config = config
        channels, levels = config.bifpn_channels, len(config.levels)
        self.rgb_backbone = Backbone(config.backbone, 3, pretrained)
        self.thermal_backbone = Backbone(config.backbone, 1, pretrained)
        self.rgb_bifpn = BiFPN(self.rgb_backbone.channels, channels, config.bifpn_repeats, levels)
        self.thermal_bifpn = BiFPN(self.thermal_backbone.channels, channels, config.bifpn_repeats, levels)
        self.fusion = nn.ModuleList(build_fusion(config.fusion, channels) for _ in range(levels))
        classes, anchors = len(config.class_names), config.anchors_per_cell
        self.class_head = build_class_head(channels, classes, anchors, config.head_repeats, levels)
        self.box_head = build_box_head(channels, anchors, config.head_repeats, levels)
        self._anchors: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, rgb: Tensor | None, thermal: Tensor | None, present: Tensor | None = None) -> DetectorOutput:
        """Detect in a batch.

        Args:
            rgb: (B, 3, H, W) float, normalised, or None: the whole batch has no RGB.
            thermal: (B, 1, H, W) float, normalised, or None.
            present: (B, 2) bool, which of (rgb, thermal) each sample has; a missing one costs no computation and
                enters the fusion as zeros. None means all that is given is there.

        Raises:
            ValueError: neither modality is given.
        """
        if rgb is None and thermal is None:
            raise ValueError("The detector needs an RGB or a thermal image; both are None.")
        rgb_pyramid = self._branch(self.rgb_backbone, self.rgb_bifpn, rgb, None if present is None else present[:, 0])
        thermal_pyramid = self._branch(
            self.thermal_backbone, self.thermal_bifpn, thermal, None if present is None else present[:, 1]
        )
        reference = rgb_pyramid if rgb_pyramid is not None else thermal_pyramid
        if reference is None:
            raise ValueError("No sample of the batch has an image: every entry of 'present' is false.")
        zeros = (
            [torch.zeros_like(level) for level in reference] if rgb_pyramid is None or thermal_pyramid is None else []
        )
        fused = [
            fusion(a, b)
            for fusion, a, b in zip(self.fusion, rgb_pyramid or zeros, thermal_pyramid or zeros, strict=True)
        ]
        return DetectorOutput(self.class_head(fused), self.box_head(fused), fused, rgb_pyramid, thermal_pyramid)

    @staticmethod
    def _branch(
        backbone: nn.Module, bifpn: nn.Module, image: Tensor | None, present: Tensor | None
    ) -> list[Tensor] | None:
        """The pyramid of one modality; zeros for the samples that lack it."""
        if image is None:
            return None
        if present is None or bool(present.all()):
            pyramid: list[Tensor] = bifpn(backbone(image))
            return pyramid
        if not bool(present.any()):
            return None
        return [
            level.new_zeros((len(image), *level.shape[1:])).index_put((present.nonzero(as_tuple=True)[0],), level)
            for level in bifpn(backbone(image[present]))
        ]

    def anchors(self, height: int, width: int) -> Tensor:
        """(A, 4) float32 xyxy of an input of this size, on the network's device; kept for the next call."""
        device = self.class_head.predict.weight.device
        key = (height, width, device)
        if key not in self._anchors:
            self._anchors[key] = make_anchors(self.config, height, width).to(device)
        return self._anchors[key]


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def count_macs_by_part(detector: Detector, height: int, width: int) -> dict[str, int]:
    """Multiply-accumulates of one RGB-thermal pair in convolutions and linear layers of each part of the network
    ("rgb_backbone", "class_head", ...), counted by a real forward pass."""
    total: dict[str, int] = {}

    def count(part: str, layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            total[part] = total.get(part, 0) + output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            total[part] = total.get(part, 0) + output.numel() * layer.in_features

    hooks = [
        layer.register_forward_hook(partial(count, name.partition(".")[0]))
        for name, layer in detector.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    modes = [(module, module.training) for module in detector.modules()]
    device = detector.class_head.predict.weight.device
    try:
        detector.eval()(
            torch.zeros(1, 3, height, width, device=device), torch.zeros(1, 1, height, width, device=device)
        )
    finally:
        for module, training in modes:  # one by one: a frozen batch norm must stay frozen
            module.training = training
        for hook in hooks:
            hook.remove()
    return total


def count_macs(detector: Detector, height: int, width: int) -> int:
    """Multiply-accumulates of one RGB-thermal pair, see :func:`count_macs_by_part`."""
    return sum(count_macs_by_part(detector, height, width).values())
