"""OpenVINO on the CPU, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.inference.backends.backend import import_engine
from mmkd_ros.inference.backends.onnx_backend import Run


def compile_openvino(model: bytes, threads: int) -> Run:
    """Load an ONNX graph.

    Args:
        model: the serialised graph.
        threads: of one call.

    Raises:
        ValueError: the package is missing, or refuses the graph.
    """
    openvino = import_engine("openvino")
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": "f32",
        # Two nodes that pin their threads would sit on the same core.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        core = openvino.Core()
        request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    except RuntimeError as error:
        raise ValueError(f"openvino {openvino.__version__} refuses the graph ({str(error)[:200]}).") from error

    def run(images: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        return list(request.infer(images, share_inputs=True, share_outputs=True).values())

    return run
