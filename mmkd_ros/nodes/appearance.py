"""The appearance network of the tracker node."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmkd_ros.inference.errors import TorchMissingError
from mmkd_ros.tracking.appearance import AppearanceEncoder
from mmkd_ros.types import ImagePair


def load_encoder(weights: Path, device: str, *, alone: bool) -> AppearanceEncoder:
    """The encoder, warm.

    Args:
        weights: of the appearance network.
        device: 'auto', 'cpu' or 'cuda[:i]'.
        alone: nothing else in this process uses torch, whose number of threads is one for the process.

    Raises:
        RuntimeError: torch is needed and cannot be imported.
        WeightsError: the weights cannot be used.
        ValueError: the device cannot be used.
    """
    try:
        encoder = AppearanceEncoder(weights, device, backend="auto")
    except TorchMissingError as error:
        raise RuntimeError(
            f"appearance needs torch: {error} Or set appearance to false: objects are then tracked by motion alone."
        ) from error
    if encoder.backend == "torch" and alone:
        import torch

        torch.set_num_threads(1)  # a tiny network: more threads only take the cores from the detector
    grey = ImagePair(np.full((64, 64, 3), 127, np.uint8), np.full((64, 64), 127, np.uint8), 0.0)
    encoder.encode(grey, np.array([[0, 0, 64, 64]], np.float32))
    return encoder
