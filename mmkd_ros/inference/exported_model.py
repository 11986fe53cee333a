"""A detector's sealed file, run by ONNX Runtime or OpenVINO: neither torch nor timm is needed.

The file says what it is in its metadata and carries the answer that torch gave to a trial pair, so that an engine that
answers otherwise is found out before the first image.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.inference.backends.backend import (
    ENGINES,
    ONNXRUNTIME_TENSORRT,
    OPENVINO_BF16,
    gpu_engines,
    installed,
    package_version,
)
from mmkd_ros.inference.backends.cache import cache_name, read_cache, write_cache
from mmkd_ros.inference.backends.onnx_backend import CompiledGraph, parse_gpu
from mmkd_ros.inference.backends.openvino_backend import computes_in_bf16
from mmkd_ros.inference.backends.timing import Images, fastest, machine, milliseconds, trial_images
from mmkd_ros.inference.errors import WeightsError
from mmkd_ros.inference.postprocess import Candidates
from mmkd_ros.inference.sealed import Sealed, able_engines, compile_sealed

SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.5  # pixels of the network's input
HALF_TOLERANCES = 0.02, 1.0  # the same two of an engine in bfloat16, float16 or TF32, in the trial images
_TRIAL = 20  # boxes that are compared
_log = logging.getLogger(__name__)


class ExportedModel:
    """A :class:`~mmkd_ros.inference.session.Model` on the CPU, or on CUDA by ONNX Runtime.

    Args:
        file: of the model.
        input_size: (height, width) that the caller wants, (0, 0): whatever the file has.
        device: 'auto' or 'cpu'; 'cuda[:i]' for an .onnx file.
        backend: 'onnxruntime', 'openvino' or 'auto'.
        half: 'on': OpenVINO in bfloat16; 'auto': one more engine for backend 'auto', if the processor computes in it.
            On CUDA TensorRT in float16, unless 'off'.
        threads: of one call, at least 1.

    Raises:
        WeightsError: the file cannot be used.
        ValueError: input size, device or backend cannot be used.
    """

    batch_size = 1  # the graph takes one pair: on a CPU more at a time were no faster

    def __init__(
        self, file: Sealed, input_size: tuple[int, int], device: str, backend: str, half: str, threads: int
    ) -> None:
        path = file.path
        self._file, self._threads = file, threads
        self._gpu = parse_gpu(device, half != "off")
        self.device = device if self._gpu else "cpu"
        if self._gpu:
            engines, asked = _on_cuda(path, backend, half), "auto"
        else:
            engines = able_engines(path, device, backend)
            asked = _bf16(backend, engines) if half == "on" else backend
            if asked == "auto" and half == "auto" and "openvino" in engines and computes_in_bf16():
                engines.append(OPENVINO_BF16)
        if asked == "auto":
            self.backend, self._graph, self.reason = self._fastest(engines)
        else:
            self.backend, self.reason = asked, f"{asked}: as asked"
            self._graph = self._open(asked)
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

    def batch(self, images: Sequence[Images], score_threshold: float) -> list[Candidates | FloatingPointError]:
        """See :class:`~mmkd_ros.inference.session.Model`; one after the other."""
        found: list[Candidates | FloatingPointError] = []
        for rgb, thermal in images:
            try:
                found.append(self(rgb, thermal, score_threshold))
            except FloatingPointError as error:
                found.append(error.with_traceback(None))  # which would keep the images alive
        return found

    def _open(self, engine: str) -> CompiledGraph:
        """The graph on one engine, once it has given torch's answer to the trial pair."""
        path = self._file.path
        graph = compile_sealed(self._file, engine, self._threads, self._gpu)
        if "modality" not in graph.metadata:
            raise WeightsError(f"{path} holds '{graph.metadata.get('kind')}', not a detector; correct 'weights'.")
        if graph.metadata["modality"] != "both":
            raise WeightsError(
                f"{path} takes {graph.metadata['modality']} images only; export it with --modality both."
            )
        try:
            _check_trial(graph, engine)
        except FloatingPointError as error:
            raise WeightsError(f"{path}: {error} to a trial pair; its weights are of no use.") from error
        return graph

    def _fastest(self, engines: list[str]) -> tuple[str, CompiledGraph, str]:
        """The fastest engine that answers as torch did, timed here or remembered, with the reason."""
        versions = {name: package_version(name) for name in engines if installed(name)}
        facts = (machine(), self._threads, hashlib.sha256(self._file.model).hexdigest(), versions, self._gpu)
        memory = cache_name("choice", ".json", *facts)
        remembered = read_cache(memory)
        if remembered is not None:
            choice = json.loads(remembered)
            try:
                return choice["backend"], self._open(choice["backend"]), choice["why"]
            except ValueError as error:
                _log.warning("The remembered backend %s does not start (%s); timing again.", choice["backend"], error)
        times: dict[str, float] = {}
        for name in versions:
            try:
                graph = self._open(name)
            except ValueError as error:
                _log.warning("Backend %s is left out: %s", name, error)
                continue
            call = partial(_run, graph, score_threshold=0.5)
            times |= milliseconds({name: call}, trial_images(*_input_size(graph)))
            del graph, call  # one engine's memory at a time
        if not times:
            if self._gpu:
                raise ValueError(f"{self._file.path}: none of {', '.join(engines)} works here; use backend 'torch'.")
            packages = dict.fromkeys(name.split()[0] for name in engines)
            raise ValueError(
                f"{self._file.path} needs {' or '.join(packages)}, and none works here; run `pip install --no-deps -r "
                "requirements/backends.txt`."
            )
        best, why = fastest(times)
        write_cache(memory, json.dumps({"backend": best, "why": why}).encode())
        return best, self._open(best), why


def _on_cuda(path: Path, backend: str, half: str) -> list[str]:
    """The engines that may run an exported file on a CUDA device.

    Raises:
        ValueError: there is none.
    """
    if path.suffix != ".onnx" or backend not in ("auto", "onnxruntime"):
        raise ValueError(f"{path} runs on the CPU; use device 'cpu', or an .onnx file with backend 'onnxruntime'.")
    engines = gpu_engines()
    if half == "on":
        engines = [name for name in engines if name == ONNXRUNTIME_TENSORRT]
        if not engines:
            raise ValueError("half 'on' needs TensorRT in ONNX Runtime, or backend 'torch'; use half 'auto'.")
    return engines


def _bf16(backend: str, engines: list[str]) -> str:
    """The engine in bfloat16; raises ValueError where there is none."""
    if backend == "onnxruntime" or "openvino" not in engines:
        raise ValueError("half 'on' needs CUDA, or on a CPU the engine 'openvino'; use half 'auto'.")
    if not computes_in_bf16():
        raise ValueError("half 'on' needs CUDA or a processor that computes in bfloat16; use half 'auto'.")
    return OPENVINO_BF16


def make_trial(boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """The JSON text that :func:`_check_trial` reads: torch's best boxes in the trial images, by descending score."""
    best = slice(0, _TRIAL)
    return json.dumps([boxes[best].tolist(), scores[best].tolist(), labels[best].tolist()])


def _check_trial(graph: CompiledGraph, engine: str) -> None:
    """Raises ValueError when the engine answers otherwise than torch did."""
    found = _run(graph, *trial_images(*_input_size(graph)), score_threshold=0.0)
    exact = engine in ENGINES
    score_tolerance, box_tolerance = (SCORE_TOLERANCE, BOX_TOLERANCE) if exact else HALF_TOLERANCES
    boxes, scores, labels = (np.asarray(part) for part in json.loads(graph.metadata["trial"]))
    # Equal scores may swap places: each box has to be among those found, with its score and label.
    same = (
        (np.abs(found.boxes[None] - boxes[:, None]).max(axis=2) <= box_tolerance)
        & (np.abs(found.scores[None] - scores[:, None]) <= score_tolerance)
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
