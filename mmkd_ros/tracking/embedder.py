"""The appearance network of a weights file on one of several engines. torch is imported where it runs the network."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.inference.backends.backend import installed
from mmkd_ros.inference.backends.timing import trial_images
from mmkd_ros.inference.cached_graph import cached_graph
from mmkd_ros.inference.loading import open_network
from mmkd_ros.inference.sealed import Sealed, able_engines, compile_sealed
from mmkd_ros.inference.weights_file import check_appearance
from mmkd_ros.tracking.crops import AppearanceConfig, cut_crops
from mmkd_ros.types import ImagePair

TOLERANCE = 1e-4
"""Largest difference of a vector's element from torch's."""
_log = logging.getLogger(__name__)


class Embedder(Protocol):
    """The network on one engine."""

    @property
    def config(self) -> AppearanceConfig:
        """What defines the network."""

    @property
    def device(self) -> str:
        """Where it runs, e.g. 'cpu' or 'cuda'."""

    @property
    def backend(self) -> str:
        """The engine in use: 'torch', 'onnxruntime' or 'openvino'."""

    @property
    def weights_sha256(self) -> str:
        """Digest of the weights."""

    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4, height, width) as :func:`cut_crops` makes them, N at least 1 -> (N, D) of length one, valid until the
        next call.

        Raises:
            RuntimeError: the engine failed.
        """


def open_embedder(weights: Path, device: str, backend: str) -> Embedder:
    """The network of a file; the arguments are those of an ``AppearanceEncoder``.

    Raises:
        WeightsError: the file cannot be used.
        ValueError: device or backend cannot be used.
    """

    def torch_embedder() -> Callable[[str], Embedder]:
        from mmkd_ros.tracking.appearance_network import TorchEmbedder

        return lambda _: TorchEmbedder(weights, device)

    return open_network(
        weights,
        device,
        backend,
        graph=lambda: cached_graph(weights, check_appearance),
        engine=lambda file: _exported(file, device, backend),
        torch=torch_embedder,
    )


class ExportedEmbedder:
    """The network of a sealed file, on one thread: more would only take the cores from the detector.

    Args:
        file: of the network.
        backend: 'onnxruntime' or 'openvino'.

    Raises:
        WeightsError: the file cannot be used.
        ValueError: the engine is missing, or answers otherwise than torch.
    """

    device = "cpu"

    def __init__(self, file: Sealed, backend: str) -> None:
        self._graph = compile_sealed(file, backend, threads=1)
        check_appearance(file.path, self._graph.metadata)
        self.backend = backend
        self.config = AppearanceConfig.from_dict(json.loads(self._graph.metadata["config"]))
        self.weights_sha256 = self._graph.metadata["weights_sha256"]
        right = np.asarray(json.loads(self._graph.metadata["trial"]))
        if not (np.abs(self(trial_crops(self.config)) - right) <= TOLERANCE).all():  # NaN is not right either
            raise ValueError(
                f"{backend} answers otherwise than torch did when {file.path} was written; use another backend."
            )

    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Embedder`."""
        vectors: NDArray[np.float32] = self._graph.run({"crops": crops})[0]
        return vectors


def trial_crops(config: AppearanceConfig) -> NDArray[np.float32]:
    """(3, 4, height, width): noise in both cameras, in RGB alone and in thermal alone, the same everywhere."""
    rgb, thermal = trial_images(config.height, config.width)
    whole = np.array([[0, 0, config.width, config.height]], np.float32)
    pairs = (ImagePair(rgb, thermal, 0.0), ImagePair(rgb, None, 0.0), ImagePair(None, thermal, 0.0))
    return np.concatenate([cut_crops(pair, whole, config)[0] for pair in pairs])


def _exported(file: Sealed, device: str, backend: str) -> Embedder:
    """The network on the engine that was asked for, or on the first that works."""
    able = able_engines(file.path, device, backend)
    engines = [name for name in able if installed(name)] if backend == "auto" else [backend]
    if not engines:
        raise ValueError(
            f"{file.path} needs {' or '.join(able)}, not installed here; run `pip install --no-deps -r "
            "requirements/backends.txt`."
        )
    for engine in engines[:-1]:
        try:
            return ExportedEmbedder(file, engine)
        except ValueError as error:
            _log.warning("Backend %s is left out: %s", engine, error)
    return ExportedEmbedder(file, engines[-1])
