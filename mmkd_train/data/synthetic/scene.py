"""A moving scene: world, backdrop, actors, light and sensors put together."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.synthetic import lighting
from mmkd_train.data.synthetic.background import COARSE, paint_backdrop
from mmkd_train.data.synthetic.camera import Camera
from mmkd_train.data.synthetic.cast import Cast, Drawn
from mmkd_train.data.synthetic.motion import AHEAD
from mmkd_train.data.synthetic.options import CAR, SceneOptions, SyntheticFrame
from mmkd_train.data.synthetic.raster import CELSIUS_STEP, CELSIUS_ZERO, COVERAGE, SHIFT, Light, fixed
from mmkd_train.data.synthetic.sensors import develop, exposure_for, rgb_sensor, thermal_picture, thermal_sensor
from mmkd_train.data.synthetic.stage import Stage, light_backdrop, turn_stage
from mmkd_train.data.synthetic.traffic import populate
from mmkd_train.data.synthetic.world import World, build_world

PAN_SECONDS = 24.0
STREETS_KEPT = 64
OUTSIDE_LENIENCY = 0.4  # people annotate what the picture's edge cuts off sooner than what is hidden


class SyntheticScene:
    """Random access to the frames of one scene.

    ``frame(i)`` depends on the options and on i alone, not on the order of the calls. An instance keeps the still
    part of the
    picture and is not meant to be shared between threads.

    Args:
        options: what to render.
        street: a scene of the same ``options.street``, size, view and camera whose painted street is used again.
    """

    def __init__(self, options: SceneOptions, street: SyntheticScene | None = None) -> None:
        self.options = options
        self._world: World = populate(build_world(options) if street is None else street._world, options)
        rng = np.random.default_rng([options.seed, 3])
        self._rgb = rgb_sensor(rng, self._world, options)
        self._thermal = thermal_sensor(rng, options)
        self._cast = Cast(self._world, options.seed, self._rgb.exposure_seconds)
        self._stage_camera: Camera = self._wide_camera() if street is None else street._stage_camera
        self._still: Stage | None = None if street is None else street._still
        self._exposure: float | None = None

    @property
    def night(self) -> bool:
        """Whether the scene is lit by lamps alone."""
        return self._world.time == "night"

    @property
    def thermal_from_rgb(self) -> NDArray[np.float64]:
        """(2, 3) affine map from RGB pixels to the thermal pixels that see the same thing."""
        return self._thermal.warp.copy()

    def frame(self, index: int) -> SyntheticFrame:
        """Render frame ``index``.

        Raises:
            ValueError: a negative index.
        """
        return self._render(index)[0]

    def frame_with_masks(self, index: int) -> tuple[SyntheticFrame, NDArray[np.bool_], NDArray[np.bool_]]:
        """Frame ``index`` with, for its N objects, the whole outlines and the seen pixels: two (N, H, W) bool arrays.

        Raises:
            ValueError: a negative index.
        """
        frame, kept, owner = self._render(index)
        shape = (len(kept), self.options.height, self.options.width)
        whole, seen = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        for k, (slot, item) in enumerate(kept):
            figure = item.figure
            h, w = figure.coverage.shape
            whole[k, figure.y : figure.y + h, figure.x : figure.x + w] = figure.coverage >= COVERAGE
            seen[k] = owner == slot + 1
        return frame, whole, seen

    # -- camera and stage

    def _wide_camera(self) -> Camera:
        """The camera that the still picture is painted for: a panning one needs a margin on both sides."""
        base, swing = self._world.camera, self._world.yaw_swing
        if not swing:
            return base
        half = (base.width / 2) / base.focal
        reach = math.tan(math.atan(half) + swing) * base.focal - base.width / 2
        margin = (math.ceil(reach * 1.15 / COARSE) + 1) * COARSE
        return replace(base, width=base.width + 2 * margin)

    def _camera(self, seconds: float) -> Camera:
        world, base = self._world, self._world.camera
        if world.yaw_swing:
            return replace(base, yaw=base.yaw + world.yaw_swing * math.sin(2 * math.pi * seconds / PAN_SECONDS))
        if world.drive_speed:
            x, y, z = base.position
            t = seconds
            place = (x + 0.05 * math.sin(0.9 * t), y + 0.01 * math.sin(9.7 * t), z + world.drive_speed * t)
            nod = 0.0015 * math.sin(7.1 * t) + 0.001 * math.sin(11.3 * t + 1)
            return replace(base, position=place, pitch=base.pitch + nod, yaw=base.yaw + 0.004 * math.sin(0.7 * t))
        return base

    def _paint(self, camera: Camera) -> Stage:
        return light_backdrop(self._world, paint_backdrop(self._world, camera), camera, self._world.haze)

    def _stage(self, camera: Camera) -> Stage:
        if self._still is None:
            self._still = self._paint(self._stage_camera)
        if self._world.drive_speed:
            return self._paint(camera)
        return turn_stage(self._still, self._stage_camera, camera) if self._world.yaw_swing else self._still

    # -- composition

    def _render(self, index: int) -> tuple[SyntheticFrame, list[tuple[int, Drawn]], NDArray[Any]]:
        if index < 0:
            raise ValueError(f"frame index must not be negative, got {index}; frames count from 0.")
        options, world = self.options, self._world
        seconds = index / options.fps
        camera = self._camera(seconds)
        stage = self._stage(camera)
        if self._exposure is None and self._still is not None:
            self._exposure = exposure_for(self._still.radiance[::COARSE, ::COARSE], self._rgb)
        drawn = self._cast.draw(camera, seconds)
        rng = np.random.default_rng([options.seed, 5, index])
        radiance, celsius = stage.radiance.copy(), stage.celsius.copy()
        headlights = [light for item in drawn for light in item.lights if light.headlight]
        if headlights:
            self._light_ground(radiance, stage, headlights)
        self._cast_shadows(radiance, celsius, drawn)
        owner = np.zeros((options.height, options.width), np.int16)
        lights = self._light_on(drawn, camera, headlights + lighting.own_headlights(world, camera)) if drawn else []
        for slot, (item, light) in enumerate(zip(drawn, lights, strict=True)):
            self._blend(radiance, celsius, owner, stage.occluder, item, slot, light)
        for slot, item in enumerate(drawn):
            for lamp in item.lights:
                self._shine(radiance, owner, stage.occluder, lamp, slot, item, camera)
        rgb = develop(radiance, self._exposure or 1.0, self._rgb, rng)
        thermal = thermal_picture(celsius, self._thermal, options.thermal_bits, rng)
        return self._annotate(rgb, thermal, drawn, owner, seconds)

    def _light_ground(self, radiance: NDArray[Any], stage: Stage, headlights: list[Light]) -> None:
        """Add the beams of the cars to everything that stands still."""
        if stage.points is None or stage.albedo is None:  # by day
            return
        light = lighting.beam_light(stage.points, headlights)
        light[stage.sky] = 0
        rows = np.flatnonzero(light.max(1) > 1e-3)
        if not len(rows):
            return
        first, last = int(rows[0]), int(rows[-1]) + 1
        height, width = radiance.shape[:2]
        y0, y1 = first * COARSE, min(last * COARSE, height)
        full = cv2.resize(light[first:last], (width, y1 - y0), interpolation=cv2.INTER_LINEAR)
        tinted = cv2.merge([full * tint for tint in lighting.HEADLIGHT])
        part = radiance[y0:y1]
        cv2.add(part, cv2.multiply(tinted, stage.albedo[y0:y1], tinted), part)

    def _cast_shadows(self, radiance: NDArray[Any], celsius: NDArray[Any], drawn: list[Drawn]) -> None:
        """Darken the ground below the actors, and warm it below running cars."""
        height, width = celsius.shape
        sunny = self._world.sunny
        for item in drawn:
            if item.shadow is None:
                continue
            low = np.floor(item.shadow.min(0)).astype(np.int64) - 2
            high = np.ceil(item.shadow.max(0)).astype(np.int64) + 3
            x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
            if x1 - x0 < 2 or y1 - y0 < 2:
                continue
            mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
            cv2.fillConvexPoly(mask, fixed(item.shadow, 1.0, (x0, y0)), 255, cv2.LINE_AA, SHIFT)
            kernel = max((y1 - y0) // (12 if sunny else 5), 1) | 1
            soft = cv2.blur(mask, (kernel, kernel)).astype(np.float32) * np.float32(1 / 255)
            depth = (0.7 if item.label == CAR else 0.62) if sunny else 0.75 if item.label == CAR else 0.45
            radiance[y0:y1, x0:x1] *= (1 - soft * np.float32(depth))[..., None]
            if item.ground_heat:
                celsius[y0:y1, x0:x1] += soft * np.float32(item.ground_heat)

    def _light_on(self, drawn: list[Drawn], camera: Camera, beams: list[Light]) -> list[NDArray[Any]]:
        """Light on each actor: (3,), or (rows of its figure, 1, 3) where headlights light its lower part more."""
        world = self._world
        ambient = lighting.ambient(world)
        if world.time == "day":
            sunny = np.float32(0.85 * world.sunny) * lighting.SUN
            return [ambient + np.float32(item.sunlit) * sunny for item in drawn]
        heights = (0.1, 0.6, 1.1, 1.7)
        levels = np.array([[(item.ground[0], y, item.ground[1]) for y in heights] for item in drawn], np.float32)
        lamps = lighting.lamp_light(world, levels, lighting.street_lamps(world, camera.position[2])).mean(1)
        profiles = lighting.beam_light(levels, beams)
        result = []
        for item, level, lamp, profile in zip(drawn, levels, lamps, profiles, strict=True):
            if item.lights:  # a car does not light itself
                profile = profile - lighting.beam_light(level, [light for light in item.lights if light.headlight])
            base = ambient + lamp * np.array(world.lamp_colour, np.float32)
            if profile.max() > 1e-3:
                rows = item.figure.coverage.shape[0]
                column = np.interp(np.linspace(1.7, 0.0, rows), heights, np.maximum(profile, 0)).astype(np.float32)
                base = base + column[:, None, None] * lighting.HEADLIGHT
            result.append(base)
        return result

    def _blend(
        self,
        radiance: NDArray[Any],
        celsius: NDArray[Any],
        owner: NDArray[Any],
        occluder: NDArray[Any],
        item: Drawn,
        slot: int,
        light: NDArray[Any],
    ) -> None:
        figure, world = item.figure, self._world
        h, w = figure.coverage.shape
        window = np.s_[figure.y : figure.y + h, figure.x : figure.x + w]
        cover = np.where(occluder[window] < item.distance, np.float32(0), figure.coverage)
        owner[window][cover >= COVERAGE] = slot + 1
        inverse = 1 / np.maximum(figure.coverage, np.float32(1 / 255))
        paint = figure.paint.astype(np.float32) * inverse[..., None]
        heat = np.minimum(paint[..., 3], 255) * np.float32(CELSIUS_STEP) + np.float32(CELSIUS_ZERO)
        part = celsius[window]
        part += (heat - part) * cover
        colour = np.minimum(paint[..., :3] * np.float32(1 / 255), 1)
        colour *= colour
        colour *= light
        if item.distance > 15:
            clear = np.float32(math.exp(-item.distance * world.haze))
            colour = colour * clear + (1 - clear) * lighting.airlight(world)
        part = radiance[window]
        part += (colour - part) * cover[..., None]

    def _shine(
        self,
        radiance: NDArray[Any],
        owner: NDArray[Any],
        occluder: NDArray[Any],
        light: Light,
        slot: int,
        item: Drawn,
        camera: Camera,
    ) -> None:
        """Add a lamp of a car, unless something nearer hides it."""
        pixel, depth = camera.project(light.position[None])
        u, v = pixel[0].tolist()
        x, y = round(u), round(v)
        if depth[0] < 1.0 or not (0 <= x < camera.width and 0 <= y < camera.height):
            return
        to_eye = camera.origin - light.position
        towards = float(light.facing @ to_eye) / (float(np.linalg.norm(to_eye)) + 1e-6)
        if towards <= 0.05 or owner[y, x] > slot + 1 or occluder[y, x] < item.distance:
            return
        fade = min(1.0, (AHEAD - 5 - item.distance) / 20)  # far traffic comes into view by and by
        strength = (14.0 * towards**3 + 0.6 * towards if light.headlight else 1.5 * towards) * fade
        size = light.radius * camera.focal / float(depth[0])
        radius = max(size, 0.8)
        strength *= min(1.0, (size / 0.8) ** 2 * 1.5 + 0.15)
        reach = int(radius) + 2
        x0, y0 = max(x - reach, 0), max(y - reach, 0)
        x1, y1 = min(x + reach + 1, camera.width), min(y + reach + 1, camera.height)
        patch = np.zeros((y1 - y0, x1 - x0, 3), np.float32)
        scale = 1 << SHIFT
        centre = (round((u - x0) * scale), round((v - y0) * scale))
        cv2.circle(patch, centre, round(radius * scale), [strength * c for c in light.colour], -1, cv2.LINE_8, SHIFT)
        radiance[y0:y1, x0:x1] += patch

    # -- annotation

    def _annotate(
        self, rgb: NDArray[Any], thermal: NDArray[Any], drawn: list[Drawn], owner: NDArray[Any], seconds: float
    ) -> tuple[SyntheticFrame, list[tuple[int, Drawn]], NDArray[Any]]:
        options = self.options
        seen = np.bincount(owner.ravel(), minlength=len(drawn) + 1)[1:]
        rows = []
        for slot, item in enumerate(drawn):
            solid = item.figure.coverage >= COVERAGE
            columns, lines = np.flatnonzero(solid.any(0)), np.flatnonzero(solid.any(1))
            if not len(columns):
                continue
            x0, x1 = item.figure.x + columns[0], item.figure.x + columns[-1] + 1
            y0, y1 = item.figure.y + lines[0], item.figure.y + lines[-1] + 1
            fraction = min(float(seen[slot]) / max(item.figure.area, 1.0), 1.0)
            too_small = y1 - y0 < options.min_box_px or x1 - x0 < options.min_box_px / 2
            least = options.min_visible_fraction
            hidden = seen[slot] < least * np.count_nonzero(solid) or fraction < OUTSIDE_LENIENCY * least
            if not (too_small or hidden):
                rows.append((item.track, slot, (x0, y0, x1, y1), item.label, fraction))
        rows.sort()
        frame = SyntheticFrame(
            rgb=rgb,
            thermal=thermal,
            boxes=np.array([r[2] for r in rows], np.float32).reshape(-1, 4),
            labels=np.array([r[3] for r in rows], np.int64),
            track_ids=np.array([r[0] for r in rows], np.int64),
            visible_fraction=np.array([r[4] for r in rows], np.float32),
            stamp=seconds,
        )
        return frame, [(r[1], drawn[r[1]]) for r in rows], owner


@lru_cache(maxsize=STREETS_KEPT)
def _street(street: int, height: int, width: int) -> SyntheticScene:
    """An empty street, painted."""
    scene = SyntheticScene(SceneOptions(seed=street, width=width, height=height, people=0, cars=0, bicycles=0))
    scene.frame(0)
    return scene


def training_sample(rng: np.random.Generator, height: int, width: int, streets: int = STREETS_KEPT) -> SyntheticFrame:
    """One frame of a random scene, for training on the fly: new people, cars, bicycles and sensors in one of a set of
    streets.

    Painting a street takes several times longer than filling it, so the last 64 streets are kept (about 3 MB each at
    256x320).

    Args:
        rng: decides the scene; equal states give equal frames.
        height, width: image size in pixels.
        streets: number of different streets (by day, at dusk, at night); above 64 many calls paint one anew.

    Raises:
        ValueError: a size outside of what SceneOptions takes, or no street.
    """
    if streets < 1:
        raise ValueError(f"streets must be 1 or more, got {streets}; {STREETS_KEPT} is the default.")
    street = int(rng.integers(streets))
    options = SceneOptions(seed=int(rng.integers(1 << 31)), street=street, width=width, height=height)
    return SyntheticScene(options, _street(street, height, width)).frame(int(rng.integers(60)))
