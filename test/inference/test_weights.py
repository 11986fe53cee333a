"""Weights files: what was saved comes back; everything else is refused with a sentence, and nothing is executed."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from mmkd_ros.inference.errors import WeightsError
from mmkd_ros.inference.weights import load_detector, load_weights, save_detector, save_weights
from mmkd_ros.network import Detector, DetectorConfig

CONFIG = DetectorConfig(
    backbone="mobilenetv3_small_100", input_size=(64, 96), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_detector(path, Detector(CONFIG), {"note": "tiny"})
    return path


def test_round_trip(weights: Path) -> None:
    detector, metadata = load_detector(weights)
    assert detector.config == CONFIG
    assert not detector.training
    assert metadata["note"] == "tiny"
    assert len(metadata["sha256"]) == 64


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        load_detector(tmp_path / "none.safetensors")


def test_truncated_file(weights: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.safetensors"
    short.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="truncated or of another format"):
        load_detector(short)


def test_one_flipped_bit(weights: Path, tmp_path: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[-5000] ^= 1
    flipped = tmp_path / "flipped.safetensors"
    flipped.write_bytes(content)
    with pytest.raises(WeightsError, match="sha256"):
        load_detector(flipped)


def test_a_pickle_is_refused_and_never_runs(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (marker,)

    evil = tmp_path / "evil.safetensors"
    evil.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_detector(evil)
    assert not marker.exists()
    pickle.loads(evil.read_bytes())  # noqa: S301 - shows that the payload would have worked
    assert marker.exists()


def test_foreign_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="no metadata of this package"):
        load_weights(tmp_path / "foreign.safetensors")


def test_another_kind_of_network(tmp_path: Path) -> None:
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(2)}, {"kind": "appearance"})
    with pytest.raises(WeightsError, match="holds 'appearance', not a detector"):
        load_detector(tmp_path / "other.safetensors")


def test_tensors_that_do_not_fit_the_stated_network(weights: Path, tmp_path: Path) -> None:
    tensors, metadata = load_weights(weights)
    metadata["config"]["bifpn_channels"] = 24
    save_weights(tmp_path / "unfit.safetensors", tensors, metadata)
    with pytest.raises(WeightsError, match="does not fit the network"):
        load_detector(tmp_path / "unfit.safetensors")
