"""The appearance network of the tracker node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmkd_ros.types import ImagePair


def load_encoder(weights: Path, device: str, *, alone: bool) -> Any:
    """An ``AppearanceEncoder``, warm. torch takes seconds to import: not before the node can be seen and stopped.

    Args:
        weights: of the appearance network.
        device: 'auto', 'cpu' or 'cuda[:i]'.
        alone: nothing else in this process uses torch, whose number of threads is one for the process.

    Raises:
        RuntimeError: torch cannot be imported.
        WeightsError: the weights cannot be used.
        ValueError: the device cannot be used.
    """
    try:
        import torch

        from mmkd_ros.inference.backends.torch_backend import choose_device
        from mmkd_ros.tracking.appearance import AppearanceEncoder
    except (ImportError, OSError) as error:  # OSError: a library of CUDA is missing
        raise RuntimeError(
            f"appearance needs torch, which cannot be imported ({error}); install it, or set appearance to false: "
            "objects are then tracked by motion alone."
        ) from error
    if alone:
        torch.set_num_threads(1)  # a tiny network: more threads only take the cores from the detector
    encoder = AppearanceEncoder(weights, str(choose_device(device)))
    grey = ImagePair(np.full((64, 64, 3), 127, np.uint8), np.full((64, 64), 127, np.uint8), 0.0)
    encoder.encode(grey, np.array([[0, 0, 64, 64]], np.float32))
    return encoder
