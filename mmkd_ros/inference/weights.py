"""Weights files: safetensors with JSON metadata and a sha256 of the tensors. Reading one executes nothing.

The metadata say what the network is and what it expects (see :data:`REQUIRED`), so that a node can refuse a file that
does not fit with a sentence, before the first image.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmkd_ros.inference.errors import WeightsError
from mmkd_ros.network import Detector, DetectorConfig

_KEY = "mmkd"
_DETECTOR = "rgb_thermal_detector"
REQUIRED = ("kind", "config", "thermal_contract")


def tensors_sha256(tensors: dict[str, Tensor]) -> str:
    """Hex digest over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
    digest = tensors_sha256(tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {_KEY: json.dumps({**metadata, "sha256": digest}, sort_keys=True)})
    return digest


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a weights file and check it against its own sha256.

    Returns:
        (tensors by name, metadata).

    Raises:
        WeightsError: missing, not a safetensors file, truncated, without our metadata, or altered.
    """
    if not path.is_file():
        raise WeightsError(
            f"Weights file {path} does not exist; give the path of a .safetensors file with the parameter 'weights'."
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is not a readable safetensors file ({error}); it may be truncated or of another "
            "format. Copy it again."
        ) from error
    try:
        metadata = json.loads(header[_KEY])
        expected = metadata["sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} carries no metadata of this package; write it with 'python -m mmkd_train train'."
        ) from error
    if tensors_sha256(tensors) != expected:
        raise WeightsError(
            f"{path} does not match its own sha256 {str(expected)[:12]}...: the file was altered or "
            "damaged. Copy it again."
        )
    return tensors, metadata


def save_detector(path: Path, detector: Detector, metadata: dict[str, Any]) -> str:
    """Write a detector's state and configuration; ``metadata`` adds data, metrics and the like. Returns the sha256."""
    contract = {
        "kind": _DETECTOR,
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
    if metadata.get("kind") != _DETECTOR:
        raise WeightsError(
            f"{path} holds '{metadata.get('kind')}', not a detector; give the detector's file with "
            "the parameter 'weights'."
        )
    missing = [name for name in REQUIRED if name not in metadata]
    if missing:
        raise WeightsError(
            f"{path} lacks the metadata {', '.join(missing)}; it was written by another version. Export it again."
        )
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
