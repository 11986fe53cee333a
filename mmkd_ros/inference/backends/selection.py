"""Which engine: the one that was asked for, or by timing the fastest that answers as torch does."""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmkd_ros.inference.backends.backend import BACKENDS, Backend
from mmkd_ros.inference.backends.cache import cache_name, read_cache, write_cache
from mmkd_ros.inference.backends.exported import ExportedBackend, engine_versions
from mmkd_ros.inference.backends.torch_backend import TorchBackend
from mmkd_ros.network.anchors import decode_boxes

SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.5  # pixels of the network's input
_ROUNDS = 5
_log = logging.getLogger(__name__)

Images = tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]


def check_backend_name(name: str) -> None:
    """Raises ValueError for a name that is not in BACKENDS."""
    if name not in BACKENDS:
        raise ValueError(f"backend '{name}' is unknown; use one of {', '.join(BACKENDS)}.")


def open_backend(name: str, reference: TorchBackend, weights_sha256: str, threads: int) -> tuple[Backend, str]:
    """Make a backend ready.

    Args:
        name: one of :data:`BACKENDS`.
        reference: the network on torch.
        weights_sha256: digest of its weights.
        threads: CPU threads of one call.

    Returns:
        (backend, why it was taken).

    Raises:
        ValueError: unknown name, or an engine that was asked for and cannot run.
    """
    check_backend_name(name)
    if name == "auto":
        backend, why = _fastest(reference, weights_sha256, threads)
        _log.info("Inference backend %s", why)
        return backend, why
    if name == "torch":
        return reference, "torch: as asked"
    if reference.device != "cpu":
        raise ValueError(f"backend '{name}' runs on the CPU only; use device 'cpu', or backend 'torch' for CUDA.")
    return ExportedBackend(name, reference.detector, weights_sha256, threads), f"{name}: as asked"


def disagreement(backend: Backend, reference: Backend, anchors: torch.Tensor, images: Images) -> tuple[float, float]:
    """(largest difference of a probability, largest difference of a box coordinate in pixels) over all anchors.

    Args:
        backend: the one in question.
        reference: the one that is right.
        anchors: (A, 4) xyxy in network pixels.
        images: rgb (H, W, 3) or None, thermal (H, W) or None.
    """
    found, right = (
        (logits.float().softmax(dim=-1), decode_boxes(offsets.float(), anchors))
        for logits, offsets in (backend(*images), reference(*images))
    )
    return float((found[0] - right[0]).abs().max()), float((found[1] - right[1]).abs().max())


def _fastest(reference: TorchBackend, weights_sha256: str, threads: int) -> tuple[Backend, str]:
    """The fastest correct backend, timed here or remembered; never raises for an engine that does not work."""
    versions = engine_versions()
    if reference.device != "cpu":
        return reference, f"torch: the other engines do not use {reference.device}"
    if not versions:
        return reference, "torch: no other engine is installed (requirements/backends.txt lists them)"
    facts = (_machine(), threads, weights_sha256, reference.detector.config.to_dict(), torch.__version__, versions)
    memory = cache_name("choice", ".json", *facts)
    remembered = read_cache(memory)
    if remembered is not None:
        choice = json.loads(remembered)
        if choice["backend"] == "torch":
            return reference, choice["why"]
        try:
            return ExportedBackend(choice["backend"], reference.detector, weights_sha256, threads), choice["why"]
        except ValueError as error:
            _log.warning("The remembered backend %s does not start (%s); timing again.", choice["backend"], error)
    correct: list[Backend] = [reference]
    images = _noise(*reference.detector.config.input_size)
    for name in versions:
        try:
            backend = ExportedBackend(name, reference.detector, weights_sha256, threads)
            _check(backend, reference, images)
        except (ValueError, RuntimeError) as error:
            _log.warning("Backend %s is left out: %s", name, error)
        else:
            correct.append(backend)
    times = milliseconds(correct, images)
    order = sorted(correct, key=lambda backend: times[backend.name])
    why = f"{order[0].name}: fastest here, " + ", ".join(f"{b.name} {times[b.name]:.1f} ms" for b in order) + " a pair"
    write_cache(memory, json.dumps({"backend": order[0].name, "why": why}).encode())
    return order[0], why


def _check(backend: Backend, reference: TorchBackend, images: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    """Raises ValueError when the backend answers otherwise than torch for a pair or for one of its images."""
    anchors = reference.detector.anchors(*reference.detector.config.input_size)
    rgb, thermal = images
    for given in ((rgb, thermal), (rgb, None), (None, thermal)):
        scores, boxes = disagreement(backend, reference, anchors, given)
        if not (scores <= SCORE_TOLERANCE and boxes <= BOX_TOLERANCE):  # NaN is not right either
            raise ValueError(f"its scores differ from torch's by up to {scores:.2g}, its boxes by {boxes:.2g} px.")


def milliseconds(
    backends: list[Backend], images: tuple[NDArray[np.uint8], NDArray[np.uint8]], rounds: int = _ROUNDS
) -> dict[str, float]:
    """Shortest time of a call by name; the backends take turns, so that a busy moment hits all of them."""
    best = {backend.name: float("inf") for backend in backends}
    for number in range(rounds + 1):
        for backend in backends:
            started = time.perf_counter()
            backend(*images)
            if number:  # the first round warms up
                best[backend.name] = min(best[backend.name], 1e3 * (time.perf_counter() - started))
    return best


def _noise(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A pair in which every pixel matters: grey images would hide a wrong channel or row."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), np.uint8), rng.integers(0, 256, (height, width), np.uint8)


def _machine() -> str:
    """Processor and usable cores; a home folder may be shared by several machines."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = f"{model} (model unknown)"
    return f"{platform.machine()} {model} {len(os.sched_getaffinity(0))}"
