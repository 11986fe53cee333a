"""Encodings that cameras send and OpenCV decodes: packed YUV 4:2:2 and Bayer mosaics. No ROS, no cv_bridge.

In: the bytes of an image message, row by row, checked against its header by `mmkd_ros.imaging`. Out: (H, W, 3) uint8,
red first, or grey (H, W).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# ROS name -> (bytes a pixel, OpenCV's conversion to RGB, to grey). UYVY and YUYV are told apart by their first byte.
_UYVY = (2, cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2GRAY_UYVY)
_YUYV = (2, cv2.COLOR_YUV2RGB_YUY2, cv2.COLOR_YUV2GRAY_YUY2)
_YUV_422 = {"yuv422": _UYVY, "uyvy": _UYVY, "yuv422_yuy2": _YUYV, "yuyv": _YUYV}
# OpenCV names a mosaic by the second and third pixel of its second row, ROS by the first row and the second.
_MOSAICS = {
    "rggb": (cv2.COLOR_BayerBG2RGB, cv2.COLOR_BayerBG2GRAY),
    "bggr": (cv2.COLOR_BayerRG2RGB, cv2.COLOR_BayerRG2GRAY),
    "gbrg": (cv2.COLOR_BayerGR2RGB, cv2.COLOR_BayerGR2GRAY),
    "grbg": (cv2.COLOR_BayerGB2RGB, cv2.COLOR_BayerGB2GRAY),
}
CAMERA_ENCODINGS = {
    **_YUV_422,
    **{f"bayer_{order}8": (1, *codes) for order, codes in _MOSAICS.items()},
    **{f"bayer_{order}16": (2, *codes) for order, codes in _MOSAICS.items()},
}
"""ROS encoding -> (bytes a pixel, OpenCV's code for RGB, for grey)."""


def decode_camera(data: Any, encoding: str, size: tuple[int, int], step: int, big_endian: bool, grey: bool) -> Any:
    """Decode an image in one of ``CAMERA_ENCODINGS``.

    Args:
        data: buffer of ``size[0] * step`` bytes.
        encoding: its name.
        size: (height, width) in pixels.
        step: bytes from row to row, at least what the pixels take.
        big_endian: byte order of 16-bit mosaics, which are scaled to 8 bit.
        grey: (H, W) uint8 instead of (H, W, 3) uint8, red first.

    Raises:
        ValueError: a size that the encoding cannot have (an odd width in YUV 4:2:2, a mosaic of one row or column).
    """
    pixel_bytes, rgb_code, grey_code = CAMERA_ENCODINGS[encoding]
    height, width = size
    rows: NDArray[Any] = np.frombuffer(data, np.uint8).reshape(height, step)[:, : width * pixel_bytes]
    if encoding in _YUV_422:
        if width % 2:
            raise ValueError(f"{encoding} holds pixels in pairs, but the image is {width} pixels wide")
        image = np.ascontiguousarray(rows).reshape(height, width, 2)
    elif min(size) < 2:
        raise ValueError(f"a mosaic of {width}x{height} pixels has no complete cell")
    else:
        image = np.ascontiguousarray(rows)
        if pixel_bytes == 2:
            counts = image.view(">u2" if big_endian else "<u2").astype(np.uint16)
            image = cv2.convertScaleAbs(counts, alpha=255.0 / 65535.0)
    return cv2.cvtColor(image, grey_code if grey else rgb_code)
