"""Where the light of a street comes from: sky, sun, street lamps, headlights."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.synthetic.camera import Camera
from mmkd_train.data.synthetic.motion import AHEAD, BEHIND
from mmkd_train.data.synthetic.raster import Light
from mmkd_train.data.synthetic.textures import smooth_noise
from mmkd_train.data.synthetic.world import PERIOD, World

BEAM_POWER = 24.0  # of a pair of dipped headlights, in the unit in which the midday sun is 1
HEADLIGHT = np.array((1.0, 0.94, 0.82), np.float32)
SUN = np.array((1.15, 1.05, 0.9), np.float32)
SHADOW_REACH = 120.0  # metres ahead to which shadows are worked out


def ambient(world: World) -> NDArray[Any]:
    """(3,) float32 light that reaches everything: the sky, or the glow of the town."""
    if world.time == "day":
        return np.array((0.55, 0.6, 0.7) if world.sunny else (0.8, 0.82, 0.85), np.float32)
    if world.time == "dusk":
        return np.array((0.07, 0.065, 0.075), np.float32)
    return (np.array(world.lamp_colour, np.float32) * 0.5 + 0.5) * np.float32(0.006)


def airlight(world: World) -> NDArray[Any]:
    """(3,) float32 colour that haze tends to."""
    if world.time == "day":
        return np.array((0.8, 0.83, 0.88), np.float32)
    return ambient(world) * np.float32(0.5)


def street_lamps(world: World, camera_z: float) -> NDArray[Any]:
    """(K, 3) metres: the lit street lamps that matter to a camera at ``camera_z``; none by day."""
    spots = []
    if world.time != "day":
        for p in world.props:
            if p.kind == "lamp":
                z = p.z + math.ceil((camera_z - BEHIND - 10 - p.z) / PERIOD) * PERIOD
                if z < camera_z + AHEAD:
                    spots.append((p.x - math.copysign(1.3, p.x), p.height + 0.1, z))
    return np.array(spots, np.float32).reshape(-1, 3)


def lamp_light(world: World, points: NDArray[Any], lamps: NDArray[Any]) -> NDArray[Any]:
    """Light of all street lamps at (..., 3) points in metres: (...) float32; lamps shine down only."""
    total = np.zeros(points.shape[:-1], np.float32)
    for x, y, z in lamps.tolist():
        drop = np.maximum(y - points[..., 1], 0)
        square = (points[..., 0] - x) ** 2 + drop**2 + (points[..., 2] - z) ** 2
        total += drop * np.sqrt(drop) / (square + 4.0) ** 1.75
    return total * np.float32(world.lamp_power * 28.0)


def beam_light(points: NDArray[Any], lights: list[Light]) -> NDArray[Any]:
    """Light of dipped headlights at (..., 3) points in metres: (...) float32, wide, cut off just below the lamp's
    height."""
    total = np.zeros(points.shape[:-1], np.float32)
    for light in lights:
        fx, fz = np.float32(light.facing[0]), np.float32(light.facing[2])
        dx, dz = points[..., 0] - np.float32(light.position[0]), points[..., 2] - np.float32(light.position[2])
        along = np.maximum(dx * fx + dz * fz, np.float32(0.3))
        across = (dx * fz - dz * fx) / along
        up = (points[..., 1] - np.float32(light.position[1])) / along
        cut = 1 / (1 + np.exp(np.clip((up + 0.005) * 60, -20, 20)))
        shape = np.exp(-((across / 0.42) ** 2)) * (0.06 + 0.94 * cut)
        total += shape / (along * along + 6.0) * np.minimum(along * 0.5, 1.0)
    return total * np.float32(BEAM_POWER)


def own_headlights(world: World, camera: Camera) -> list[Light]:
    """The headlights of the vehicle that carries the camera, if they are on."""
    if not world.own_lights:
        return []
    facing = np.array([math.sin(camera.yaw), 0, math.cos(camera.yaw)])
    right = np.array([facing[2], 0, -facing[0]])
    centre = np.array([camera.position[0], 0.7, camera.position[2]]) - facing * 0.5
    return [Light(centre + right * side, facing, (1.0, 0.95, 0.85), 0.09, True) for side in (-0.6, 0.6)]


def sunlight(world: World, points: NDArray[Any]) -> NDArray[Any]:
    """Share of the sun (0..1) at (h, w, 3) points in metres; trees and houses cast shadows on what lies low."""
    lit = np.ones(points.shape[:-1], np.float32)
    x, z, low = points[..., 0], points[..., 2], points[..., 1] < 0.4
    if not low.any():
        return lit
    sx, sy, sz = world.sun
    x_low, x_high, z_low, z_high = (float(v) for v in (x[low].min(), x[low].max(), z[low].min(), z[low].max()))
    z_high = min(z_high, z_low + SHADOW_REACH)
    dapple = smooth_noise(world.skyline >> 4, (points.shape[1], points.shape[0])) if lit.size > 256 else np.float32(0)
    for p in world.props:
        if p.kind != "tree":
            continue
        top, reach = p.height * 0.66, p.height * 0.45
        cx, cz = p.x - sx / sy * top, p.z - sz / sy * top
        if not (x_low - reach < cx < x_high + reach and z_low - reach < cz < z_high + reach):
            continue
        near = ((x - np.float32(cx)) ** 2 + (z - np.float32(cz)) ** 2) * np.float32(1 / reach**2)
        shade = np.clip(np.float32(1.6) * (1 - near) + dapple * np.float32(0.25) * (near < 1), 0, 1)
        lit -= shade * np.float32(0.85) * low
    for b in world.buildings:
        edge, reach = b.side * b.setback, -sx / sy * b.height
        if reach * -b.side > 0:  # falls towards the road
            x0, x1 = sorted((edge, edge + reach))
            offset = -sz / sy * b.height * 0.5
            lit[(x > x0) & (x < x1) & (z > b.z0 + offset) & (z < b.z1 + offset) & low] = 0
    return cv2.GaussianBlur(np.clip(lit, 0, 1), (3, 3), 0)
