"""The benchmark runs on any weights file and prints every figure that it promises; no figure is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmkd_ros.inference.weights import save_detector
from mmkd_ros.network import Detector, DetectorConfig
from mmkd_train.__main__ import main


def test_every_figure_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = DetectorConfig(
        backbone="mobilenetv3_small_100", input_size=(64, 96), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
    )
    save_detector(tmp_path / "w.safetensors", Detector(config), {})
    out = tmp_path / "figures.json"
    assert (
        main(
            [
                "benchmark",
                "--weights",
                str(tmp_path / "w.safetensors"),
                "--device",
                "cpu",
                "--repeats",
                "1",
                "--json",
                str(out),
            ]
        )
        == 0
    )
    report = json.loads(out.read_text())
    assert set(report["network_ms"]) == {"64x96", "512x640"} and set(report["tracker_ms"]) == {"10", "50", "100"}
    figures = [
        *report["network_ms"].values(),
        *report["tracker_ms"].values(),
        report["preprocess_ms"],
        report["postprocess_ms"],
    ]
    assert all(value > 0 for value in figures) and report["gmac"]["512x640"] > report["gmac"]["64x96"]
    printed = capsys.readouterr().out
    for word in ("torch", "preprocess", "postprocess", "session", "tracker", "cores"):
        assert word in printed


def test_missing_weights_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--weights", str(tmp_path / "none.safetensors"), "--device", "cpu"]) == 2
    assert "none.safetensors does not exist" in capsys.readouterr().err
