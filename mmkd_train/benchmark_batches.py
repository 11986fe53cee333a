"""What it brings to run several pairs in one call of the network, on every engine.

In: weights and numbers of pairs. Out: milliseconds a pair. The shipped graphs take one pair at a time; graphs of more
are made here for the comparison, of the network alone: decoding is per pair in any case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from mmkd_ros.inference import WeightsError
from mmkd_ros.inference.backends.graph import DetectionGraph, to_onnx
from mmkd_ros.inference.backends.timing import trial_images
from mmkd_ros.inference.backends.torch_backend import TorchBackend, choose_device
from mmkd_ros.inference.fold import fold_batch_norms
from mmkd_ros.inference.normalize import network_inputs
from mmkd_ros.inference.weights import load_detector
from mmkd_ros.network import Detector
from mmkd_train.engines import graph_engines
from mmkd_train.errors import UserError


class _Network(nn.Module):
    """The detector on a fixed number of uint8 pairs, as ``to_onnx`` takes a graph."""

    inputs, outputs = ("rgb", "thermal"), ("logits", "offsets")
    any_length: tuple[str, ...] = ()

    def __init__(self, detector: Detector, pairs: int) -> None:
        super().__init__()
        self.detector, self._pairs = detector, pairs

    def arrays(self) -> dict[str, NDArray[np.uint8]]:
        """A batch of pairs by input name."""
        images = zip(self.inputs, trial_images(*self.detector.config.input_size), strict=True)
        return {name: np.stack([image] * self._pairs) for name, image in images}

    def examples(self) -> tuple[Tensor, ...]:
        """One tensor per name in ``inputs``."""
        return tuple(torch.from_numpy(array) for array in self.arrays().values())

    def forward(self, rgb: Tensor, thermal: Tensor) -> tuple[Tensor, ...]:
        """Logits and offsets of each pair."""
        output = self.detector(*network_inputs(rgb, thermal, self.detector.config))
        return output.logits, output.offsets


def benchmark_batches(
    weights: Path, sizes: Sequence[int], repeats: int, threads: int, device: str, input_size: tuple[int, int]
) -> dict[str, dict[str, float]]:
    """Time of one pair in batches of several sizes.

    Args:
        weights: of the detector, .safetensors.
        sizes: pairs of one call.
        repeats: rounds in which all calls take turns; the shortest time counts.
        threads: of each call.
        device: of torch.
        input_size: (height, width) of the network, multiples of 32.

    Returns:
        Engine -> number of pairs -> milliseconds a pair: on the CPU processor time, which other programs hardly change;
        on CUDA what the clock says.

    Raises:
        UserError: weights or device that cannot be used.
    """
    try:
        chosen = choose_device(device)
        detector, _ = load_detector(weights, input_size)
    except (WeightsError, ValueError) as error:
        raise UserError(str(error)) from error
    torch.set_num_threads(threads)
    fold_batch_norms(detector.eval())
    engines, calls = graph_engines(threads), dict[tuple[str, int], Callable[[], object]]()
    for size in tqdm(sizes, desc="graphs", leave=False, mininterval=1):
        network = _Network(detector, size)
        graph = to_onnx(cast(DetectionGraph, network)) if engines else b""
        for engine, compiled in engines.items():
            calls[engine, size] = partial(compiled(graph).run, network.arrays())
    backend = TorchBackend(detector, chosen, torch.float16 if chosen.type == "cuda" else torch.float32)
    for size in sizes:
        calls["torch", size] = partial(backend.batch, [trial_images(*detector.config.input_size)] * size)
    clock = time.perf_counter if chosen.type == "cuda" else time.process_time
    best = dict.fromkeys(calls, float("inf"))
    for number in tqdm(range(repeats + 1), desc="batches", leave=False, mininterval=1):
        for key, call in calls.items():
            started = clock()
            call()
            if number:  # the first round warms up
                best[key] = min(best[key], 1e3 * (clock() - started) / key[1])
    return {engine: {str(size): best[engine, size] for size in sizes} for engine in ("torch", *engines)}


def format_batches(times: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lines of the printed table."""
    return [
        f"batches, {engine:<14}" + "  ".join(f"{size}: {value:.1f} ms a pair" for size, value in row.items())
        for engine, row in times.items()
    ]
