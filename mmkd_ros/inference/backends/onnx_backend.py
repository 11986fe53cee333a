"""ONNX Runtime, on the CPU or by one of its ways to a CUDA device."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from mmkd_ros.inference.backends.backend import ONNXRUNTIME_CUDA, ONNXRUNTIME_TENSORRT, PROVIDERS, import_engine
from mmkd_ros.inference.backends.cache import cache_folder

_log = logging.getLogger(__name__)

Run = Callable[[dict[str, NDArray[Any]]], list[NDArray[Any]]]
"""Arrays by input name -> the graph's outputs, valid until the next call."""


class CompiledGraph(NamedTuple):
    """A graph that an engine has loaded."""

    run: Run
    metadata: dict[str, str]
    """What the graph says about itself."""


class Gpu(NamedTuple):
    """Where and how a graph runs on CUDA."""

    card: int
    half: bool
    """TensorRT computes in float16; ONNX Runtime's own CUDA kernels do not."""

    def providers(self, engine: str) -> list[tuple[str, dict[str, Any]]]:
        """What ONNX Runtime is to try, in order: what the first cannot run goes to the next."""
        cuda = PROVIDERS[ONNXRUNTIME_CUDA], {"device_id": self.card}
        if engine == ONNXRUNTIME_CUDA:
            return [cuda]
        # TensorRT compiles for minutes, and names what it keeps by graph and card.
        folder, kept = cache_folder() / "tensorrt", True
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            kept = False
            _log.warning("%s cannot be written (%s); TensorRT will compile again at every start.", folder, error)
        settings = {
            "device_id": self.card,
            "trt_fp16_enable": self.half,
            "trt_engine_cache_enable": kept,
            "trt_engine_cache_path": str(folder),
        }
        return [(PROVIDERS[ONNXRUNTIME_TENSORRT], settings), cuda]


def parse_gpu(device: str, half: bool) -> Gpu | None:
    """'cuda[:i]' -> that GPU, 'auto' and 'cpu' -> None.

    Raises:
        ValueError: another name.
    """
    if device in ("auto", "cpu"):
        return None
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise ValueError(f"device '{device}' is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:1'.")
    return Gpu(int(number or 0), half)


def compile_onnxruntime(
    model: bytes, threads: int, engine: str = "onnxruntime", gpu: Gpu | None = None
) -> CompiledGraph:
    """Load an ONNX graph.

    Args:
        model: the serialised graph.
        threads: of one call.
        engine: with ``gpu``, one of ``PROVIDERS``.
        gpu: the CUDA device; None: the CPU.

    Raises:
        ValueError: the package is missing, refuses the graph, or does not start on the GPU.
    """
    runtime = import_engine("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads sleep instead of spinning: between two pairs the cores belong to cameras and other nodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [*(gpu.providers(engine) if gpu else ()), "CPUExecutionProvider"]
    try:
        session = runtime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # its exceptions have no common base
        raise ValueError(f"onnxruntime {runtime.__version__} refuses the graph ({str(error)[:200]}).") from error
    if gpu and session.get_providers()[0] != PROVIDERS[engine]:  # it would go on quietly by the next in the list
        raise ValueError(
            f"onnxruntime {runtime.__version__} does not start {PROVIDERS[engine]} on GPU {gpu.card}: a library of "
            "CUDA, cuDNN or TensorRT is missing or of another version (its log names it), or there is no such GPU."
        )

    def run(images: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            outputs: list[NDArray[Any]] = session.run(None, images)
        except Exception as error:  # as above
            raise RuntimeError(f"onnxruntime failed: {error}") from error
        return outputs

    return CompiledGraph(run, session.get_modelmeta().custom_metadata_map)
