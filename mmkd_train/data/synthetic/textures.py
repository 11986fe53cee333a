"""Textures shared by all scenes, made once a process from fixed seeds.

Colours are kept as the square root of the albedo times 255 (a gamma of 2), so that 8 bits suffice in the dark.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FOLIAGE_KINDS = 10
NOISE_KINDS = 4


@lru_cache(maxsize=16)
def noise_tile(kind: int, slope: float = 1.0, size: int = 512) -> NDArray[np.float32]:
    """Tileable (size, size) float32 noise of zero mean and unit variance with an amplitude spectrum of 1 / frequency
    ** slope."""
    rng = np.random.default_rng([11, kind])
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    tile = np.fft.irfft2(spectrum / frequency**slope, s=(size, size))
    tile = (tile - tile.mean()) / tile.std()
    return tile.astype(np.float32)


@lru_cache(maxsize=16)
def noise_bytes(kind: int, slope: float = 1.0) -> NDArray[np.uint8]:
    """noise_tile as uint8 with mean 128 and a standard deviation of 40, for cheap warping."""
    return np.clip(noise_tile(kind, slope) * 40 + 128, 0, 255).astype(np.uint8)


def smooth_noise(kind: int, size: tuple[int, int]) -> NDArray[Any]:
    """(H, W) float32 smooth noise of unit variance; size is (W, H)."""
    return cv2.resize(noise_tile(kind % NOISE_KINDS, 1.4)[:256, :320], size, interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=4)
def gaussian_pool(length: int) -> NDArray[np.float32]:
    """(length,) standard normal float32, a stock that sensor noise is cut from; drawing anew for each frame costs ten
    times more."""
    return np.random.default_rng([13, length]).standard_normal(length, dtype=np.float32)


def sensor_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read-only standard normal noise of ``shape``, a random cut of the pool."""
    count = int(np.prod(shape))
    length = 1 << max(int(2 * count - 1).bit_length(), 18)
    start = int(rng.integers(length - count))
    return gaussian_pool(length)[start : start + count].reshape(shape)


@lru_cache(maxsize=FOLIAGE_KINDS * 12)
def foliage(kind: int, mirrored: bool, level: int) -> NDArray[Any]:
    """A tree crown of 256 >> level pixels squared, two uint8 channels: shade of the leaves, and 255 where any are."""
    if level > 0:
        finer = foliage(kind, mirrored, level - 1)
        return cv2.resize(finer, (finer.shape[1] // 2, finer.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if mirrored:
        return np.ascontiguousarray(foliage(kind, False, 0)[:, ::-1])
    size = 256
    rng = np.random.default_rng([17, kind])
    shade = np.zeros((size, size), np.uint8)
    clumps = int(rng.integers(12, 22))
    angle = rng.uniform(0, 2 * np.pi, clumps)
    radius = np.sqrt(rng.uniform(0, 1, clumps)) * 0.29
    stretch = rng.uniform(0.8, 1.15)
    centres = np.column_stack([0.5 + radius * np.cos(angle), 0.5 + radius * np.sin(angle) * stretch]) * size
    sizes = rng.uniform(0.09, 0.16, clumps) * size
    for k in np.argsort(-centres[:, 1]):  # lower clumps lie behind the upper ones
        leaves = int(400 * (sizes[k] / 28) ** 2)
        a, r = rng.uniform(0, 2 * np.pi, leaves), rng.uniform(size=leaves) ** 0.6
        places = (centres[k] + (r * sizes[k])[:, None] * np.column_stack([np.cos(a), np.sin(a)])).astype(int).tolist()
        lit = 0.38 - 0.42 * np.sin(a) * r + 0.22 * (0.5 - centres[k, 1] / size) + rng.normal(0, 0.16, leaves)
        lit[:60] -= 0.15  # the first leaves of a clump are its shaded inside
        values = np.clip(40 + 190 * lit, 22, 250).astype(int).tolist()
        axes = np.column_stack([rng.integers(1, 5, leaves), rng.integers(1, 3, leaves)]).tolist()
        for place, axis, tilt, leaf in zip(places, axes, rng.uniform(0, 180, leaves).tolist(), values, strict=True):
            cv2.ellipse(shade, place, axis, tilt, 0, 360, leaf, -1)
    return np.dstack([shade, np.where(shade > 0, np.uint8(255), np.uint8(0))])
