"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from mmkd_ros.inference.backends.backend import import_engine

Run = Callable[[dict[str, NDArray[Any]]], list[NDArray[Any]]]
"""Arrays by input name -> the graph's outputs, valid until the next call."""


class CompiledGraph(NamedTuple):
    """A graph that an engine has loaded."""

    run: Run
    metadata: dict[str, str]
    """What the graph says about itself."""


def compile_onnxruntime(model: bytes, threads: int) -> CompiledGraph:
    """Load an ONNX graph.

    Args:
        model: the serialised graph.
        threads: of one call.

    Raises:
        ValueError: the package is missing, or refuses the graph.
    """
    runtime = import_engine("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads sleep instead of spinning: between two pairs the cores belong to cameras and other nodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base
        raise ValueError(f"onnxruntime {runtime.__version__} refuses the graph ({str(error)[:200]}).") from error

    def run(images: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            outputs: list[NDArray[Any]] = session.run(None, images)
        except Exception as error:  # as above
            raise RuntimeError(f"onnxruntime failed: {error}") from error
        return outputs

    return CompiledGraph(run, session.get_modelmeta().custom_metadata_map)
