"""The lit backdrop: what the sensors would see of the empty street."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.synthetic import lighting
from mmkd_train.data.synthetic.background import COARSE, SKY_DISTANCE, Backdrop
from mmkd_train.data.synthetic.camera import Camera
from mmkd_train.data.synthetic.raster import CELSIUS_STEP, CELSIUS_ZERO
from mmkd_train.data.synthetic.textures import NOISE_KINDS, smooth_noise
from mmkd_train.data.synthetic.world import World


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """The street under its steady light, ready for the actors.

    Attributes:
        radiance: (H, W, 3) float32.
        celsius: (H, W) float32.
        occluder: (H, W) float32 metres to the nearest slim thing, infinite elsewhere.
        albedo: (H, W, 3) float32, for moving light; None by day, which has none.
        points: (h, w, 3) float32 world metres of every COARSE-th pixel; None by day.
        sky: (h, w) bool, where there is nothing to be lit.
    """

    radiance: NDArray[Any]
    celsius: NDArray[Any]
    occluder: NDArray[Any]
    albedo: NDArray[Any] | None
    points: NDArray[Any] | None
    sky: NDArray[Any]


@lru_cache(maxsize=8)
def _mottle(kind: int, size: tuple[int, int]) -> NDArray[Any]:
    """(H, W) float32 uneven surface temperatures around the zero of the temperature code; size is (W, H)."""
    return smooth_noise(kind, size) * np.float32(0.08) + np.float32(CELSIUS_ZERO)


def light_backdrop(world: World, backdrop: Backdrop, camera: Camera, haze: float) -> Stage:
    """Light the painted street; ``haze`` is the extinction per metre."""
    points = camera.rays(COARSE) * backdrop.distance[..., None] + np.array(camera.position, np.float32)
    sky = backdrop.distance >= SKY_DISTANCE
    dark = world.time != "day"
    light = np.empty((*sky.shape, 3), np.float32)
    light[:] = lighting.ambient(world)
    if dark:
        lamps = lighting.lamp_light(world, points, lighting.street_lamps(world, camera.position[2]))
        light += lamps[..., None] * np.array(world.lamp_colour, np.float32)
        own = lighting.own_headlights(world, camera)
        if own:
            light += lighting.beam_light(points, own)[..., None] * lighting.HEADLIGHT
    elif world.sunny:
        light += lighting.sunlight(world, points)[..., None] * lighting.SUN
    clear = np.exp(-np.minimum(backdrop.distance, 600) * np.float32(haze))[..., None]
    clear[sky] = 1
    light *= clear
    veil = (1 - clear) * lighting.airlight(world)
    size = (camera.width, camera.height)
    light = cv2.resize(light, size, interpolation=cv2.INTER_LINEAR)
    coded = cv2.cvtColor(backdrop.paint, cv2.COLOR_BGRA2BGR)
    albedo = cv2.multiply(coded, coded, scale=1 / 255**2, dtype=cv2.CV_32F)
    radiance = cv2.add(cv2.multiply(albedo, light, light), backdrop.emission, light)
    radiance = cv2.add(radiance, cv2.resize(veil, size, interpolation=cv2.INTER_LINEAR), radiance)
    code = cv2.extractChannel(backdrop.paint, 3).astype(np.float32)
    celsius = cv2.scaleAdd(code, CELSIUS_STEP, _mottle(world.skyline % NOISE_KINDS, size))
    return Stage(radiance, celsius, backdrop.occluder, albedo if dark else None, points if dark else None, sky)


def turn_stage(stage: Stage, seen_by: Camera, camera: Camera) -> Stage:
    """The stage of a wide camera as seen by one at the same place with another yaw: a homography, exact for a
    rotation."""
    warp = camera.intrinsic @ camera.rotation @ seen_by.rotation.T @ np.linalg.inv(seen_by.intrinsic)
    step = np.array([[COARSE, 0, (COARSE - 1) / 2], [0, COARSE, (COARSE - 1) / 2], [0, 0, 1]])
    coarse_warp = np.linalg.inv(step) @ warp @ step
    size = (camera.width, camera.height)
    coarse_size = (-(-camera.width // COARSE), -(-camera.height // COARSE))

    def fine(picture: NDArray[Any], flags: int) -> NDArray[Any]:
        return cv2.warpPerspective(picture, warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)

    def coarse(picture: NDArray[Any]) -> NDArray[Any]:
        return cv2.warpPerspective(
            picture, coarse_warp, coarse_size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
        )

    return Stage(
        radiance=fine(stage.radiance, cv2.INTER_LINEAR),
        celsius=fine(stage.celsius, cv2.INTER_LINEAR),
        occluder=fine(stage.occluder, cv2.INTER_NEAREST),
        albedo=None if stage.albedo is None else fine(stage.albedo, cv2.INTER_NEAREST),
        points=None if stage.points is None else coarse(stage.points),
        sky=coarse(stage.sky.view(np.uint8)).view(np.bool_),
    )
