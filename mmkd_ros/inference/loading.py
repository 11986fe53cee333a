"""Which model serves a weights file: torch, or an engine that runs its graph."""

from __future__ import annotations

import logging
from pathlib import Path

from mmkd_ros.inference.backends.backend import check_backend_name, choose_engines
from mmkd_ros.inference.cached_graph import cached_graph
from mmkd_ros.inference.errors import TorchMissingError
from mmkd_ros.inference.exported_model import ExportedModel
from mmkd_ros.inference.model import Model
from mmkd_ros.inference.sealed import SUFFIXES, read_sealed
from mmkd_ros.inference.weights_file import check_detector

_log = logging.getLogger(__name__)


def load_model(weights: Path, input_size: tuple[int, int], device: str, backend: str, half: str, threads: int) -> Model:
    """The model of a file; the arguments are those of an ``InferenceSession``.

    Raises:
        WeightsError: the file cannot be used.
        ValueError: input size, device, backend or half cannot be used.
    """
    check_backend_name(backend)
    if weights.suffix in SUFFIXES:
        if half == "on":
            raise ValueError("half 'on' needs a CUDA device and a .safetensors file; use 'auto'.")
        return ExportedModel(read_sealed(weights), input_size, device, backend, threads)
    engines, reason = choose_engines(device, backend)
    if engines:
        if half == "on":
            raise ValueError("half 'on' needs a CUDA device; use 'auto'.")
        try:
            graph = cached_graph(weights, check_detector, input_size)
            return ExportedModel(graph, (0, 0), "cpu", backend, threads)
        except ValueError as error:
            if backend != "auto":
                raise
            _log.warning("The network is run by torch: %s", error)
            reason = f"torch: {error}"
    try:
        from mmkd_ros.inference.network_model import NetworkModel
    except (ImportError, OSError) as error:  # OSError: a library of CUDA is missing
        raise TorchMissingError(weights, error) from error
    return NetworkModel.load(weights, input_size, device, half, threads, reason)
