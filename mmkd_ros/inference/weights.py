"""Weights files as torch reads and writes them: safetensors with JSON metadata and a sha256 of the tensors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mmkd_ros.inference.errors import WeightsError
from mmkd_ros.inference.weights_file import DETECTOR, METADATA_KEY, check_detector, digest, read_weights
from mmkd_ros.network import Detector, DetectorConfig


def tensors_sha256(tensors: dict[str, Tensor]) -> str:
    """Hex digest over names, dtypes, shapes and bytes, in the order of the names."""

    def content(tensor: Tensor) -> bytes:
        return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    return digest((name, str(t.dtype), tuple(t.shape), content(t)) for name, t in tensors.items())


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    """Write a weights file.

    Args:
        path: of the .safetensors file; its folder is made.
        tensors: by name.
        metadata: JSON-ready; ``sha256`` is added.

    Returns:
        The sha256 of the tensors.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    sha256 = tensors_sha256(tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**metadata, "sha256": sha256}, sort_keys=True)
    safetensors.torch.save_file(tensors, path, {METADATA_KEY: text})
    return sha256


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a weights file and check it against its own sha256.

    Returns:
        (tensors by name, metadata).

    Raises:
        WeightsError: missing, not a safetensors file, truncated, without our metadata, or altered.
    """
    content, metadata = read_weights(path)
    return safetensors.torch.load(content), metadata


def save_detector(path: Path, detector: Detector, metadata: dict[str, Any]) -> str:
    """Write a detector's state and configuration; ``metadata`` adds data, metrics and the like. Returns the sha256."""
    contract = {
        "kind": DETECTOR,
        "config": detector.config.to_dict(),
        "thermal_contract": "uint8 white-hot; 16-bit is scaled per frame by mmkd_ros.imaging.thermal_to_uint8",
    }
    return save_weights(path, dict(detector.state_dict()), {**metadata, **contract})


def load_detector(path: Path, input_size: tuple[int, int] = (0, 0)) -> tuple[Detector, dict[str, Any]]:
    """Rebuild a detector from its file, in evaluation mode on the CPU.

    Args:
        path: of the file.
        input_size: (height, width) for which to build it, (0, 0): as in the file.

    Returns:
        (detector, metadata).

    Raises:
        ValueError: an input size that does not fit the network's strides.
        WeightsError: as :func:`load_weights`, or the file holds another kind of network, or tensors that do not fit it.
    """
    tensors, metadata = load_weights(path)
    check_detector(path, metadata)
    try:
        config = DetectorConfig.from_dict(metadata["config"])
    except (ValueError, TypeError) as error:
        raise WeightsError(
            f"{path} describes a network that cannot be built ({str(error)[:300]}); export it again."
        ) from error
    if any(input_size):
        config = replace(config, input_size=input_size)
    try:
        detector = Detector(config)
        detector.load_state_dict(tensors)
    except (ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path} does not fit the network that it describes ({str(error)[:300]}); export it again."
        ) from error
    return detector.eval(), metadata
