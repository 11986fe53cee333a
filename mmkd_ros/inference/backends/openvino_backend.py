"""OpenVINO on the CPU, in float32."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from mmkd_ros.inference.backends.backend import import_engine
from mmkd_ros.inference.backends.onnx_backend import CompiledGraph

_METADATA = "framework"  # where OpenVINO keeps the metadata of an ONNX graph


def compile_openvino(model: bytes, threads: int, constants: bytes = b"") -> CompiledGraph:
    """Load an ONNX graph, or a model in OpenVINO's own format.

    Args:
        model: the serialised graph; of OpenVINO's own format the .xml file.
        constants: of OpenVINO's own format the .bin file.
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
        graph = core.read_model(model, constants) if constants else core.read_model(model)
        request = core.compile_model(graph, "CPU", settings).create_infer_request()
    except RuntimeError as error:
        raise ValueError(f"openvino {openvino.__version__} refuses the graph ({str(error)[:200]}).") from error

    def run(images: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        return list(request.infer(images, share_inputs=True, share_outputs=True).values())

    info = graph.get_rt_info([_METADATA]).value if graph.has_rt_info([_METADATA]) else {}
    return CompiledGraph(run, {key: str(value) for key, value in info.items()})
