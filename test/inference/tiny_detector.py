"""A small detector whose answers are lively: a graph that mixes something up answers otherwise."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from mmkd_ros.network import Detector, DetectorConfig

CONFIG = DetectorConfig(
    backbone="mobilenetv3_small_100", input_size=(64, 96), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
)


def need(engine: str) -> None:
    """Skip where the packages of an engine are not installed."""
    missing = [name for name in ("onnx", engine) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}: pip install --no-deps -r requirements/backends.txt")


def lively_detector() -> Detector:
    """Random weights, norms that differ per level, statistics of real features."""
    torch.manual_seed(0)
    detector = Detector(CONFIG).train()
    for layer in detector.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.5
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
    for head in (detector.class_head, detector.box_head):
        torch.nn.init.normal_(head.predict.weight, std=0.5)
    torch.nn.init.zeros_(detector.class_head.predict.bias)  # classes as likely as the background
    with torch.no_grad():
        for _ in range(4):
            detector(torch.randn(2, 3, 64, 96), torch.randn(2, 1, 64, 96))
    return detector
