"""Appearance vectors: a small CNN looks at the RGB and the thermal crop of every box together.

Why crops and not pooled detector features: the tracker is a process of its own that gets the images by topic, and
vision_msgs carry no feature vectors. So any detector can feed it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.tracking.crops import cut_crops
from mmkd_ros.tracking.embedder import open_embedder
from mmkd_ros.types import ImagePair

_BATCH = 256  # crops per forward pass: bounds the memory


class AppearanceEncoder:
    """Weights file -> callable that turns boxes in an image pair into appearance vectors.

    Attributes:
        config: what defines the network.
        dimension: length D of the vectors.
        device: where the network runs, e.g. 'cpu' or 'cuda'.
        backend: the engine in use.
        weights_sha256: digest of the weights.

    Args:
        weights: a .safetensors file, or a model written from it by `python -m mmkd_train export`: .onnx, or .xml.
        device: 'auto', 'cpu' or 'cuda[:i]'.
        backend: 'torch', 'onnxruntime', 'openvino', or 'auto': torch on CUDA, on the CPU the first of the two others
            that is installed.

    Raises:
        WeightsError: missing, broken or unfit weights.
        ValueError: the device or the backend cannot be used.
    """

    def __init__(self, weights: str | Path, device: str = "cpu", backend: str = "torch") -> None:
        self._embedder = open_embedder(Path(weights), device, backend)
        self.config = self._embedder.config
        self.dimension = self.config.dimension
        self.device = self._embedder.device
        self.backend = self._embedder.backend
        self.weights_sha256 = self._embedder.weights_sha256

    def encode(self, pair: ImagePair, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Appearance vectors of the boxes.

        Args:
            pair: the images; a missing one is zeros to the network, which was trained for that.
            boxes: (N, 4) float32 x1 y1 x2 y2 in pixels of the RGB image (of the thermal image without RGB).

        Returns:
            (N, D) float32, rows of length one. A row of zeros means "unknown": the box is not finite, lies outside the
            image or shows fewer than 2 x 2 pixels; the tracker then goes by motion and overlap alone.

        Raises:
            ValueError: boxes of another shape.
        """
        crops, valid = cut_crops(pair, boxes, self.config)
        vectors = np.zeros((len(crops), self.dimension), np.float32)
        rows = np.flatnonzero(valid)
        for start in range(0, len(rows), _BATCH):
            chosen = rows[start : start + _BATCH]
            vectors[chosen] = self._embedder(crops[chosen])
        vectors[~np.isfinite(vectors).all(axis=1)] = 0
        return vectors
