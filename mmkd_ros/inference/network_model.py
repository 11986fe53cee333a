"""The network of a .safetensors file on torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_ros.inference.backends.timing import Images
from mmkd_ros.inference.backends.torch_backend import Answer, TorchBackend, choose_device
from mmkd_ros.inference.fold import fold_batch_norms
from mmkd_ros.inference.postprocess import Candidates, likely_anchors
from mmkd_ros.inference.weights import load_detector
from mmkd_ros.network import Detector
from mmkd_ros.network.anchors import decode_boxes

_CUDA_BATCH = 8


class NetworkModel:
    """A :class:`~mmkd_ros.inference.session.Model` around a network in memory, which it takes over: evaluation mode,
    batch norms folded.

    Attributes:
        detector: the network.
        backend: 'torch'.
        reason: why torch is in use.
        sha256: digest of the weights, '' for a network that came from memory.

    Args:
        detector: the network.
        device: 'auto', 'cpu' or 'cuda[:i]'.
        half: 'auto', 'on' or 'off', see ``InferenceOptions``.
        threads: CPU threads of one call, at least 1.
        reason: why torch is in use.
        sha256: digest of the weights.

    Raises:
        ValueError: the device cannot be used.
    """

    backend = "torch"

    def __init__(
        self,
        detector: Detector,
        device: str,
        half: str,
        threads: int,
        reason: str = "torch: as asked",
        sha256: str = "",
    ) -> None:
        chosen = choose_device(device)
        if half == "on" and chosen.type == "cpu":
            raise ValueError("half 'on' needs CUDA, or OpenVINO on a processor that computes in bfloat16; use 'auto'.")
        torch.set_num_threads(threads)
        fold_batch_norms(detector.eval())
        dtype = torch.float16 if chosen.type == "cuda" and half != "off" else torch.float32
        self._network = TorchBackend(detector, chosen, dtype)
        self.detector = self._network.detector
        self.reason, self.sha256 = reason, sha256
        self._anchors = detector.anchors(*self.input_size).cpu()

    @classmethod
    def load(
        cls, weights: Path, input_size: tuple[int, int], device: str, half: str, threads: int, reason: str
    ) -> NetworkModel:
        """The network of a weights file; ``input_size`` (height, width) as :func:`load_detector` takes it.

        Raises:
            WeightsError: the file cannot be used.
            ValueError: input size or device cannot be used.
        """
        detector, metadata = load_detector(weights, input_size)
        return cls(detector, device, half, threads, reason, str(metadata["sha256"]))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return self.detector.config.class_names

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.detector.config.input_size

    @property
    def device(self) -> str:
        """Where it runs, e.g. 'cpu' or 'cuda'."""
        return self._network.device

    @property
    def batch_size(self) -> int:
        """Most pairs of one call. On a CPU more at a time are no faster."""
        return 1 if self.device == "cpu" else _CUDA_BATCH

    def __call__(
        self, rgb: NDArray[np.uint8] | None, thermal: NDArray[np.uint8] | None, score_threshold: float
    ) -> Candidates:
        """See :class:`~mmkd_ros.inference.session.Model`."""
        return decode(self._network(rgb, thermal), self._anchors, score_threshold)

    def batch(self, images: Sequence[Images], score_threshold: float) -> list[Candidates | FloatingPointError]:
        """See :class:`~mmkd_ros.inference.session.Model`."""
        found: list[Candidates | FloatingPointError] = []
        for answer in self._network.batch(images):
            try:
                found.append(decode(answer, self._anchors, score_threshold))
            except FloatingPointError as error:
                found.append(error.with_traceback(None))  # which would keep the images alive
        return found


def decode(answer: Answer, anchors: Tensor, score_threshold: float) -> Candidates:
    """The likely boxes of an image, not yet suppressed.

    Args:
        answer: of the network.
        anchors: (A, 4) float32 xyxy in network pixels, on the CPU.
        score_threshold: least probability of a class.

    Raises:
        FloatingPointError: the network answered NaN.
    """
    logits, offsets = answer
    rows, scores, labels = likely_anchors(logits, score_threshold)
    boxes = decode_boxes(torch.from_numpy(offsets[rows]), anchors[torch.from_numpy(rows)])
    return Candidates(boxes.numpy(), scores, labels)
