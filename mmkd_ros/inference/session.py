"""Weights file -> callable(ImagePair) -> Detections, on the CPU or a CUDA device, by one of several engines.

torch is imported by backend 'torch' and on a CUDA device alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from mmkd_ros.imaging import thermal_to_uint8
from mmkd_ros.inference.backends.timing import Images
from mmkd_ros.inference.errors import InferenceError
from mmkd_ros.inference.loading import load_model
from mmkd_ros.inference.model import Model
from mmkd_ros.inference.postprocess import Candidates, suppress
from mmkd_ros.inference.preprocess import letterbox
from mmkd_ros.types import Detections, ImagePair

if TYPE_CHECKING:
    from mmkd_ros.network import Detector


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """What may be chosen without touching the weights.

    Raises:
        ValueError: a value out of range.
    """

    score_threshold: float = 0.35
    nms_iou: float = 0.4
    max_detections: int = 100
    half: Literal["auto", "on", "off"] = "auto"
    """float16 on CUDA, where 'auto' = on. On a CPU bfloat16 by OpenVINO: 'auto' makes it one more engine for backend
    'auto' to time, if the processor computes in it; 'on' is refused if it does not, and by other engines."""
    threads: int = 0
    """CPU threads of the network, a setting of the whole process; 0 = half of the cores, at least one. More than that
    loses: the threads wait for each other at every layer, and cameras and other nodes need cores too."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"threads must not be negative, got {self.threads}; 0 takes half of the cores.")
        if not 0.0 <= self.score_threshold < 1.0:
            raise ValueError(f"score_threshold must be in [0, 1), got {self.score_threshold}.")
        if not 0.0 < self.nms_iou <= 1.0:
            raise ValueError(f"nms_iou must be in (0, 1], got {self.nms_iou}.")
        if self.max_detections < 1:
            raise ValueError(f"max_detections must be at least 1, got {self.max_detections}.")
        if self.half not in ("auto", "on", "off"):
            raise ValueError(f"half must be 'auto', 'on' or 'off', got '{self.half}'.")

    @property
    def cpu_threads(self) -> int:
        """Threads to use: as asked, else half of the cores."""
        return self.threads or max(1, len(os.sched_getaffinity(0)) // 2)


class InferenceSession:
    """A detector ready to run.

    Args:
        weights: a .safetensors file written by :func:`mmkd_ros.inference.weights.save_detector`, or a model written by
            `python -m mmkd_train export`: .onnx, or .xml with its .bin.
        device: 'auto', 'cpu' or 'cuda[:i]'.
        backend: 'torch', 'onnxruntime', 'openvino', or 'auto': torch on CUDA; on the CPU the fastest of the other two
            that is installed and answers as torch does, timed once and remembered, and torch where there is none.
            'onnxruntime' on CUDA runs the network by TensorRT or CUDA, whichever its build has and is faster.
        input_size: (height, width) in multiples of 32, or (0, 0): as the weights file says.
        options: fields of :class:`InferenceOptions`.

    Raises:
        WeightsError: the file cannot be used.
        ValueError: an option, the input size, the device or the backend cannot be used.
    """

    _model: Model

    def __init__(
        self,
        weights: str | Path,
        device: str = "auto",
        backend: str = "torch",
        input_size: tuple[int, ...] = (0, 0),
        **options: Any,
    ) -> None:
        if len(input_size) != 2 or min(input_size) < 0:
            raise ValueError(f"input_size must be height and width in pixels, or 0 and 0, got {list(input_size)}.")
        self.options = InferenceOptions(**options)
        self._model = load_model(
            Path(weights),
            (input_size[0], input_size[1]),
            device,
            backend,
            self.options.half,
            self.options.cpu_threads,
        )

    @classmethod
    def from_detector(cls, detector: Detector, device: str = "cpu", **options: Any) -> InferenceSession:
        """A session on a network that is in memory, which it takes over: evaluation mode, batch norms folded. Training
        evaluates a copy this way."""
        from mmkd_ros.inference.network_model import NetworkModel

        session = cls.__new__(cls)
        session.options = InferenceOptions(**options)
        session._model = NetworkModel(detector, device, session.options.half, session.options.cpu_threads)
        return session

    def change(self, **options: Any) -> None:
        """Other thresholds from the next pair on; any thread may call it.

        Args:
            options: ``score_threshold``, ``nms_iou``, ``max_detections``; what is not given stays.

        Raises:
            ValueError: a value out of range, or an option that is fixed when the session is made.
        """
        fixed = set(options) - {"score_threshold", "nms_iou", "max_detections"}
        if fixed:
            raise ValueError(f"{', '.join(sorted(fixed))} cannot change in a session; make a new one.")
        self.options = replace(self.options, **options)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return self._model.class_names

    @property
    def device(self) -> str:
        """Where it runs, e.g. 'cpu' or 'cuda'."""
        return self._model.device

    @property
    def backend(self) -> str:
        """The engine in use: 'torch', 'onnxruntime', 'openvino', 'openvino bf16', 'onnxruntime tensorrt' or
        'onnxruntime cuda'."""
        return self._model.backend

    @property
    def backend_reason(self) -> str:
        """Why this engine is in use, in words, with the times where it was chosen by time."""
        return self._model.reason

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input in pixels."""
        return self._model.input_size

    @property
    def weights_sha256(self) -> str:
        """Digest of the weights, '' for a network that came from memory."""
        return self._model.sha256

    @property
    def batch_size(self) -> int:
        """Most pairs that are worth running in one call of :meth:`detect_batch`; 1: one after the other is as fast."""
        return self._model.batch_size

    def warm_up(self) -> None:
        """Run each modality once on grey images, so that the first real pair is not the slow one. Other engines than
        torch have run a trial already."""
        if self.backend != "torch":
            return
        grey = self._grey()
        for pair in (grey, ImagePair(grey.rgb, None, 0.0), ImagePair(None, grey.thermal, 0.0)):
            self(pair)

    def warm_up_batches(self, most: int) -> None:
        """Run 2 to ``most`` grey pairs at a time, as far as ``batch_size`` allows."""
        for size in range(2, min(most, self.batch_size) + 1):
            self.detect_batch([self._grey()] * size)

    def _grey(self) -> ImagePair:
        height, width = self.input_size
        return ImagePair(np.full((height, width, 3), 127, np.uint8), np.full((height, width), 127, np.uint8), 0.0)

    def __call__(self, pair: ImagePair) -> Detections:
        """Detect in one pair.

        Returns:
            Boxes in pixels of ``pair.rgb`` (of ``pair.thermal`` when there is no RGB), clipped to the image.

        Raises:
            InferenceError: the device failed or the network answered NaN; nothing is kept of this pair.
        """
        images, scale = self._letterbox(pair)
        options = self.options
        try:
            return self._detections(pair, self._model(*images, options.score_threshold), scale, options)
        except (RuntimeError, FloatingPointError) as error:  # out of memory and device errors are RuntimeErrors
            raise _failure(error) from error

    def detect_batch(self, pairs: Sequence[ImagePair]) -> list[Detections | Exception]:
        """Detect in several pairs by one call of the network where its engine can, of any sizes and modalities.

        Returns:
            For each pair what a call for it alone gives, or an InferenceError where the network answered NaN to it.

        Raises:
            InferenceError: the device failed, so that none of them has an answer.
        """
        inputs = [self._letterbox(pair) for pair in pairs]
        options = self.options
        try:
            found = self._model.batch([images for images, _ in inputs], options.score_threshold)
        except RuntimeError as error:
            raise _failure(error) from error
        answers: list[Detections | Exception] = []
        for pair, (_, scale), candidates in zip(pairs, inputs, found, strict=True):
            if isinstance(candidates, FloatingPointError):
                answers.append(_failure(candidates))
                continue
            try:
                answers.append(self._detections(pair, candidates, scale, options))
            except FloatingPointError as error:
                answers.append(_failure(error))
        return answers

    def _letterbox(self, pair: ImagePair) -> tuple[Images, float]:
        """The network's input, with network pixel = scale * image pixel."""
        height, width = self.input_size
        scale, rgb, thermal = 1.0, None, None
        if pair.thermal is not None:
            thermal, scale = letterbox(self._align(pair), height, width)
        if pair.rgb is not None:
            rgb, scale = letterbox(pair.rgb, height, width)
        return (rgb, thermal), scale

    def _detections(self, pair: ImagePair, found: Candidates, scale: float, options: InferenceOptions) -> Detections:
        boxes, scores, labels = suppress(found, options.nms_iou, options.max_detections)
        image_height, image_width = pair.size
        boxes = np.clip(boxes / scale, 0.0, np.array([image_width, image_height] * 2)).astype(np.float32)
        solid = (boxes[:, 2] - boxes[:, 0] > 1e-3) & (boxes[:, 3] - boxes[:, 1] > 1e-3)
        return Detections(boxes[solid], scores[solid], labels[solid], self.class_names, pair.stamp, pair.modality)

    @staticmethod
    def _align(pair: ImagePair) -> np.ndarray:
        """The thermal image as uint8, stretched to the RGB image's aspect: both show the same field of view."""
        if pair.thermal is None:
            raise ValueError("There is no thermal image to align.")
        thermal = thermal_to_uint8(pair.thermal)
        if pair.rgb is None:
            return thermal
        height, width = pair.rgb.shape[:2]
        if thermal.shape[0] * width == thermal.shape[1] * height:  # same aspect: the letterbox alone maps it
            return thermal
        return np.asarray(cv2.resize(thermal, (width, height), interpolation=cv2.INTER_LINEAR))


def _failure(error: Exception) -> InferenceError:
    return InferenceError(f"The detector failed on this pair ({str(error)[:200]}); it is skipped.")
