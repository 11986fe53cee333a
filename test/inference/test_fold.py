"""Folded networks answer as the originals do, and hardly a batch norm is left."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmkd_ros.inference.fold import fold_batch_norms
from mmkd_ros.network import Detector, DetectorConfig

CONFIGS = {
    "large": DetectorConfig(input_size=(96, 160), bifpn_channels=16, bifpn_repeats=1),
    "small, weighted": DetectorConfig(backbone="mobilenetv3_small_100", input_size=(96, 160), fusion="weighted"),
    "lite0": DetectorConfig(backbone="tf_efficientnet_lite0", input_size=(96, 160), bifpn_channels=16),
    "b7": DetectorConfig(backbone="tf_efficientnet_b7", input_size=(64, 160), bifpn_channels=16, bifpn_repeats=1),
}


def count_norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


@pytest.mark.parametrize("name", CONFIGS)
def test_answers_stay(name: str) -> None:
    torch.manual_seed(0)
    config = CONFIGS[name]
    detector = Detector(config).train()
    rgb, thermal = torch.rand(2, 3, *config.input_size), torch.rand(2, 1, *config.input_size)
    with torch.no_grad():
        for _ in range(3):  # statistics that are not the initial ones
            detector(rgb, thermal)
        detector.eval()
        before = detector(rgb, thermal)
        norms = count_norms(detector)
        fold_batch_norms(detector)
        after = detector(rgb, thermal)
    kept = config.head_repeats * len(config.levels) * 2
    assert norms > kept and count_norms(detector) == kept
    for a, b in zip(after.fused, before.fused, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(after.offsets, before.offsets, rtol=1e-3, atol=1e-3)


def test_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        fold_batch_norms(Detector(CONFIGS["small, weighted"]).train())
