"""Where the time of the network goes: multiply-accumulates and milliseconds of each of its parts.

In: weights. Out: a table. The times are OpenVINO's own, operation by operation, of the graph that a node runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmkd_ros.inference import WeightsError
from mmkd_ros.inference.backends.backend import import_engine
from mmkd_ros.inference.backends.graph import DetectionGraph, to_onnx
from mmkd_ros.inference.backends.openvino_backend import computes_in_bf16, openvino_settings
from mmkd_ros.inference.backends.timing import trial_images
from mmkd_ros.inference.fold import fold_batch_norms
from mmkd_ros.inference.weights import load_detector
from mmkd_ros.network import count_macs_by_part
from mmkd_train.errors import UserError

OTHER = "normalisation, decoding"


def benchmark_parts(
    weights: Path, repeats: int, threads: int, input_size: tuple[int, int]
) -> dict[str, dict[str, float]]:
    """Cost of the parts of the network at batch 1, both cameras.

    Args:
        weights: of the detector, .safetensors.
        repeats: rounds; the shortest time of each operation counts.
        threads: of a call.
        input_size: (height, width) of the network, multiples of 32.

    Returns:
        "gmac" and, for each precision that the processor computes in, "ms, float32" and "ms, bfloat16": part -> value,
        in the order of the data's way through the network.

    Raises:
        UserError: weights that cannot be used, or OpenVINO or onnx is not installed.
    """
    try:
        detector, _ = load_detector(weights, input_size)
        macs = count_macs_by_part(detector, *input_size)
        fold_batch_norms(detector.eval())
        graph = to_onnx(DetectionGraph(detector))
        found = {"gmac": {part: value / 1e9 for part, value in macs.items()}}
        for bf16 in (False, True) if computes_in_bf16() else (False,):
            column = f"ms, {'bfloat16' if bf16 else 'float32'}"
            found[column] = _milliseconds(graph, repeats, threads, bf16, input_size, macs)
    except (WeightsError, ValueError) as error:
        raise UserError(str(error)) from error
    return found


def _milliseconds(
    graph: bytes, repeats: int, threads: int, bf16: bool, size: tuple[int, int], parts: Iterable[str]
) -> dict[str, float]:
    """Milliseconds of each part, and of what belongs to none as OTHER.

    Raises:
        ValueError: OpenVINO is not installed.
    """
    openvino = import_engine("openvino")
    core = openvino.Core()
    settings = openvino_settings(threads, bf16) | {"PERF_COUNT": True}
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
    rgb, thermal = trial_images(*size)
    images = {"rgb": rgb[None], "thermal": thermal[None], "present": np.ones(2, np.float32)}
    request.infer(images)
    best: dict[str, float] = {}
    for _ in tqdm(range(repeats), desc="parts", leave=False, mininterval=1, delay=2):
        request.infer(images)
        for operation in request.profiling_info:
            seconds = operation.real_time.total_seconds()
            best[operation.node_name] = min(best.get(operation.node_name, np.inf), seconds)
    spent = dict.fromkeys((*parts, OTHER), 0.0)
    for name, seconds in best.items():
        module = name.strip("/").split("/")[0].partition(".")[0]  # "/rgb_backbone/net/...", "/fusion.0/conv/..."
        spent[module if module in spent else OTHER] += 1e3 * seconds
    return spent


def format_parts(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lines of the printed table; none without figures."""
    if not found:
        return []
    totals = {column: sum(values.values()) for column, values in found.items()}
    lines = [f"{'part':<24}" + "".join(f"{column:>22}" for column in found)]
    for part in (*found["gmac"], OTHER, "all"):
        cells = ""
        for column, values in found.items():
            value = totals[column] if part == "all" else values.get(part, 0.0)
            cells += f"{value:14.2f} ({value / totals[column]:4.0%})"
        lines.append(f"{part:<24}{cells}")
    return lines
