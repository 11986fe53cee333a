"""Files of one network as ONNX or OpenVINO model, which carry a digest of themselves. Free of torch."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from mmkd_ros.inference.backends.backend import ENGINES, OPENVINO_BF16
from mmkd_ros.inference.backends.onnx_backend import CompiledGraph, Gpu, compile_onnxruntime
from mmkd_ros.inference.backends.openvino_backend import compile_openvino
from mmkd_ros.inference.errors import WeightsError

FORMAT = "1"
SUFFIXES = (".onnx", ".xml")
UNSEALED = "mmkd-sha256:" + 64 * "0"
_SEAL = re.compile(rb"mmkd-sha256:([0-9a-f]{64})")


class Sealed(NamedTuple):
    """A sound file in memory."""

    path: Path
    model: bytes
    constants: bytes
    """Of an .xml the .bin beside it."""


def seal(model: bytes, constants: bytes = b"") -> bytes:
    """Put the sha256 of both files into the model's metadata, in place of :data:`UNSEALED`."""
    digest = hashlib.sha256(model + constants).hexdigest()
    return model.replace(UNSEALED.encode(), f"mmkd-sha256:{digest}".encode())


def read_sealed(path: Path) -> Sealed:
    """Read a file and check it against its own digest.

    Raises:
        WeightsError: a file is missing, not from this package, altered or damaged.
    """
    parts = [path] if path.suffix == ".onnx" else [path, path.with_suffix(".bin")]
    try:
        model, constants = [part.read_bytes() for part in parts] + [b""] * (2 - len(parts))
    except OSError as error:
        raise WeightsError(f"{' and '.join(map(str, parts))} cannot be read ({error}); correct 'weights'.") from error
    found = _SEAL.search(model)
    if found is None:
        raise WeightsError(
            f"{path} was not written by `python -m mmkd_train export` of this version, or is truncated; write it again."
        )
    digest = hashlib.sha256()
    for part in (memoryview(model)[: found.start()], UNSEALED.encode(), memoryview(model)[found.end() :], constants):
        digest.update(part)
    if digest.hexdigest() != found[1].decode():
        raise WeightsError(f"{path} does not match its own sha256: it was altered or damaged. Copy it again.")
    return Sealed(path, model, constants)


def able_engines(path: Path, device: str, backend: str) -> list[str]:
    """Names of the engines that can run a file of this kind, installed or not.

    Raises:
        ValueError: the device is not the CPU, or ``backend`` is neither 'auto' nor one of them.
    """
    if device not in ("auto", "cpu"):
        raise ValueError(f"{path} runs on the CPU; use device 'cpu', or a .safetensors file for '{device}'.")
    engines = [name for name in ENGINES if path.suffix == ".onnx" or name == "openvino"]
    if backend not in (*engines, "auto"):
        raise ValueError(f"backend '{backend}' cannot run {path}; use 'auto' or {' or '.join(map(repr, engines))}.")
    return engines


def compile_sealed(file: Sealed, engine: str, threads: int, gpu: Gpu | None = None) -> CompiledGraph:
    """The file's network on an engine: one of ENGINES, or OPENVINO_BF16; with ``gpu`` one of PROVIDERS.

    Raises:
        WeightsError: it was written in another format.
        ValueError: the engine is missing, or refuses the network.
    """
    if engine in ("openvino", OPENVINO_BF16):
        graph = compile_openvino(file.model, threads, file.constants, bf16=engine == OPENVINO_BF16)
    else:
        graph = compile_onnxruntime(file.model, threads, engine, gpu)
    written = graph.metadata.get("format")
    if written != FORMAT:
        raise WeightsError(f"{file.path} has format {written}, this version reads {FORMAT}; export it again.")
    return graph
