"""Textures shared by all scenes, made once a process from fixed seeds.

Colours are kept as the square root of the albedo times 255 (a gamma of 2), so that 8 bits suffice in the dark.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

FOLIAGE_KINDS = 10
NOISE_KINDS = 4


@lru_cache(maxsize=16)
def noise_tile(kind: int, slope: float = 1.0, size: int = 512) -> NDArray[np.float32]:
    """Tileable (size, size) float32 noise of zero mean and unit variance with an amplitude spectrum of 1 / frequency ** slope."""
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


@lru_cache(maxsize=4)
def gaussian_pool(length: int) -> NDArray[np.float32]:
    """(length,) standard normal float32, a stock that sensor noise is cut from; drawing anew for each frame costs ten times more."""
    return np.random.default_rng([13, length]).standard_normal(length, dtype=np.float32)


def sensor_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read-only standard normal noise of ``shape``, a random cut of the pool."""
    count = int(np.prod(shape))
    length = 1 << max(int(2 * count - 1).bit_length(), 18)
    start = int(rng.integers(length - count))
    return gaussian_pool(length)[start : start + count].reshape(shape)


@lru_cache(maxsize=FOLIAGE_KINDS)
def foliage(kind: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A tree crown: (256, 256, 4) uint8 (grey leaf shade three times, temperature offset around 128) and its (256, 256) mask 0 or 255."""
    size = 256
    rng = np.random.default_rng([17, kind])
    shade = np.zeros((size, size), np.uint8)
    mask = np.zeros((size, size), np.uint8)
    clumps = rng.integers(9, 16)
    angle = rng.uniform(0, 2 * np.pi, clumps)
    radius = np.sqrt(rng.uniform(0, 1, clumps)) * 0.3
    stretch = rng.uniform(0.8, 1.15)
    centres = np.column_stack([0.5 + radius * np.cos(angle), 0.5 + radius * np.sin(angle) * stretch]) * size
    sizes = rng.uniform(0.1, 0.19, clumps) * size
    leaves = 3000
    order = np.argsort(rng.uniform(size=leaves))
    for i in order:
        k = int(rng.integers(clumps))
        a, r = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform()) * sizes[k]
        x, y = centres[k] + r * np.array([np.cos(a), np.sin(a)])
        lit = 0.45 + 0.35 * -(np.sin(a) * r / sizes[k]) + 0.25 * (0.5 - y / size) + rng.normal(0, 0.13)
        value = int(np.clip(60 + 170 * lit, 25, 250))
        axes = (int(rng.integers(2, 6)), int(rng.integers(1, 4)))
        cv2.ellipse(shade, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, value, -1)
        cv2.ellipse(mask, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    shade[(shade == 0) & (mask > 0)] = 60
    temperature = np.clip(128 + (cv2.GaussianBlur(shade, (0, 0), 1.5).astype(np.float32) - 128) * 0.25, 1, 255).astype(np.uint8)
    return np.dstack([shade, shade, shade, temperature]), mask
