"""Alignment of RGB and thermal pictures by their edges: pictures of one rig in, one homography for all of them out.

Brightness in the two bands does not correlate, and the sign of an edge may flip, but edges lie in the same places and
run the same way. Each picture becomes a field of edge directions with doubled angle (:func:`edge_field`), whose scalar
product is the normalised-gradient-field measure of Haber and Modersitzki ("Intensity Gradient Based Registration and
Fusion of Multi-modal Images", MICCAI 2006). Its correlation, summed over the pairs, is searched over shift, scale and
turn at low resolution (:func:`coarse_search`), then climbed from coarse to fine (:func:`refine`).

A *warp* here is a 3x3 matrix from RGB to thermal in coordinates that are -1..1 over either whole picture, x right, y
down: size-free, so one warp serves every resolution, and the identity stretches one picture onto the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

Model = Literal["translation", "affine", "homography"]
Field = NDArray[np.float32]
Pair = tuple[Field, Field]
Matrix = NDArray[np.float64]

# The entries of I + D, row by row, that each model moves.
_FREE: dict[Model, tuple[int, ...]] = {
    "translation": (2, 5),
    "affine": (0, 1, 2, 3, 4, 5),
    "homography": (0, 1, 2, 3, 4, 5, 6, 7),
}
_SCALES = 1.07 ** np.arange(-5, 6)
_TURNS_DEG = (-4.0, 0.0, 4.0)
_MAX_SHIFT = 0.25
# Widths in pixels of the RGB picture, coarse to fine.
_WIDTHS = (96, 160, 256)
_MIN_OVERLAP = 0.3


def edge_field(image: NDArray[np.uint8], width: int, height: int, blur: float = 1.0) -> Field:
    """Edge directions of a picture at a given size.

    With gradient (gx, gy) = m (cos a, sin a): m^2 / (m^2 + e^2) (cos 2a, sin 2a), e the mean of m. An edge and its
    negative are equal, and strong edges do not outweigh all others.

    Args:
        image: (H, W) uint8.
        blur: pixels at the given size, standard deviation of the smoothing after normalisation.

    Returns:
        (height, width, 2) float32.
    """
    shrinks = width < image.shape[1]
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    smooth = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.0)
    gx, gy = cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
    energy = gx * gx + gy * gy
    norm = energy + max(float(np.sqrt(energy).mean()) ** 2, 1e-6)
    field = np.stack(((gx * gx - gy * gy) / norm, 2.0 * gx * gy / norm), axis=-1)
    return np.asarray(cv2.GaussianBlur(field, (0, 0), blur), np.float32)


def to_pixels(width: int, height: int) -> Matrix:
    """-1..1 -> pixel of a picture of that size; the outer pixels' centres lie half a pixel inside."""
    return np.array([[width / 2, 0, width / 2 - 0.5], [0, height / 2, height / 2 - 0.5], [0, 0, 1.0]])


def warp_field(field: Field, warp: Matrix) -> tuple[Field, NDArray[np.bool_]]:
    """A thermal field on the RGB grid of the same size, and where it has values (two pixels from the border)."""
    height, width = field.shape[:2]
    pixels = to_pixels(width, height)
    matrix = pixels @ warp @ np.linalg.inv(pixels)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inside = np.zeros((height, width), np.uint8)
    inside[2:-2, 2:-2] = 1
    moved = cv2.warpPerspective(field, matrix, (width, height), flags=flags)
    seen = cv2.warpPerspective(inside, matrix, (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return np.asarray(moved, np.float32), seen.astype(bool)


def correlation(pairs: Sequence[Pair], warp: Matrix) -> NDArray[np.float64]:
    """(P,) correlation, -1..1, of each (RGB field, thermal field) under a warp; 0 where too little overlaps."""
    values = []
    for rgb, thermal in pairs:
        moved, seen = warp_field(thermal, warp)
        a, b = rgb[seen], moved[seen]
        norm = float(np.linalg.norm(a) * np.linalg.norm(b))
        values.append(float((a * b).sum()) / norm if seen.mean() >= _MIN_OVERLAP and norm > 0 else 0.0)
    return np.array(values)


def correlation_surface(pairs: Sequence[Pair], warp: Matrix) -> NDArray[np.float64]:
    """Mean correlation over shifts of up to a quarter of the picture around a warp, by FFT.

    Returns:
        (2 R + 1, 2 S + 1), the centre is no shift, [R + dy, S + dx] has thermal moved by (dx, dy) field pixels.
    """
    height, width = pairs[0][0].shape[:2]
    reach = (int(height * _MAX_SHIFT), int(width * _MAX_SHIFT))
    size = (cv2.getOptimalDFTSize(height + reach[0]), cv2.getOptimalDFTSize(width + reach[1]))

    def spectrum(values: NDArray[np.floating]) -> NDArray[np.complexfloating]:
        return np.fft.rfft2(values, size)

    full = spectrum(np.ones((height, width), np.float32))
    total = np.zeros((2 * reach[0] + 1, 2 * reach[1] + 1))
    for rgb, thermal in pairs:
        moved, seen = warp_field(thermal, warp)
        moved *= seen[..., None]
        product = sum(spectrum(rgb[..., c]) * spectrum(moved[..., c]).conj() for c in range(2))
        rgb_energy = spectrum((rgb**2).sum(-1)) * spectrum(seen.astype(np.float32)).conj()
        thermal_energy = full * spectrum((moved**2).sum(-1)).conj()
        sums = [np.fft.irfft2(s, size) for s in (product, rgb_energy, thermal_energy)]
        shifts = np.ix_(range(-reach[0], reach[0] + 1), range(-reach[1], reach[1] + 1))
        top, left, right = (s[shifts] for s in sums)
        total += top / np.sqrt(np.maximum(left, 1e-3) * np.maximum(right, 1e-3))
    return total / len(pairs)


def coarse_search(pairs: Sequence[Pair], model: Model) -> Matrix:
    """The shift (and, but for model translation, scale 0.7 to 1.4 and turn up to 4 degrees) of the highest mean
    correlation."""
    height, width = pairs[0][0].shape[:2]
    best, found = -np.inf, np.eye(3)
    tried = [(1.0, 0.0)] if model == "translation" else list(itertools.product(_SCALES, _TURNS_DEG))
    for scale, turn in tqdm(tried, desc="searching", mininterval=1, delay=2, leave=False):
        c, s = scale * np.cos(np.radians(turn)), scale * np.sin(np.radians(turn))
        warp = np.array([[c, -s * height / width, 0], [s * width / height, c, 0], [0, 0, 1.0]])
        surface = correlation_surface(pairs, warp)
        row, column = np.unravel_index(np.argmax(surface), surface.shape)
        if surface[row, column] > best:
            best = float(surface[row, column])
            dy, dx = row - surface.shape[0] // 2, column - surface.shape[1] // 2
            # Thermal moved by (dx, dy): the RGB pixel x reads what was at x - d.
            found = warp @ np.array([[1, 0, -2.0 * dx / width], [0, 1, -2.0 * dy / height], [0, 0, 1]])
    return found


def refine(pairs: Sequence[Pair], warp: Matrix, model: Model, iterations: int = 25) -> Matrix:
    """Climb the summed correlation from a start, by the steps of enhanced correlation coefficient maximisation
    (Evangelidis and Psarakis, PAMI 2008) with Levenberg's damping.

    With unit-norm fields t (RGB) and w (warped thermal) and J the derivative of w, the gain of a small step d is
    sum t.J d - (t.w) |J d|^2 / 2.

    Args:
        pairs: (RGB field, thermal field), each (H, W, 2), one size.
        warp: start.
        model: which of the eight numbers are moved.

    Returns:
        The warp; the start where no step gains.
    """
    height, width = pairs[0][0].shape[:2]
    free = list(_FREE[model])
    y, x = np.mgrid[-1 + 1 / height : 1 - 1 / height : height * 1j, -1 + 1 / width : 1 - 1 / width : width * 1j]
    one, zero = np.ones_like(x), np.zeros_like(x)
    # d(x, y) / d(entries of I + D) at D = 0
    along_x = np.stack((x, y, one, zero, zero, zero, -x * x, -x * y), -1)[..., free].astype(np.float32)
    along_y = np.stack((zero, zero, zero, x, y, one, -x * y, -y * y), -1)[..., free].astype(np.float32)
    score, damping = correlation(pairs, warp).sum(), 1e-3
    normal, slope, stale = np.zeros((len(free),) * 2), np.zeros(len(free)), True
    for _ in range(iterations):
        if stale:
            normal, slope = _normal_equations(pairs, warp, along_x, along_y)
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), slope)
        change = np.eye(3).ravel()
        change[free] += step
        candidate = warp @ change.reshape(3, 3)
        new = correlation(pairs, candidate).sum()
        stale = new > score
        if stale:
            warp, score, damping = candidate / candidate[2, 2], new, damping / 5
        else:
            damping *= 8
        if np.abs(step).max() < 0.1 / width or damping > 1e4:
            break
    return warp


def _normal_equations(
    pairs: Sequence[Pair], warp: Matrix, along_x: Field, along_y: Field
) -> tuple[Matrix, NDArray[np.float64]]:
    height, width = pairs[0][0].shape[:2]
    count = along_x.shape[-1]
    normal, slope = np.zeros((count, count)), np.zeros(count)
    for rgb, thermal in pairs:
        moved, seen = warp_field(thermal, warp)
        dy = np.gradient(moved, axis=0)[seen] * (height / 2)
        dx = np.gradient(moved, axis=1)[seen] * (width / 2)
        t, w = rgb[seen], moved[seen]
        norm = max(float(np.linalg.norm(w)), 1e-6)
        t, w = (t / max(float(np.linalg.norm(t)), 1e-6)).ravel(), (w / norm).ravel()
        jacobian = dx[..., None] * along_x[seen][:, None] + dy[..., None] * along_y[seen][:, None]
        jacobian = jacobian.reshape(-1, count) / norm
        jacobian -= np.outer(w, w @ jacobian)
        normal += max(float(t @ w), 0.05) * (jacobian.T @ jacobian)
        slope += jacobian.T @ t
    return normal, slope


class EdgeEvidence:
    """The pictures of some pairs as edge fields, coarse to fine: what a homography is fitted to.

    Args:
        pairs: (RGB as grey, thermal), each (H, W) uint8; one size per camera.
        model: what the homography may do beyond stretching thermal to the RGB picture.
    """

    def __init__(self, pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]], model: Model) -> None:
        self.model = model
        (height, width), (thermal_height, thermal_width) = (image.shape for image in pairs[0])
        self._rgb_pixels, self._thermal_pixels = to_pixels(width, height), to_pixels(thermal_width, thermal_height)
        self._levels = [
            [(edge_field(rgb, w, h), edge_field(thermal, w, h)) for rgb, thermal in pairs]
            for w, h in ((across, round(height * across / width)) for across in _WIDTHS)
        ]

    def __len__(self) -> int:
        return len(self._levels[0])

    def solve(self, rows: Sequence[int]) -> Matrix:
        """(3, 3) thermal pixel -> RGB pixel that fits those pairs best."""
        levels = [[level[row] for row in rows] for level in self._levels]
        warp = coarse_search(levels[0], self.model)
        for number, level in enumerate(levels):
            early = number == 0 and self.model == "homography"
            warp = refine(level, warp, "affine" if early else self.model)
        return self._rgb_pixels @ np.linalg.inv(self._thermal_pixels @ warp)

    def residuals(self, homography: Matrix) -> NDArray[np.float64]:
        """(P,) RGB pixels by which each pair, left alone, would move the homography."""
        warp = self._warp(homography)
        half_size = np.diag(self._rgb_pixels)[:2]
        pairs = tqdm(self._levels[-1], desc="each pair", mininterval=1, delay=2, leave=False)
        moves = [np.linalg.inv(warp) @ refine([pair], warp, "translation") for pair in pairs]
        return np.array([np.linalg.norm(move[:2, 2] / move[2, 2] * half_size) for move in moves])

    def distinctness(self, homography: Matrix, rows: Sequence[int]) -> float:
        """How the mean correlation at the homography stands out of that at shifts by a tenth of the picture and more:
        its distance from their median, over the distance of their highest."""
        surface = correlation_surface([self._levels[0][row] for row in rows], self._warp(homography))
        dy, dx = np.indices(surface.shape) - np.reshape(np.array(surface.shape) // 2, (2, 1, 1))
        others = surface[np.hypot(dx, dy) > 0.1 * _WIDTHS[0]]
        middle = surface[surface.shape[0] // 2, surface.shape[1] // 2]
        return float((middle - np.median(others)) / max(float(others.max() - np.median(others)), 1e-6))

    def _warp(self, homography: Matrix) -> Matrix:
        return np.asarray(np.linalg.inv(self._thermal_pixels) @ np.linalg.inv(homography) @ self._rgb_pixels)
