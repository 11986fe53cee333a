"""Which engine serves a weights file: torch, or one that runs its graph."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mmkd_ros.inference.backends.backend import check_backend_name, choose_engines
from mmkd_ros.inference.cached_graph import cached_graph
from mmkd_ros.inference.errors import TorchMissingError
from mmkd_ros.inference.exported_model import ExportedModel
from mmkd_ros.inference.model import Model
from mmkd_ros.inference.sealed import SUFFIXES, Sealed, read_sealed
from mmkd_ros.inference.weights_file import check_detector

T = TypeVar("T")
_log = logging.getLogger(__name__)


def load_model(weights: Path, input_size: tuple[int, int], device: str, backend: str, half: str, threads: int) -> Model:
    """The model of a file; the arguments are those of an ``InferenceSession``.

    Raises:
        WeightsError: the file cannot be used.
        ValueError: input size, device, backend or half cannot be used.
    """

    def torch_model() -> Callable[[str], Model]:
        from mmkd_ros.inference.network_model import NetworkModel

        return lambda reason: NetworkModel.load(weights, input_size, device, half, threads, reason)

    return open_network(
        weights,
        device,
        backend,
        graph=lambda: cached_graph(weights, check_detector, input_size),
        engine=lambda file: ExportedModel(file, input_size, device, backend, half, threads),
        torch=torch_model,
    )


def open_network(
    weights: Path,
    device: str,
    backend: str,
    *,
    graph: Callable[[], Sealed],
    engine: Callable[[Sealed], T],
    torch: Callable[[], Callable[[str], T]],
) -> T:
    """The network of a file, on the engine that serves it.

    Args:
        weights: .safetensors, or a sealed file.
        device: 'auto', 'cpu' or 'cuda[:i]'.
        backend: one of ``BACKENDS``.
        graph: makes the sealed file of .safetensors weights.
        engine: opens a sealed file.
        torch: imports what opens the weights by torch; that is told why it is torch.

    Raises:
        WeightsError: the file cannot be used.
        ValueError: device or backend cannot be used.
    """
    check_backend_name(backend)
    if weights.suffix in SUFFIXES:
        return engine(read_sealed(weights))
    engines, reason = choose_engines(device, backend)
    if engines:
        try:
            return engine(graph())
        except ValueError as error:
            if backend != "auto":
                raise
            _log.warning("The network is run by torch: %s", error)
            reason = f"torch: {error}"
    try:
        by_torch = torch()
    except (ImportError, OSError) as error:  # OSError: a library of CUDA is missing
        raise TorchMissingError(weights, error) from error
    return by_torch(reason)
