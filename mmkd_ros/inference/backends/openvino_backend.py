"""OpenVINO on the CPU, in float32 or bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mmkd_ros.inference.backends.backend import import_engine
from mmkd_ros.inference.backends.onnx_backend import CompiledGraph

_CPU = Path("/proc/cpuinfo")
_METADATA = "framework"  # where OpenVINO keeps the metadata of an ONNX graph


def computes_in_bf16() -> bool:
    """Whether the processor has instructions for bfloat16 (AVX-512 BF16, AMX, Arm BF16); where it has none, OpenVINO
    would imitate them slowly."""
    try:
        lines = _CPU.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def openvino_settings(threads: int, bf16: bool) -> dict[str, Any]:
    """How a network runs: one call after the other on ``threads`` threads, in float32 or bfloat16."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        # Two nodes that pin their threads would sit on the same core.
        "ENABLE_CPU_PINNING": False,
    }


def compile_openvino(model: bytes, threads: int, constants: bytes = b"", bf16: bool = False) -> CompiledGraph:
    """Load an ONNX graph, or a model in OpenVINO's own format.

    Args:
        model: the serialised graph; of OpenVINO's own format the .xml file.
        constants: of OpenVINO's own format the .bin file.
        threads: of one call.
        bf16: compute in bfloat16, whatever the graph says; inputs and outputs keep their types.

    Raises:
        ValueError: the package is missing, or refuses the graph.
    """
    openvino = import_engine("openvino")
    try:
        core = openvino.Core()
        graph = core.read_model(model, constants) if constants else core.read_model(model)
        request = core.compile_model(graph, "CPU", openvino_settings(threads, bf16)).create_infer_request()
    except RuntimeError as error:
        raise ValueError(f"openvino {openvino.__version__} refuses the graph ({str(error)[:200]}).") from error

    def run(images: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        return list(request.infer(images, share_inputs=True, share_outputs=True).values())

    info = graph.get_rt_info([_METADATA]).value if graph.has_rt_info([_METADATA]) else {}
    return CompiledGraph(run, {key: str(value) for key, value in info.items()})
