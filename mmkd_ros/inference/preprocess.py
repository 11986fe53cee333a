"""Image -> network input size: one resize, padding at the right and bottom."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

PAD = 127  # mid grey: what a mean of 0.5 maps to zero


def letterbox(image: NDArray[np.uint8], height: int, width: int) -> tuple[NDArray[np.uint8], float]:
    """Fit an image into (height, width), aspect kept, at the top left.

    Args:
        image: (h, w) or (h, w, 3) uint8, any strides.

    Returns:
        ((height, width[, 3]) uint8, scale) with network pixel = scale * image pixel.
    """
    scale = min(height / image.shape[0], width / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    if image.ndim == 3 and image.strides[2] < 0:
        # RGB seen in a BGR image: OpenCV would copy all of it first; swapping the small one is cheaper.
        resized = cv2.cvtColor(cv2.resize(image[..., ::-1], size, interpolation=interpolation), cv2.COLOR_BGR2RGB)
    else:
        resized = cv2.resize(image, size, interpolation=interpolation)
    canvas = np.full((height, width, *image.shape[2:]), PAD, np.uint8)
    canvas[: size[1], : size[0]] = resized
    return canvas, scale
