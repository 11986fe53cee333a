"""Kalman filter of all tracks at once; constant velocity, time in seconds.

Source: Wojke, Bewley, Paulus, "Simple Online and Realtime Tracking with a Deep Association Metric", 2017, section 2.1.
State (cx, cy, a, h, vx, vy, va, vh): box centre in pixels, aspect ratio a = width / height, height h in pixels, and
their change per second. The measurement is (cx, cy, a, h). The state "size" has the width w in pixels in place of a,
with the noise of Aharon, Orfaig, Bobrovsky, "BoT-SORT: Robust Associations Multi-Pedestrian Tracking", 2022, eq. 5.

The published noise is stated per frame and grows with the size of the object. Here it is a diffusion: its variance
grows in proportion to the time step, and a step of one nominal frame, dt = 1 / nominal_rate_hz, gives exactly the
published filter (with velocities per frame multiplied by the rate).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.tracking.association import near_pairs

# 0.95 quantile of the chi-square distribution with 4 degrees of freedom: the gate for the squared Mahalanobis distance.
CHI2_95_4 = 9.4877


class _Noise(NamedTuple):
    """Standard deviations (4,) of the four components per nominal frame, as multiples of their lengths; and by how much
    those of a new track are larger."""

    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    measured: NDArray[np.float64]
    birth_position: NDArray[np.float64]
    birth_velocity: NDArray[np.float64]


# The length is the height, and 1 for the aspect; of "size" it is the width for cx and w, the height for cy and h.
_NOISE = {
    "aspect": _Noise(
        np.array([1 / 20, 1 / 20, 1e-2, 1 / 20]),
        np.array([1 / 160, 1 / 160, 1e-5, 1 / 160]),
        np.array([1 / 20, 1 / 20, 1e-1, 1 / 20]),
        np.array([2.0, 2.0, 1.0, 2.0]),
        np.array([10.0, 10.0, 1.0, 10.0]),
    ),
    "size": _Noise(np.full(4, 1 / 20), np.full(4, 1 / 160), np.full(4, 1 / 20), np.full(4, 2.0), np.full(4, 10.0)),
}
STATES = tuple(_NOISE)

# A track that coasts on while it shrinks may reach h <= 0. The noise, proportional to h, must not vanish there, and a
# box must keep a positive size; the state itself goes on as published.
_MIN_NOISE_LENGTH = 1e-3
MIN_SIDE = 0.1
MIN_ASPECT = 1e-6

_DIAGONAL = np.arange(8)


class KalmanFilter:
    """The filter; holds no state of the tracks, only the nominal rate.

    Args:
        nominal_rate_hz: frames per second at which one step has the published noise.
        state: "aspect" or "size", what the third component is.

    Raises:
        ValueError: a rate that is not above zero, or another state.
    """

    def __init__(self, nominal_rate_hz: float = 30.0, state: str = "aspect") -> None:
        if not nominal_rate_hz > 0:
            raise ValueError(f"nominal_rate_hz must be above 0, got {nominal_rate_hz}.")
        if state not in _NOISE:
            raise ValueError(f"state must be one of {', '.join(STATES)}, got {state!r}.")
        self._rate = float(nominal_rate_hz)
        self._has_aspect = state == "aspect"
        self._noise = _NOISE[state]

    def initiate(self, measurements: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """States of new tracks at rest.

        Args:
            measurements: (N, 4) float64 cx, cy, a (or w), h.

        Returns:
            means (N, 8) and covariances (N, 8, 8), float64.
        """
        means = np.zeros((len(measurements), 8))
        means[:, :4] = measurements
        lengths, noise = self._lengths(means), self._noise
        std = np.empty_like(means)
        std[:, :4] = noise.birth_position * noise.position * lengths
        std[:, 4:] = noise.birth_velocity * noise.velocity * self._rate * lengths
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
        lengths = self._lengths(means)
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
        variance[:, :4] = (self._noise.position * lengths) ** 2
        variance[:, 4:] = (self._noise.velocity * self._rate * lengths) ** 2
        grown[:, _DIAGONAL, _DIAGONAL] += variance * (dt * self._rate)
        return moved, grown

    def compensate(
        self, means: NDArray[np.float64], covariances: NDArray[np.float64], motion: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Move all tracks with the picture, after ``predict``, when the camera itself moved.

        Aharon et al. 2022, eq. 6 and 7: x <- G x + g, P <- G P G^T. There G turns (w, h) like a place; here lengths
        grow by the map's scale sqrt(|det M|), and the aspect stays.

        Args:
            means: (N, 8) float64.
            covariances: (N, 8, 8) float64.
            motion: (2, 3) float64 [M | t], maps pixels of the last frame to this one.

        Returns:
            New means (N, 8) and covariances (N, 8, 8).
        """
        block = np.eye(4) * np.sqrt(abs(np.linalg.det(motion[:, :2])))
        block[:2, :2] = motion[:, :2]
        if self._has_aspect:
            block[2, 2] = 1.0
        map_ = np.kron(np.eye(2), block)
        moved = means @ map_.T
        moved[:, :2] += motion[:, 2]
        return moved, map_ @ covariances @ map_.T

    def project(
        self,
        means: NDArray[np.float64],
        covariances: NDArray[np.float64],
        noise_scale: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What would be measured.

        Args:
            means: (N, 8) float64.
            covariances: (N, 8, 8) float64.
            noise_scale: (N,) float64 above 0, multiplies the variance of the measurement noise; 1 when None.

        Returns:
            Expected measurements (N, 4) and their covariances with the measurement noise (N, 4, 4).
        """
        variance = (self._noise.measured * self._lengths(means)) ** 2
        if noise_scale is not None:
            variance *= noise_scale[:, None]
        innovation = covariances[:, :4, :4].copy()
        innovation[:, _DIAGONAL[:4], _DIAGONAL[:4]] += variance
        return means[:, :4].copy(), innovation

    def update(
        self,
        means: NDArray[np.float64],
        covariances: NDArray[np.float64],
        measurements: NDArray[np.float64],
        noise_scale: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Correct each track by its measurement.

        Args:
            means: (N, 8) float64.
            covariances: (N, 8, 8) float64.
            measurements: (N, 4) float64 cx, cy, a (or w), h; row i belongs to track i.
            noise_scale: as for ``project``.

        Returns:
            New means (N, 8) and covariances (N, 8, 8).
        """
        expected, innovation = self.project(means, covariances, noise_scale)
        seen = covariances[:, :4, :]  # H P
        gain = np.linalg.solve(innovation, seen)  # K^T = S^-1 H P
        corrected = means + ((measurements - expected)[:, None, :] @ gain)[:, 0]
        reduced = covariances - seen.transpose(0, 2, 1) @ gain  # P - K S K^T
        return corrected, (reduced + reduced.transpose(0, 2, 1)) / 2

    def within_gate(
        self,
        means: NDArray[np.float64],
        covariances: NDArray[np.float64],
        measurements: NDArray[np.float64],
        gate: float = CHI2_95_4,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Pairs of a track and a measurement whose squared Mahalanobis distance is within the gate.

        Args:
            means: (N, 8) float64.
            covariances: (N, 8, 8) float64.
            measurements: (M, 4) float64 cx, cy, a (or w), h.
            gate: largest squared distance.

        Returns:
            Track and measurement of each pair, (P,) int64 with tracks ascending, and their squared distances (P,).
        """
        expected, innovation = self.project(means, covariances)
        # The distance along one axis alone is never larger than that along all.
        reach = np.sqrt(gate * innovation[:, _DIAGONAL[:2], _DIAGONAL[:2]])
        rows, columns = near_pairs(expected[:, :2], reach, measurements[:, :2])
        lower = np.linalg.cholesky(innovation)[rows]
        off = measurements[columns] - expected[rows]
        # forward substitution L z = off for all pairs together; |z|^2 is the distance
        z = np.empty((4, len(rows)))
        for i in range(4):
            rest = off[:, i]
            for j in range(i):
                rest = rest - lower[:, i, j] * z[j]
            z[i] = rest / lower[:, i, i]
        distance = (z * z).sum(axis=0)
        inside = distance <= gate
        return rows[inside], columns[inside], distance[inside]

    def measurements(self, boxes: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 4) x1 y1 x2 y2 -> (N, 4) float64 cx, cy, a (or w), h."""
        corners = np.asarray(boxes, dtype=np.float64)
        size = corners[:, 2:] - corners[:, :2]
        measurements = np.empty((len(corners), 4))
        measurements[:, :2] = corners[:, :2] + size / 2
        measurements[:, 2] = size[:, 0] / size[:, 1] if self._has_aspect else size[:, 0]
        measurements[:, 3] = size[:, 1]
        return measurements

    def boxes(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 4 or more) cx, cy, a (or w), h, ... -> (N, 4) float64 x1 y1 x2 y2 of positive size."""
        sides = np.empty((len(means), 2))
        sides[:, 1] = np.maximum(means[:, 3], MIN_SIDE)
        if self._has_aspect:
            sides[:, 0] = np.maximum(means[:, 2], MIN_ASPECT) * sides[:, 1]
        else:
            sides[:, 0] = np.maximum(means[:, 2], MIN_SIDE)
        sides /= 2
        boxes = np.empty((len(means), 4))
        boxes[:, :2] = means[:, :2] - sides
        boxes[:, 2:] = means[:, :2] + sides
        return boxes

    def _lengths(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 4) what the noise of each component is a multiple of."""
        sides = np.maximum(np.abs(means[:, 2:4]), _MIN_NOISE_LENGTH)
        if not self._has_aspect:
            return sides[:, [0, 1, 0, 1]]
        lengths = sides[:, [1, 1, 1, 1]]
        lengths[:, 2] = 1.0
        return lengths
