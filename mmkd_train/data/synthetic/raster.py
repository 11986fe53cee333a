"""Filled outlines -> a small four-channel picture with coverage (the step that all figures share)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Value = tuple[int, int, int, int]
Outline = tuple[NDArray[Any], Value]

SHIFT = 4  # fractional bits of OpenCV's drawing coordinates
CELSIUS_STEP, CELSIUS_ZERO = 0.3, -20.0  # code 0 is kept for "nothing here"; 1..255 cover -19.7..56.5 degrees Celsius
COVERAGE = 0.25  # a pixel belongs to an object when at least this share of it is covered: spokes and thin limbs count
FAR_LIMIT = 30000.0  # pixels; keeps coordinates inside OpenCV's fixed-point range


@lru_cache(maxsize=8192)
def value(colour: tuple[float, float, float], shade: float, celsius: float) -> Value:
    """Albedo (0..1 each) times shade and a temperature -> the four bytes that are drawn."""
    red, green, blue = (int(255 * min(max(c * shade, 0.0), 1.0) ** 0.5) for c in colour)
    return red, green, blue, celsius_code(celsius)


def celsius_code(celsius: float) -> int:
    """Degrees Celsius -> 1..255."""
    return int(min(max((celsius - CELSIUS_ZERO) / CELSIUS_STEP, 1), 255))


def fixed(points: NDArray[Any], scale: float = 1.0, offset: tuple[float, float] = (0.0, 0.0)) -> NDArray[Any]:
    """(N, 2) pixels -> OpenCV's fixed-point coordinates after (points - offset) * scale."""
    moved = np.minimum(np.maximum(points, -FAR_LIMIT), FAR_LIMIT) - offset
    moved *= scale * (1 << SHIFT)
    return np.rint(moved).astype(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """A lamp on an object: position (3,) and unit facing (3,) in world metres, linear colour, radius in metres."""

    position: NDArray[Any]
    facing: NDArray[Any]
    colour: tuple[float, float, float]
    radius: float
    headlight: bool


@dataclass(slots=True, eq=False)
class Figure:
    """A drawn object before it meets the scene.

    Attributes:
        x, y: image column and row of the top left pixel.
        paint: (h, w, 4) uint8 colour and temperature codes, premultiplied with the coverage.
        coverage: (h, w) float32 in 0..1.
        area: pixels with coverage of the whole outline, those outside the image included.
    """

    x: int
    y: int
    paint: NDArray[Any]
    coverage: NDArray[Any]
    area: float


def rasterise(outlines: list[Outline], width: int, height: int, smear: float = 0.0) -> Figure | None:
    """Draw convex outlines over each other, later ones on top.

    Args:
        outlines: ((N, 2) pixels, value) each.
        width, height: of the image that the result is clipped to, in pixels.
        smear: length of horizontal motion blur in pixels.

    Returns:
        None when nothing of it lies in the image.
    """
    outlines = [(points, paint) for points, paint in outlines if len(points)]
    if not outlines:
        return None
    every = np.concatenate([points for points, _ in outlines])
    reach = smear / 2 + 1
    low, high = every.min(0) - (reach, 1), every.max(0) + (reach, 1)
    x0, y0 = max(int(np.floor(low[0])), 0), max(int(np.floor(low[1])), 0)
    x1, y1 = min(int(np.ceil(high[0])) + 1, width), min(int(np.ceil(high[1])) + 1, height)
    if x1 - x0 < 1 or y1 - y0 < 1:
        return None
    extent = max(x1 - x0, y1 - y0)
    fine = 4 if extent < 40 else 3 if extent < 90 else 2 if extent < 320 else 1
    canvas = np.zeros(((y1 - y0) * fine, (x1 - x0) * fine, 4), np.uint8)
    # The centre of pixel 0 is at 0, and at (fine - 1) / 2 on the finer grid.
    offset = (x0 - 0.5 + 0.5 / fine, y0 - 0.5 + 0.5 / fine)
    corners = fixed(every, fine, offset)
    start = 0
    for points, paint in outlines:
        cv2.fillConvexPoly(canvas, corners[start : start + len(points)], paint, cv2.LINE_8, SHIFT)
        start += len(points)
    solid = np.where(cv2.extractChannel(canvas, 3) > 0, np.uint8(255), np.uint8(0))
    size = (x1 - x0, y1 - y0)
    paint4 = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA) if fine > 1 else canvas
    cover = cv2.resize(solid, size, interpolation=cv2.INTER_AREA) if fine > 1 else solid
    if smear >= 1.5:
        kernel = (int(smear) | 1, 1)
        paint4 = cv2.blur(paint4, kernel, borderType=cv2.BORDER_CONSTANT)
        cover = cv2.blur(cover, kernel, borderType=cv2.BORDER_CONSTANT)
    coverage = cover.astype(np.float32) * np.float32(1 / 255)
    area = float(np.count_nonzero(cover >= COVERAGE * 255))
    if low[0] < -1 or low[1] < -1 or high[0] > width or high[1] > height:
        area = max(area, _whole_area(every, [len(points) for points, _ in outlines], low, high))
    return Figure(x0, y0, paint4, coverage, area)


def _whole_area(every: NDArray[Any], lengths: list[int], low: NDArray[Any], high: NDArray[Any]) -> float:
    """Pixels of the union of outlines of the given lengths, measured on a coarse grid of at most 128 cells a side."""
    low, high = np.maximum(low, -FAR_LIMIT), np.minimum(high, FAR_LIMIT)
    scale = min(128.0 / float((high - low).max()), 1.0)
    columns, rows = np.maximum(np.ceil((high - low) * scale).astype(int), 1)
    canvas = np.zeros((rows, columns), np.uint8)
    corners = fixed(every, scale, (float(low[0]), float(low[1])))
    start = 0
    for length in lengths:
        cv2.fillConvexPoly(canvas, corners[start : start + length], 255, cv2.LINE_8, SHIFT)
        start += length
    return float(np.count_nonzero(canvas)) / scale**2
