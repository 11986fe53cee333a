"""The mean of weights files: of every number, named by its sources, refused for networks that differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmkd_ros.inference.weights import load_detector, save_detector
from mmkd_ros.network import Detector, DetectorConfig
from mmkd_train.__main__ import main

CONFIG = DetectorConfig(
    backbone="mobilenetv3_small_100", input_size=(64, 96), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
)


def test_the_mean_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    detectors = [Detector(CONFIG) for _ in files]
    digests = [
        save_detector(path, detector, {"training": {"seed": seed}})
        for seed, (path, detector) in enumerate(zip(files, detectors, strict=True))
    ]
    output = tmp_path / "mean.safetensors"
    assert main(["average", "--weights", *map(str, files), "--output", str(output)]) == 0
    assert "mean of 2 files" in capsys.readouterr().out
    mean, metadata = load_detector(output)
    first, second = (detector.state_dict() for detector in detectors)
    for name, tensor in mean.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (first[name] + second[name]) / 2, msg=name)
    sources = metadata["training"]["average_of"]
    assert [one["sha256"] for one in sources] == digests and sources[1]["training"]["seed"] == 1


def test_other_networks_and_a_lone_file_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    save_detector(files[0], Detector(CONFIG), {})
    save_detector(files[1], Detector(replace(CONFIG, bifpn_channels=24)), {})
    output = ["--output", str(tmp_path / "mean.safetensors")]
    assert main(["average", "--weights", *map(str, files), *output]) == 2
    assert "b.safetensors is not of the network of" in capsys.readouterr().err
    assert main(["average", "--weights", str(files[0]), *output]) == 2
    assert "at least two" in capsys.readouterr().err
    assert not (tmp_path / "mean.safetensors").exists()
