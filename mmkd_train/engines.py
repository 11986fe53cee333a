"""What runs an ONNX graph on this machine, by the engine's name: for benchmarks that compare engines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mmkd_ros.inference.backends.backend import OPENVINO_BF16, installed
from mmkd_ros.inference.backends.onnx_backend import CompiledGraph, compile_onnxruntime
from mmkd_ros.inference.backends.openvino_backend import compile_openvino, computes_in_bf16


def graph_engines(threads: int) -> dict[str, Callable[[bytes], CompiledGraph]]:
    """Engine -> what loads a serialised graph; empty where none, or onnx, which writes graphs, is not installed.

    Args:
        threads: of each call.
    """
    found: dict[str, Callable[[bytes], CompiledGraph]] = {}
    if not installed("onnx"):
        return found
    if installed("onnxruntime"):
        found["onnxruntime"] = partial(compile_onnxruntime, threads=threads)
    if installed("openvino"):
        found["openvino"] = partial(compile_openvino, threads=threads)
        if computes_in_bf16():
            found[OPENVINO_BF16] = partial(compile_openvino, threads=threads, bf16=True)
    return found
