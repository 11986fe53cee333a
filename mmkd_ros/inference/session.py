"""Weights file -> callable(ImagePair) -> Detections, on the CPU or a CUDA device, by one of several engines."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from mmkd_ros.imaging import thermal_to_uint8
from mmkd_ros.inference.backends import ENGINES, Backend, TorchBackend, check_backend_name, open_backend
from mmkd_ros.inference.fold import fold_batch_norms
from mmkd_ros.inference.postprocess import detect
from mmkd_ros.inference.preprocess import letterbox
from mmkd_ros.inference.weights import load_detector
from mmkd_ros.network import Detector
from mmkd_ros.types import Detections, ImagePair


class InferenceError(Exception):
    """One pair could not be processed (device error, NaN); the session itself can be used again."""


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """What may be chosen without touching the weights.

    Raises:
        ValueError: a value out of range.
    """

    score_threshold: float = 0.5
    nms_iou: float = 0.4
    max_detections: int = 100
    half: Literal["auto", "on", "off"] = "auto"
    """float16 on CUDA; 'auto' = on there, off on the CPU (where 'on' is refused: it is slower)."""
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


def choose_device(device: str) -> torch.device:
    """'auto' -> CUDA when there is one, else the CPU; 'cpu' or 'cuda[:i]' -> that one.

    Raises:
        ValueError: unknown name, or CUDA asked for and absent.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device '{device}' is unknown; use 'auto', 'cpu' or 'cuda'.") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device '{device}' is not supported; use 'auto', 'cpu' or 'cuda'.")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device 'cuda' was asked for but this torch sees none; use 'auto' or 'cpu', or install a "
            "CUDA build of torch."
        )
    return chosen


class InferenceSession:
    """A detector ready to run.

    Args:
        weights: a file written by :func:`mmkd_ros.inference.weights.save_detector`.
        device: 'auto', 'cpu' or 'cuda[:i]'.
        backend: 'torch', 'onnxruntime', 'openvino', or 'auto': the fastest of these that is installed and answers as
            torch does, timed once and remembered. Only torch uses CUDA; for the other two device 'auto' is the CPU.
        options: fields of :class:`InferenceOptions`.

    Raises:
        WeightsError: the file cannot be used.
        ValueError: an option, the device or the backend cannot be used.
    """

    _backend: Backend

    def __init__(self, weights: str | Path, device: str = "auto", backend: str = "torch", **options: Any) -> None:
        check_backend_name(backend)
        chosen = choose_device("cpu" if device == "auto" and backend in ENGINES else device)
        parsed = InferenceOptions(**options)
        detector, metadata = load_detector(Path(weights))
        self._setup(detector, metadata, chosen, parsed)
        self._backend, self._why = open_backend(backend, self._reference, self.weights_sha256, self._threads)

    @classmethod
    def from_detector(cls, detector: Detector, device: str = "cpu", **options: Any) -> InferenceSession:
        """A session on a network that is in memory, which it takes over: evaluation mode, batch norms folded. Training
        evaluates a copy this way."""
        session = cls.__new__(cls)
        session._setup(detector.eval(), {}, choose_device(device), InferenceOptions(**options))
        return session

    def _setup(
        self, detector: Detector, metadata: dict[str, Any], device: torch.device, options: InferenceOptions
    ) -> None:
        if options.half == "on" and device.type == "cpu":
            raise ValueError("half 'on' needs a CUDA device; use 'auto'.")
        self._threads = options.threads or max(1, len(os.sched_getaffinity(0)) // 2)
        torch.set_num_threads(self._threads)
        self.options = options
        self.metadata = metadata
        fold_batch_norms(detector)
        dtype = torch.float16 if device.type == "cuda" and options.half != "off" else torch.float32
        self._reference = TorchBackend(detector, device, dtype)
        self._detector = self._reference.detector
        self._backend = self._reference
        self._why = "torch: a network in memory"

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
        return self._detector.config.class_names

    @property
    def device(self) -> str:
        """Where it runs, e.g. 'cpu' or 'cuda'."""
        return self._backend.device

    @property
    def backend(self) -> str:
        """The engine in use: 'torch', 'onnxruntime' or 'openvino'."""
        return self._backend.name

    @property
    def backend_reason(self) -> str:
        """Why this engine is in use, in words, with the times where it was chosen by time."""
        return self._why

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input in pixels."""
        return self._detector.config.input_size

    @property
    def weights_sha256(self) -> str:
        """Digest of the weights, '' for a network that came from memory."""
        return str(self.metadata.get("sha256", ""))

    def warm_up(self) -> None:
        """Run each modality once on grey images, so that the first real pair is not the slow one."""
        height, width = self.input_size
        rgb, thermal = np.full((height, width, 3), 127, np.uint8), np.full((height, width), 127, np.uint8)
        for pair in (ImagePair(rgb, thermal, 0.0), ImagePair(rgb, None, 0.0), ImagePair(None, thermal, 0.0)):
            self(pair)

    @torch.inference_mode()
    def __call__(self, pair: ImagePair) -> Detections:
        """Detect in one pair.

        Returns:
            Boxes in pixels of ``pair.rgb`` (of ``pair.thermal`` when there is no RGB), clipped to the image.

        Raises:
            InferenceError: the device failed or the network answered NaN; nothing is kept of this pair.
        """
        height, width = self.input_size
        scale, rgb, thermal = 1.0, None, None
        if pair.thermal is not None:
            thermal, scale = letterbox(self._align(pair), height, width)
        if pair.rgb is not None:
            rgb, scale = letterbox(pair.rgb, height, width)
        try:
            options = self.options
            logits, offsets = self._backend(rgb, thermal)
            boxes, scores, labels = detect(
                logits,
                offsets,
                self._detector.anchors(height, width),
                options.score_threshold,
                options.nms_iou,
                options.max_detections,
            )
        except (RuntimeError, FloatingPointError) as error:  # out of memory and device errors are RuntimeErrors
            raise InferenceError(f"The detector failed on this pair ({str(error)[:200]}); it is skipped.") from error
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
