"""Pinhole camera over the ground plane.

World axes in metres: x to the right of the road's direction, y up, z along the road. Camera axes: right, down, forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEAR = 0.4  # metres; nothing nearer is drawn


@dataclass(frozen=True)
class Camera:
    """A camera without roll.

    Attributes:
        width, height: pixels.
        focal: pixels.
        position: x, y (height above ground), z in metres.
        yaw: radians, positive turns right.
        pitch: radians, positive looks down.
    """

    width: int
    height: int
    focal: float
    position: tuple[float, float, float]
    yaw: float
    pitch: float

    @cached_property
    def rotation(self) -> NDArray[Any]:
        """(3, 3): rows are the camera's right, down and forward axes in world coordinates."""
        sy, cy, sp, cp = math.sin(self.yaw), math.cos(self.yaw), math.sin(self.pitch), math.cos(self.pitch)
        return np.array([[cy, 0, -sy], [-sy * sp, -cp, -cy * sp], [sy * cp, -sp, cy * cp]])

    @cached_property
    def origin(self) -> NDArray[Any]:
        """(3,) position in metres."""
        return np.array(self.position, np.float64)

    def to_camera(self, points: NDArray[Any]) -> NDArray[Any]:
        """(N, 3) world metres -> (N, 3) right, down, forward in metres."""
        return (points - self.origin) @ self.rotation.T

    def to_pixels(self, points: NDArray[Any]) -> NDArray[Any]:
        """(N, 3) right, down, forward (forward > 0) -> (N, 2) pixels; the centre of the top left pixel is (0, 0)."""
        centre = np.array([(self.width - 1) / 2, (self.height - 1) / 2])
        return points[:, :2] * (self.focal / points[:, 2:]) + centre

    def project(self, points: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """(N, 3) world metres -> (N, 2) pixels and (N,) forward distances; points nearer than NEAR are pushed to
        NEAR."""
        local = self.to_camera(points)
        depth = local[:, 2].copy()
        local[:, 2] = np.maximum(depth, NEAR)
        return self.to_pixels(local), depth

    def project_polygon(self, points: NDArray[Any]) -> NDArray[Any]:
        """Convex polygon (N, 3) in world metres -> (M, 2) pixels, cut at the near plane (Sutherland and Hodgman,
        1974); M may be 0."""
        local = self.to_camera(points)
        depth = local[:, 2]
        if depth.min() < NEAR:
            if depth.max() <= NEAR:
                return np.zeros((0, 2))
            kept: list[NDArray[Any]] = []
            for i in range(len(local)):
                a, b = local[i - 1], local[i]
                if (a[2] < NEAR) != (b[2] < NEAR):
                    kept.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
                if b[2] >= NEAR:
                    kept.append(b)
            local = np.array(kept)
        return self.to_pixels(local)

    @cached_property
    def horizon(self) -> float:
        """Row of the horizon in pixels."""
        return (self.height - 1) / 2 - self.focal * math.tan(self.pitch)

    @cached_property
    def intrinsic(self) -> NDArray[Any]:
        """(3, 3) from right, down, forward to homogeneous pixels."""
        return np.array([[self.focal, 0, (self.width - 1) / 2], [0, self.focal, (self.height - 1) / 2], [0, 0, 1]])

    @cached_property
    def ground_to_pixel(self) -> NDArray[Any]:
        """(3, 3) homography from ground (x, z, 1) in metres to homogeneous pixels."""
        r = self.rotation
        return self.intrinsic @ np.column_stack([r[:, 0], r[:, 2], -r @ self.origin])

    def rays(self, step: int) -> NDArray[Any]:
        """World direction of every step-th pixel, scaled to advance 1 m forward: (ceil(H/step), ceil(W/step), 3)."""
        columns = (np.arange(0, self.width, step) + (step - 1) / 2 - (self.width - 1) / 2) / self.focal
        rows = (np.arange(0, self.height, step) + (step - 1) / 2 - (self.height - 1) / 2) / self.focal
        r = self.rotation.astype(np.float32)
        columns, rows = columns.astype(np.float32), rows.astype(np.float32)
        return columns[None, :, None] * r[0] + rows[:, None, None] * r[1] + r[2]
