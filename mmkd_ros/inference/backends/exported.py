"""A backend that runs ONNX graphs of the network on another engine than torch."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmkd_ros import network
from mmkd_ros.inference import normalize
from mmkd_ros.inference.backends import graph
from mmkd_ros.inference.backends.backend import ENGINES, Answer, missing_packages, package_version
from mmkd_ros.inference.backends.cache import cache_name, read_cache, write_cache
from mmkd_ros.inference.backends.onnx_backend import Run, compile_onnxruntime
from mmkd_ros.inference.backends.openvino_backend import compile_openvino
from mmkd_ros.types import Modality

COMPILERS = {"onnxruntime": compile_onnxruntime, "openvino": compile_openvino}
_log = logging.getLogger(__name__)


class ExportedBackend:
    """A :class:`~mmkd_ros.inference.backends.Backend` on the CPU. The graph of an RGB-thermal pair is loaded at once,
    those of one camera alone when they are first needed.

    Args:
        name: of the engine.
        detector: folded, in evaluation mode, float32 on the CPU; it is exported where the cache lacks a graph.
        weights_sha256: digest of its weights, which names it in the cache.
        threads: of one call.

    Raises:
        ValueError: a package is missing, or the engine refuses the network.
    """

    device = "cpu"

    def __init__(self, name: str, detector: network.Detector, weights_sha256: str, threads: int) -> None:
        missing = missing_packages(name)
        if missing:
            raise ValueError(
                f"backend '{name}' needs {' and '.join(missing)}, not installed here; run `pip install --no-deps -r "
                "requirements/backends.txt`, or use backend 'torch' or 'auto'."
            )
        self.name = name
        self._detector = detector
        self._weights = weights_sha256
        self._threads = threads
        self._runs: dict[Modality, Run] = {}
        self._load("both")

    def __call__(self, rgb: NDArray[np.uint8] | None, thermal: NDArray[np.uint8] | None) -> Answer:
        """See :class:`~mmkd_ros.inference.backends.Backend`; a missing modality costs no computation."""
        images = {name: image[None] for name, image in (("rgb", rgb), ("thermal", thermal)) if image is not None}
        modality: Modality = "both" if len(images) == 2 else "rgb" if rgb is not None else "thermal"
        if modality not in self._runs:
            try:
                self._load(modality)
            except ValueError as error:
                raise RuntimeError(str(error)) from error
        logits, offsets = self._runs[modality](images)
        return logits, offsets

    def _load(self, modality: Modality) -> None:
        name = cache_name("graph", ".onnx", self._weights, self._detector.config.to_dict(), modality, _exporter())
        model = read_cache(name)
        if model is None:
            model = graph.to_onnx(graph.NetworkGraph(self._detector, modality))
            write_cache(name, model)
        self._runs[modality] = COMPILERS[self.name](model, self._threads).run


def _exporter() -> list[str]:
    """What a graph depends on beside the weights: versions, and the sources that are traced."""
    folder = Path(network.__file__).parent
    sources = [*sorted(folder.glob("*.py")), Path(normalize.__file__), Path(graph.__file__)]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return [digest, torch.__version__, package_version("timm"), package_version("onnx")]


def engine_versions() -> dict[str, str]:
    """Version of each engine that is installed with all that it needs; one that does not load is reported."""
    versions = {}
    for name in ENGINES:
        if not missing_packages(name):
            try:
                versions[name] = package_version(name)
            except ValueError as error:
                _log.warning("Backend %s is left out: %s", name, error)
    return versions
