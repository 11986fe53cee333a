"""Which engine: the one that was asked for, or by timing the fastest that answers as torch does."""

from __future__ import annotations

import json
import logging

import torch

from mmkd_ros.inference.backends.backend import Answer, Backend, check_backend_name
from mmkd_ros.inference.backends.cache import cache_name, read_cache, write_cache
from mmkd_ros.inference.backends.exported import ExportedBackend, engine_versions
from mmkd_ros.inference.backends.timing import Images, fastest, machine, milliseconds, trial_images
from mmkd_ros.inference.backends.torch_backend import TorchBackend
from mmkd_ros.network.anchors import decode_boxes

SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.5  # pixels of the network's input
_log = logging.getLogger(__name__)


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

    def decoded(answer: Answer) -> tuple[torch.Tensor, torch.Tensor]:
        logits, offsets = map(torch.from_numpy, answer)
        return logits.softmax(dim=-1), decode_boxes(offsets, anchors)

    found, right = decoded(backend(*images)), decoded(reference(*images))
    return float((found[0] - right[0]).abs().max()), float((found[1] - right[1]).abs().max())


def _fastest(reference: TorchBackend, weights_sha256: str, threads: int) -> tuple[Backend, str]:
    """The fastest correct backend, timed here or remembered; never raises for an engine that does not work."""
    versions = engine_versions()
    if reference.device != "cpu":
        return reference, f"torch: the other engines do not use {reference.device}"
    if not versions:
        return reference, "torch: no other engine is installed (requirements/backends.txt lists them)"
    facts = (machine(), threads, weights_sha256, reference.detector.config.to_dict(), torch.__version__, versions)
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
    images = trial_images(*reference.detector.config.input_size)
    for name in versions:
        try:
            backend = ExportedBackend(name, reference.detector, weights_sha256, threads)
            _check(backend, reference, images)
        except (ValueError, RuntimeError) as error:
            _log.warning("Backend %s is left out: %s", name, error)
        else:
            correct.append(backend)
    by_name = {backend.name: backend for backend in correct}
    best, why = fastest(milliseconds(by_name, images))
    write_cache(memory, json.dumps({"backend": best, "why": why}).encode())
    return by_name[best], why


def _check(backend: Backend, reference: TorchBackend, images: Images) -> None:
    """Raises ValueError when the backend answers otherwise than torch for a pair or for one of its images."""
    anchors = reference.detector.anchors(*reference.detector.config.input_size)
    rgb, thermal = images
    for given in ((rgb, thermal), (rgb, None), (None, thermal)):
        scores, boxes = disagreement(backend, reference, anchors, given)
        if not (scores <= SCORE_TOLERANCE and boxes <= BOX_TOLERANCE):  # NaN is not right either
            raise ValueError(f"its scores differ from torch's by up to {scores:.2g}, its boxes by {boxes:.2g} px.")
