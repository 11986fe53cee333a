"""Read and check a weights file without torch: safetensors, JSON metadata, a sha256 of the tensors.

The metadata say what the network is and what it expects (see :data:`REQUIRED`), so that a node can refuse a file that
does not fit with a sentence, before the first image. Reading executes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, deserialize

from mmkd_ros.inference.errors import WeightsError

METADATA_KEY = "mmkd"
DETECTOR = "rgb_thermal_detector"
APPEARANCE = "appearance_encoder"
REQUIRED = ("kind", "config", "thermal_contract")
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
"""The format's names of dtypes -> torch's, which the digest is made of."""


class WeightsFile(NamedTuple):
    """A sound file."""

    content: bytes
    """All of it, as safetensors reads it."""
    metadata: dict[str, Any]


def digest(tensors: Iterable[tuple[str, str, tuple[int, ...], bytes | bytearray]]) -> str:
    """Hex sha256 over (name, torch's dtype, shape, bytes) of the tensors, in the order of the names."""
    total = hashlib.sha256()
    for name, dtype, shape, data in sorted(tensors, key=lambda tensor: tensor[0]):
        total.update(f"{name}|{dtype}|{shape}|".encode())
        total.update(data)
    return total.hexdigest()


def read_weights(path: Path) -> WeightsFile:
    """Read a weights file and check it against its own sha256.

    Raises:
        WeightsError: missing, not a safetensors file, truncated, without our metadata, or altered.
    """
    if not path.is_file():
        raise WeightsError(
            f"Weights file {path} does not exist; give the path of a .safetensors file with the parameter 'weights'."
        )
    try:
        content = path.read_bytes()
        tensors = [
            (name, f"torch.{_DTYPES[tensor['dtype']]}", tuple(tensor["shape"]), tensor["data"])
            for name, tensor in deserialize(content)
        ]
    except (SafetensorError, OSError, KeyError) as error:
        raise WeightsError(
            f"{path} is not a readable safetensors file ({error}); it may be truncated or of another "
            "format. Copy it again."
        ) from error
    # The format: the header's length in 8 bytes, then the header in JSON.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    try:
        metadata = json.loads(header["__metadata__"][METADATA_KEY])
        expected = metadata["sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} carries no metadata of this package; write it with 'python -m mmkd_train train'."
        ) from error
    if digest(tensors) != expected:
        raise WeightsError(
            f"{path} does not match its own sha256 {str(expected)[:12]}...: the file was altered or "
            "damaged. Copy it again."
        )
    return WeightsFile(content, metadata)


def check_detector(path: Path, metadata: dict[str, Any]) -> None:
    """Raises WeightsError when the metadata of a weights file are not those of a detector."""
    if metadata.get("kind") != DETECTOR:
        raise WeightsError(
            f"{path} holds '{metadata.get('kind')}', not a detector; give the detector's file with "
            "the parameter 'weights'."
        )
    missing = [name for name in REQUIRED if name not in metadata]
    if missing:
        raise WeightsError(
            f"{path} lacks the metadata {', '.join(missing)}; it was written by another version. Export it again."
        )


def check_appearance(path: Path, metadata: dict[str, Any]) -> None:
    """Raises WeightsError when the metadata of a weights file are not those of an appearance network."""
    if metadata.get("kind") != APPEARANCE:
        raise WeightsError(
            f"{path} holds '{metadata.get('kind')}', not an appearance network; "
            "give the file that `python -m mmkd_train appearance` writes."
        )
