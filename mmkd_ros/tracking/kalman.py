"""Kalman filter of all tracks at once; constant velocity, time in seconds.

Source: Wojke, Bewley, Paulus, "Simple Online and Realtime Tracking with a Deep Association Metric", 2017, section 2.1.
State (cx, cy, a, h, vx, vy, va, vh): box centre in pixels, aspect ratio a = width / height, height h in pixels, and
their change per second. The measurement is (cx, cy, a, h).

The published noise is stated per frame and grows with the height of the object. Here it is a diffusion: its variance
grows in proportion to the time step, and a step of one nominal frame, dt = 1 / nominal_rate_hz, gives exactly the
published filter (with velocities per frame multiplied by the rate).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# 0.95 quantile of the chi-square distribution with 4 degrees of freedom: the gate for the squared Mahalanobis distance.
CHI2_95_4 = 9.4877

# Standard deviations per nominal frame; those of centre and height are multiples of h, those of the aspect are
# absolute.
_POSITION_WEIGHT = 1 / 20
_VELOCITY_WEIGHT = 1 / 160
_BIRTH_FACTOR_POSITION = 2.0
_BIRTH_FACTOR_VELOCITY = 10.0
_ASPECT_STD_MEASURED = 1e-1
_ASPECT_STD = 1e-2
_ASPECT_VELOCITY_STD = 1e-5

# A track that coasts on while it shrinks may reach h <= 0. The noise, proportional to h, must not vanish there, and a
# box must keep a positive size; the state itself goes on as published.
_MIN_NOISE_HEIGHT = 1e-3
MIN_HEIGHT = 0.1
MIN_ASPECT = 1e-6

_DIAGONAL = np.arange(8)


class KalmanFilter:
    """The filter; holds no state of the tracks, only the nominal rate.

    Args:
        nominal_rate_hz: frames per second at which one step has the published noise.

    Raises:
        ValueError: a rate that is not above zero.
    """

    def __init__(self, nominal_rate_hz: float = 30.0) -> None:
        if not nominal_rate_hz > 0:
            raise ValueError(f"nominal_rate_hz must be above 0, got {nominal_rate_hz}.")
        self._rate = float(nominal_rate_hz)

    def initiate(self, measurements: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """States of new tracks at rest.

        Args:
            measurements: (N, 4) float64 cx, cy, a, h.

        Returns:
            means (N, 8) and covariances (N, 8, 8), float64.
        """
        means = np.zeros((len(measurements), 8))
        means[:, :4] = measurements
        height = _noise_height(means)
        std = np.empty_like(means)
        std[:, [0, 1, 3]] = (_BIRTH_FACTOR_POSITION * _POSITION_WEIGHT * height)[:, None]
        std[:, [4, 5, 7]] = (_BIRTH_FACTOR_VELOCITY * _VELOCITY_WEIGHT * self._rate * height)[:, None]
        std[:, 2] = _ASPECT_STD
        std[:, 6] = _ASPECT_VELOCITY_STD * self._rate
        covariances = np.zeros((len(means), 8, 8))
        covariances[:, _DIAGONAL, _DIAGONAL] = std**2
        return means, covariances

    def predict(
        self, means: NDArray[np.float64], covariances: NDArray[np.float64], dt: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Move all tracks ``dt`` seconds on.

        Args:
            means: (N, 8) float64.
            covariances: (N, 8, 8) float64.
            dt: seconds, 0 or more.

        Returns:
            New means (N, 8) and covariances (N, 8, 8); the arguments stay as they were.
        """
        height = _noise_height(means)
        moved = means.copy()
        moved[:, :4] += dt * means[:, 4:]
        # F P F^T with F = [[I, dt I], [0, I]], written in 4 x 4 blocks
        grown = covariances.copy()
        cross, speed = covariances[:, :4, 4:], covariances[:, 4:, 4:]
        shift = cross + dt * speed
        grown[:, :4, :4] += dt * (cross.transpose(0, 2, 1) + shift)
        grown[:, :4, 4:] = shift
        grown[:, 4:, :4] = shift.transpose(0, 2, 1)
        variance = np.empty_like(means)
        variance[:, [0, 1, 3]] = ((_POSITION_WEIGHT * height) ** 2)[:, None]
        variance[:, [4, 5, 7]] = ((_VELOCITY_WEIGHT * self._rate * height) ** 2)[:, None]
        variance[:, 2] = _ASPECT_STD**2
        variance[:, 6] = (_ASPECT_VELOCITY_STD * self._rate) ** 2
        grown[:, _DIAGONAL, _DIAGONAL] += variance * (dt * self._rate)
        return moved, grown

    def project(
        self, means: NDArray[np.float64], covariances: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What would be measured.

        Args:
            means: (N, 8) float64.
            covariances: (N, 8, 8) float64.

        Returns:
            Expected measurements (N, 4) and their covariances with the measurement noise (N, 4, 4).
        """
        variance = np.empty((len(means), 4))
        variance[:, [0, 1, 3]] = ((_POSITION_WEIGHT * _noise_height(means)) ** 2)[:, None]
        variance[:, 2] = _ASPECT_STD_MEASURED**2
        innovation = covariances[:, :4, :4].copy()
        innovation[:, _DIAGONAL[:4], _DIAGONAL[:4]] += variance
        return means[:, :4].copy(), innovation

    def update(
        self, means: NDArray[np.float64], covariances: NDArray[np.float64], measurements: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Correct each track by its measurement.

        Args:
            means: (N, 8) float64.
            covariances: (N, 8, 8) float64.
            measurements: (N, 4) float64 cx, cy, a, h; row i belongs to track i.

        Returns:
            New means (N, 8) and covariances (N, 8, 8).
        """
        expected, innovation = self.project(means, covariances)
        seen = covariances[:, :4, :]  # H P
        gain = np.linalg.solve(innovation, seen)  # K^T = S^-1 H P
        corrected = means + ((measurements - expected)[:, None, :] @ gain)[:, 0]
        reduced = covariances - seen.transpose(0, 2, 1) @ gain  # P - K S K^T
        return corrected, (reduced + reduced.transpose(0, 2, 1)) / 2

    def gating_distance(
        self, means: NDArray[np.float64], covariances: NDArray[np.float64], measurements: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Squared Mahalanobis distance of every measurement to every track; compare with ``CHI2_95_4``.

        Args:
            means: (N, 8) float64.
            covariances: (N, 8, 8) float64.
            measurements: (M, 4) float64 cx, cy, a, h.

        Returns:
            (N, M) float64.
        """
        expected, innovation = self.project(means, covariances)
        lower = np.linalg.cholesky(innovation)
        off = measurements[None, :, :] - expected[:, None, :]
        # forward substitution L z = off for all tracks and measurements together; |z|^2 is the distance
        z = np.empty((4, len(means), len(measurements)))
        for i in range(4):
            rest = off[:, :, i]
            for j in range(i):
                rest = rest - lower[:, i, j, None] * z[j]
            z[i] = rest / lower[:, i, i, None]
        return np.asarray((z * z).sum(axis=0))


def _noise_height(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The height that the noise is proportional to."""
    return np.maximum(np.abs(means[:, 3]), _MIN_NOISE_HEIGHT)


def boxes_to_measurements(boxes: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) x1 y1 x2 y2 -> (N, 4) float64 cx, cy, a, h."""
    corners = np.asarray(boxes, dtype=np.float64)
    size = corners[:, 2:] - corners[:, :2]
    measurements = np.empty((len(corners), 4))
    measurements[:, :2] = corners[:, :2] + size / 2
    measurements[:, 2] = size[:, 0] / size[:, 1]
    measurements[:, 3] = size[:, 1]
    return measurements


def measurements_to_boxes(measurements: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4 or more) cx, cy, a, h, ... -> (N, 4) float64 x1 y1 x2 y2 of positive size."""
    height = np.maximum(measurements[:, 3], MIN_HEIGHT)
    half = np.stack((np.maximum(measurements[:, 2], MIN_ASPECT) * height, height), axis=1) / 2
    return np.concatenate((measurements[:, :2] - half, measurements[:, :2] + half), axis=1)
