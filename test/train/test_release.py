"""The shipped file is half as large, answers as the original does, and carries the metrics of what it really is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up import write_set

from mmkd_ros.inference import InferenceSession
from mmkd_ros.inference.weights import load_weights, save_detector
from mmkd_ros.network import Detector, DetectorConfig
from mmkd_ros.types import ImagePair
from mmkd_train.__main__ import main

CONFIG = DetectorConfig(
    backbone="mobilenetv3_small_100", input_size=(64, 96), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
)


def test_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, shipped = tmp_path / "run.safetensors", tmp_path / "shipped.safetensors"
    save_detector(source, Detector(CONFIG), {"training": {"seed": 1}})
    annotations = write_set(tmp_path, "test", 2, 0)
    arguments = ["--weights", str(source), "--annotations", str(annotations), "--root", str(tmp_path)]
    assert (
        main(["release", *arguments, "--data", "made-up rectangles", "--output", str(shipped), "--device", "cpu"]) == 0
    )
    assert shipped.stat().st_size < 0.6 * source.stat().st_size
    _, metadata = load_weights(shipped)
    assert metadata["data"] == "made-up rectangles" and metadata["training"]["seed"] == 1
    assert set(metadata["metrics"]["test"]) == {"both", "rgb", "thermal"}
    assert "| cameras | mAP50 | mAP | person | car | bicycle | day | night |" in capsys.readouterr().out
    pair = ImagePair(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8), None, 0.0)
    before, after = (InferenceSession(path, "cpu", score_threshold=0.001)(pair) for path in (source, shipped))
    np.testing.assert_allclose(after.scores[:5], before.scores[:5], atol=1e-3)


def test_unusable_weights_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.safetensors")
    assert main(["release", "--weights", missing, "--annotations", "a.json", "--root", ".", "--data", "-"]) == 2
    assert "none.safetensors does not exist" in capsys.readouterr().err
