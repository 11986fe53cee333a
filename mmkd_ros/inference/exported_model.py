"""A model written by `python -m mmkd_train export`, run by ONNX Runtime or OpenVINO: neither torch nor timm is needed.

The file says what it is in its metadata, carries a digest of itself and the answer that torch gave to a trial pair, so
that a damaged file and an engine that answers otherwise are found out before the first image.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.inference.backends.backend import ENGINES, package_version
from mmkd_ros.inference.backends.cache import cache_name, read_cache, write_cache
from mmkd_ros.inference.backends.onnx_backend import CompiledGraph, compile_onnxruntime
from mmkd_ros.inference.backends.openvino_backend import compile_openvino
from mmkd_ros.inference.backends.timing import fastest, machine, milliseconds, trial_images
from mmkd_ros.inference.errors import WeightsError
from mmkd_ros.inference.postprocess import Candidates

FORMAT = "1"
SUFFIXES = (".onnx", ".xml")
UNSEALED = "mmkd-sha256:" + 64 * "0"
SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.5  # pixels of the network's input
_TRIAL = 20  # boxes that are compared
_SEAL = re.compile(rb"mmkd-sha256:([0-9a-f]{64})")
_log = logging.getLogger(__name__)


def seal(model: bytes, constants: bytes = b"") -> bytes:
    """Put the sha256 of both files into the model's metadata, in place of :data:`UNSEALED`."""
    digest = hashlib.sha256(model + constants).hexdigest()
    return model.replace(UNSEALED.encode(), f"mmkd-sha256:{digest}".encode())


def read_sealed(path: Path) -> tuple[bytes, bytes]:
    """The model's file and, of an .xml, the .bin beside it.

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
    unsealed = model.replace(found[0], UNSEALED.encode())
    if hashlib.sha256(unsealed + constants).hexdigest() != found[1].decode():
        raise WeightsError(f"{path} does not match its own sha256: it was altered or damaged. Copy it again.")
    return model, constants


class ExportedModel:
    """A :class:`~mmkd_ros.inference.session.Model` on the CPU.

    Args:
        path: .onnx, or .xml with its .bin.
        input_size: (height, width) that the caller wants, (0, 0): whatever the file has.
        device: 'auto' or 'cpu'.
        backend: 'onnxruntime', 'openvino' or 'auto'.
        threads: of one call, at least 1.

    Raises:
        WeightsError: the file cannot be used.
        ValueError: input size, device or backend cannot be used.
    """

    device = "cpu"

    def __init__(self, path: Path, input_size: tuple[int, int], device: str, backend: str, threads: int) -> None:
        if device not in ("auto", "cpu"):
            raise ValueError(f"{path} runs on the CPU; use device 'cpu', or a .safetensors file for '{device}'.")
        engines = [name for name in ENGINES if path.suffix == ".onnx" or name == "openvino"]
        if backend not in (*engines, "auto"):
            raise ValueError(f"backend '{backend}' cannot run {path}; use 'auto' or {' or '.join(map(repr, engines))}.")
        self._path, self._threads = path, threads
        self._file = read_sealed(path)
        if backend == "auto":
            self.backend, self._graph, self.reason = self._fastest(engines)
        else:
            self.backend, self.reason = backend, f"{backend}: as asked"
            self._graph = self._open(backend)
        del self._file
        description = self._graph.metadata
        self.class_names: tuple[str, ...] = tuple(json.loads(description["class_names"]))
        self.input_size = _input_size(self._graph)
        self.sha256 = description["weights_sha256"]
        if any(input_size) and input_size != self.input_size:
            raise ValueError(
                f"{path} was exported for input size {list(self.input_size)}, not {list(input_size)}; leave "
                "input_size at [0, 0], or export again with --input-size."
            )

    def __call__(
        self, rgb: NDArray[np.uint8] | None, thermal: NDArray[np.uint8] | None, score_threshold: float
    ) -> Candidates:
        """See :class:`~mmkd_ros.inference.session.Model`; a missing image saves no time here."""
        return _run(self._graph, rgb, thermal, score_threshold)

    def _open(self, engine: str) -> CompiledGraph:
        """The graph on one engine, once it has given torch's answer to the trial pair."""
        model, constants = self._file
        if engine == "openvino":
            graph = compile_openvino(model, self._threads, constants)
        else:
            graph = compile_onnxruntime(model, self._threads)
        written = graph.metadata.get("format")
        if written != FORMAT:
            raise WeightsError(f"{self._path} has format {written}, this version reads {FORMAT}; export it again.")
        if graph.metadata["modality"] != "both":
            raise WeightsError(
                f"{self._path} takes {graph.metadata['modality']} images only; export it with --modality both."
            )
        _check_trial(graph, engine)
        return graph

    def _fastest(self, engines: list[str]) -> tuple[str, CompiledGraph, str]:
        """The fastest engine that answers as torch did, timed here or remembered, with the reason."""
        versions = {name: package_version(name) for name in engines if importlib.util.find_spec(name) is not None}
        facts = (machine(), self._threads, hashlib.sha256(self._file[0]).hexdigest(), versions)
        memory = cache_name("choice", ".json", *facts)
        remembered = read_cache(memory)
        if remembered is not None:
            choice = json.loads(remembered)
            try:
                return choice["backend"], self._open(choice["backend"]), choice["why"]
            except ValueError as error:
                _log.warning("The remembered backend %s does not start (%s); timing again.", choice["backend"], error)
        graphs: dict[str, CompiledGraph] = {}
        for name in versions:
            try:
                graphs[name] = self._open(name)
            except ValueError as error:
                _log.warning("Backend %s is left out: %s", name, error)
        if not graphs:
            raise ValueError(
                f"{self._path} needs {' or '.join(engines)}, and none works here; run `pip install --no-deps -r "
                "requirements/backends.txt`."
            )
        calls = {name: partial(_run, graph, score_threshold=0.5) for name, graph in graphs.items()}
        best, why = fastest(milliseconds(calls, trial_images(*_input_size(next(iter(graphs.values()))))))
        write_cache(memory, json.dumps({"backend": best, "why": why}).encode())
        return best, graphs[best], why


def make_trial(boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """The JSON text that :func:`_check_trial` reads: torch's best boxes in the trial images, by descending score."""
    best = slice(0, _TRIAL)
    return json.dumps([boxes[best].tolist(), scores[best].tolist(), labels[best].tolist()])


def _check_trial(graph: CompiledGraph, engine: str) -> None:
    """Raises ValueError when the engine answers otherwise than torch did."""
    found = _run(graph, *trial_images(*_input_size(graph)), score_threshold=0.0)
    boxes, scores, labels = (np.asarray(part) for part in json.loads(graph.metadata["trial"]))
    # Equal scores may swap places: each box has to be among those found, with its score and label.
    same = (
        (np.abs(found.boxes[None] - boxes[:, None]).max(axis=2) <= BOX_TOLERANCE)
        & (np.abs(found.scores[None] - scores[:, None]) <= SCORE_TOLERANCE)
        & (found.labels[None] == labels[:, None])
    )
    if not same.any(axis=1).all():
        raise ValueError(f"{engine} answers otherwise than torch did when this file was written; use another backend.")


def _input_size(graph: CompiledGraph) -> tuple[int, int]:
    """(height, width) in pixels."""
    height, width = json.loads(graph.metadata["config"])["input_size"]
    return height, width


def _run(
    graph: CompiledGraph, rgb: NDArray[np.uint8] | None, thermal: NDArray[np.uint8] | None, score_threshold: float
) -> Candidates:
    """Boxes above the threshold.

    Raises:
        RuntimeError: the engine failed.
        FloatingPointError: the network answered NaN.
    """
    size = _input_size(graph)
    inputs: dict[str, NDArray[Any]] = {
        "rgb": (np.zeros((*size, 3), np.uint8) if rgb is None else rgb)[None],
        "thermal": (np.zeros(size, np.uint8) if thermal is None else thermal)[None],
        "present": np.array([rgb is not None, thermal is not None], np.float32),
    }
    boxes, scores, labels = graph.run(inputs)
    if not np.isfinite(scores).all():
        raise FloatingPointError("the network answered NaN")
    likely = scores > score_threshold
    return Candidates(boxes[likely], scores[likely], labels[likely])
