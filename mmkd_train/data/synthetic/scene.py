"""A moving scene: world, backdrop, figures, light and sensors put together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.synthetic.background import COARSE, SKY_DISTANCE, Backdrop, paint_backdrop
from mmkd_train.data.synthetic.camera import Camera
from mmkd_train.data.synthetic.options import BICYCLE, CAR, PERSON, SceneOptions, SyntheticFrame
from mmkd_train.data.synthetic.person import PersonLook, person_look, person_outlines
from mmkd_train.data.synthetic.raster import CELSIUS_STEP, CELSIUS_ZERO, COVERAGE, Figure, Light, Outline, rasterise
from mmkd_train.data.synthetic.sensors import RgbSensor, develop, exposure_for, rgb_sensor, thermal_picture, thermal_sensor
from mmkd_train.data.synthetic.textures import NOISE_KINDS, noise_tile
from mmkd_train.data.synthetic.vehicle import BicycleLook, CarLook, bicycle_look, bicycle_outlines, car_look, car_outlines
from mmkd_train.data.synthetic.world import AHEAD, BEHIND, PERIOD, Actor, Placement, World, build_world, place, with_actors

PAN_SECONDS = 24.0


@dataclass(slots=True, eq=False)
class _Drawn:
    """One figure on its way into the picture."""

    label: int
    track: int
    figure: Figure
    distance: float
    ground: tuple[float, float]
    lights: list[Light]
    contact: NDArray[np.float64] | None
    contact_heat: float
    sunlit: float = 1.0


@dataclass(slots=True, eq=False)
class _Lit:
    """The backdrop with its steady light: radiance and temperature, and the albedo for moving light."""

    radiance: NDArray[np.float32]
    celsius: NDArray[np.float32]
    albedo: NDArray[np.float32] | None
    occluder: NDArray[np.float32]
    points: NDArray[np.float32] | None
    coarse_sky: NDArray[np.bool_] | None


class SyntheticScene:
    """Random access to the frames of one scene.

    ``frame(i)`` depends on the options and on i alone, not on the order of the calls. An instance caches the still part of the
    picture and is not meant to be shared between threads.
    """

    def __init__(self, options: SceneOptions, _like: SyntheticScene | None = None) -> None:
        self.options = options
        self.world = build_world(options) if _like is None else with_actors(_like.world, options)
        rng = np.random.default_rng([options.seed, 3])
        self._rgb: RgbSensor = rgb_sensor(rng, self.world, options)
        self._thermal = thermal_sensor(rng, options)
        self._dark = self.world.time != "day"
        street_rng = np.random.default_rng([self.world.skyline, 8])
        self._haze = float(street_rng.choice([street_rng.uniform(0.0002, 0.0025), street_rng.uniform(0.002, 0.007)], p=(0.8, 0.2))) if self.world.time == "day" else float(street_rng.uniform(0.0, 0.004))
        self._sun_reach = 120.0  # metres ahead to which shadows are worked out
        self._wide = self.world.camera if _like is None else _like._wide
        self._still: _Lit | None = None if _like is None else _like._still
        self._exposure = 1.0 if self._still is None else exposure_for(self._still.radiance[::COARSE, ::COARSE], self._rgb)
        self._looks: dict[tuple[int, int], PersonLook | CarLook | BicycleLook] = {}
        self._parked: dict[int, tuple[Figure | None, list[Light]]] = {}

    # -- public

    @property
    def night(self) -> bool:
        """Whether the scene is lit by lamps alone."""
        return self.world.time == "night"

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
        frame, drawn, owner = self._render(index)
        shape = (len(drawn), self.options.height, self.options.width)
        whole, seen = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        for k, (slot, item) in enumerate(drawn):
            figure = item.figure
            h, w = figure.coverage.shape
            whole[k, figure.y : figure.y + h, figure.x : figure.x + w] = figure.coverage >= COVERAGE
            seen[k] = owner == slot + 1
        return frame, whole, seen

    # -- camera and light

    def _camera(self, seconds: float) -> Camera:
        world = self.world
        base = world.camera
        if world.yaw_swing:
            return replace(base, yaw=base.yaw + world.yaw_swing * math.sin(2 * math.pi * seconds / PAN_SECONDS))
        if world.drive_speed:
            x, y, z = base.position
            t = seconds
            nod = 0.0015 * math.sin(7.1 * t) + 0.001 * math.sin(11.3 * t + 1)
            return replace(base, position=(x + 0.05 * math.sin(0.9 * t), y + 0.01 * math.sin(9.7 * t), z + world.drive_speed * t), pitch=base.pitch + nod,
                           yaw=base.yaw + 0.004 * math.sin(0.7 * t))  # fmt: skip
        return base

    def _lamps(self, camera_z: float) -> NDArray[np.float64]:
        """(K, 3) street lamps that matter around the camera."""
        if not self._dark:
            return np.zeros((0, 3))
        spots = []
        for p in self.world.props:
            if p.kind == "lamp":
                z = p.z + math.ceil((camera_z - BEHIND - 10 - p.z) / PERIOD) * PERIOD
                if z < camera_z + AHEAD:
                    spots.append((p.x - math.copysign(1.3, p.x), p.height + 0.1, z))
        return np.array(spots).reshape(-1, 3)

    def _ambient(self) -> NDArray[np.float32]:
        time = self.world.time
        if time == "day":
            return np.array((0.55, 0.6, 0.7) if self.world.sunny else (0.8, 0.82, 0.85), np.float32)
        if time == "dusk":
            return np.array((0.07, 0.065, 0.075), np.float32)
        return (np.array(self.world.lamp_colour, np.float32) * 0.5 + 0.5) * np.float32(0.006)

    def _lamp_light(self, points: NDArray[np.float32], lamps: NDArray[np.float64]) -> NDArray[np.float32]:
        """(..., 3) points in metres -> (...) light of all street lamps."""
        total = np.zeros(points.shape[:-1], np.float32)
        for x, y, z in lamps.astype(np.float32):
            drop = np.maximum(y - points[..., 1], 0)
            square = (points[..., 0] - x) ** 2 + drop**2 + (points[..., 2] - z) ** 2
            total += drop**1.5 / (square + 4.0) ** 1.75
        return total * np.float32(self.world.lamp_power * 28.0)

    @staticmethod
    def _beam(points: NDArray[np.float32], lights: list[Light], power: float) -> NDArray[np.float32]:
        """(..., 3) points -> (...) light of dipped headlights: wide, cut off just below the lamp's height."""
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
        return total * np.float32(power)

    def _own_lights(self, camera: Camera) -> list[Light]:
        if not self.world.own_lights:
            return []
        facing = np.array([math.sin(camera.yaw), 0, math.cos(camera.yaw)])
        right = np.array([facing[2], 0, -facing[0]])
        centre = np.array([camera.position[0], 0.7, camera.position[2]]) - facing * 0.5
        return [Light(centre + right * s, facing, (1.0, 0.95, 0.85), 0.09, True) for s in (-0.6, 0.6)]

    # -- the still part

    def _light_backdrop(self, backdrop: Backdrop, camera: Camera) -> _Lit:
        world = self.world
        rays = camera.rays(COARSE)
        points = rays * backdrop.distance[..., None] + np.array(camera.position, np.float32)
        sky = backdrop.distance >= SKY_DISTANCE
        ambient = self._ambient()
        light = np.empty((*sky.shape, 3), np.float32)
        light[:] = ambient
        if self._dark:
            lamps = self._lamp_light(points, self._lamps(camera.position[2]))
            light += lamps[..., None] * np.array(world.lamp_colour, np.float32)
            own = self._own_lights(camera)
            if own:
                light += self._beam(points, own, 26.0)[..., None] * np.array(own[0].colour, np.float32)
        elif world.sunny:
            light += self._sunlight(points)[..., None] * np.array((1.15, 1.05, 0.9), np.float32)
        size = (camera.width, camera.height)
        veil = None
        if self._haze > 0.0005:
            clear = np.exp(-np.minimum(backdrop.distance, 600) * np.float32(self._haze))[..., None]
            clear[sky] = 1
            light *= clear
            veil = (1 - clear) * self._airlight()
        light = cv2.resize(light, size, interpolation=cv2.INTER_LINEAR)
        coded = cv2.cvtColor(backdrop.paint, cv2.COLOR_BGRA2BGR)
        albedo = cv2.multiply(coded, coded, scale=1 / 255**2, dtype=cv2.CV_32F)
        radiance = cv2.add(cv2.multiply(albedo, light, light), backdrop.emission, light)
        if veil is not None:
            radiance = cv2.add(radiance, cv2.resize(veil, size, interpolation=cv2.INTER_LINEAR), radiance)
        celsius = cv2.scaleAdd(cv2.extractChannel(backdrop.paint, 3).astype(np.float32), CELSIUS_STEP, mottle(world.skyline % NOISE_KINDS, size))
        return _Lit(radiance, celsius, albedo if self._dark else None, backdrop.occluder, points if self._dark else None, sky)

    def _airlight(self) -> NDArray[np.float32]:
        if self.world.time == "day":
            return np.array((0.8, 0.83, 0.88), np.float32)
        return self._ambient() * np.float32(0.5)

    def _sunlight(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """1 where the sun reaches the (h, w, 3) points; trees and houses cast soft shadows on what lies low."""
        world = self.world
        lit = np.ones(points.shape[:-1], np.float32)
        sx, sy, sz = world.sun
        low = points[..., 1] < 0.4
        x, z = points[..., 0], points[..., 2]
        x_low, x_high, z_low, z_high = (float(v) for v in (x[low].min(), x[low].max(), z[low].min(), z[low].max())) if low.any() else (0, 0, 0, 0)
        dapple = noise_like(world.skyline >> 4, lit.shape) if lit.size > 1 else np.float32(0)
        for p in world.props:
            if p.kind != "tree":
                continue
            top, reach = p.height * 0.66, p.height * 0.45
            cx, cz = p.x - sx / sy * top, p.z - sz / sy * top
            if not (x_low - reach < cx < x_high + reach and z_low - reach < cz < min(z_high, self._sun_reach) + reach):
                continue
            near = ((x - np.float32(cx)) ** 2 + (z - np.float32(cz)) ** 2) * np.float32(1 / reach**2)
            lit -= np.clip(np.float32(1.6) * (1 - near) + dapple * 0.25 * (near < 1), 0, 1) * np.float32(0.85) * low
        for b in world.buildings:
            edge, shadow = b.side * b.setback, -sx / sy * b.height
            if shadow * -b.side > 0:  # falls towards the road
                x0, x1 = sorted((edge, edge + shadow))
                offset = -sz / sy * b.height * 0.5
                lit[(x > x0) & (x < x1) & (z > b.z0 + offset) & (z < b.z1 + offset) & low] = 0
        return cv2.GaussianBlur(np.clip(lit, 0, 1), (3, 3), 0)

    def _stage(self, camera: Camera) -> _Lit:
        """The lit backdrop for this camera; kept when the camera stands still, turned out of a wide one when it pans."""
        base = self.world.camera
        if self._still is None:
            margin = math.ceil(math.tan(self.world.yaw_swing) * 1.4 * base.width / 2 + base.focal * math.tan(self.world.yaw_swing)) + 4
            wide = replace(base, width=base.width + 2 * (-(-margin // COARSE)) * COARSE) if self.world.yaw_swing else base
            self._still = self._light_backdrop(paint_backdrop(self.world, wide), wide)
            self._exposure = exposure_for(self._still.radiance[::COARSE, ::COARSE], self._rgb)
            self._wide = wide
        if self.world.drive_speed:
            return self._light_backdrop(paint_backdrop(self.world, camera), camera)
        return self._turned(self._still, camera) if self.world.yaw_swing else self._still

    def _turned(self, still: _Lit, camera: Camera) -> _Lit:
        """The wide still seen by ``camera``, which has the same place and another yaw: a homography, exact for a rotation."""
        size = (camera.width, camera.height)
        warp = camera.intrinsic @ camera.rotation @ self._wide.rotation.T @ np.linalg.inv(self._wide.intrinsic)
        step = np.array([[COARSE, 0, (COARSE - 1) / 2], [0, COARSE, (COARSE - 1) / 2], [0, 0, 1]])
        coarse_warp = np.linalg.inv(step) @ warp @ step
        coarse_size = (-(-camera.width // COARSE), -(-camera.height // COARSE))

        def turn(picture: NDArray[np.float32], fine: bool, flags: int) -> NDArray[np.float32]:
            return cv2.warpPerspective(
                picture, warp if fine else coarse_warp, size if fine else coarse_size, flags=flags, borderMode=cv2.BORDER_REPLICATE
            )

        return _Lit(
            radiance=turn(still.radiance, True, cv2.INTER_LINEAR),
            celsius=turn(still.celsius, True, cv2.INTER_LINEAR),
            albedo=None if still.albedo is None else turn(still.albedo, True, cv2.INTER_NEAREST),
            occluder=turn(still.occluder, True, cv2.INTER_NEAREST),
            points=None if still.points is None else turn(still.points, False, cv2.INTER_NEAREST),
            coarse_sky=None if still.coarse_sky is None else turn(still.coarse_sky.astype(np.float32), False, cv2.INTER_NEAREST) > 0.5,
        )

    # -- actors

    def _look(self, slot: int, life: int, actor: Actor, label: int) -> PersonLook | CarLook | BicycleLook:
        key = (slot, life)
        if key not in self._looks:
            rng = np.random.default_rng([self.options.seed, 4, slot, life])
            world = self.world
            look: PersonLook | CarLook | BicycleLook
            if label == PERSON:
                look = person_look(rng, world.air, world.sunny, actor.rider)
            elif label == CAR:
                look = car_look(rng, world.air, world.sunny, self._dark, actor.running)
            else:
                look = bicycle_look(rng, world.air, world.sunny, actor.rider)
            if len(self._looks) > 500:
                self._looks.clear()
            self._looks[key] = look
        return self._looks[key]

    def _smear(self, camera: Camera, where: Placement, distance: float) -> float:
        vx = where.speed * math.sin(where.heading)
        vz = where.speed * math.cos(where.heading) - self.world.drive_speed
        across = vx * math.cos(camera.yaw) - vz * math.sin(camera.yaw)
        return abs(across) * camera.focal / max(distance, 1.0) * self._rgb.exposure_seconds

    def _draw_actors(self, camera: Camera, seconds: float) -> list[_Drawn]:
        world, options = self.world, self.options
        drawn: list[_Drawn] = []
        slots = 2 * len(world.actors)
        still_camera = world.drive_speed == 0 and world.yaw_swing == 0
        sun = np.array(world.sun) if world.sunny else np.array((0.3, 0.9, -0.3))
        open_sky = {"day": 1.0, "dusk": 0.25, "night": 0.0}[world.time]
        right_light = float(np.clip(camera.rotation[0] @ sun, -1, 1))
        for k, actor in enumerate(world.actors):
            where = place(actor, seconds, camera.position[2], world.drive_speed)
            local = camera.to_camera(np.array([[where.x, 0.8, where.z]]))[0]
            distance = float(local[2])
            reach = 3.5 if actor.label == CAR else 1.5
            if distance < -reach or abs(local[0]) - reach > max(distance, 0.5) * (camera.width / camera.focal * 0.5 + 0.15):
                continue
            if distance > AHEAD - 5:
                continue
            smear = self._smear(camera, where, distance)
            parts: list[tuple[int, int, list[Outline], list[Light], float]] = []
            ground = (where.x, where.z)
            if actor.label == CAR:
                key = 2 * k
                car = self._look(key, where.life, actor, CAR)
                if still_camera and actor.speed == 0 and k in self._parked:
                    outlines, lights = [], []
                else:
                    outlines, lights = car_outlines(car, ground, where.heading, camera, sun, open_sky)  # type: ignore[arg-type]
                parts.append((CAR, key, outlines, lights, distance))
            else:
                if actor.label == BICYCLE:
                    bike = self._look(2 * k + 1, where.life, actor, BICYCLE)
                    parts.append((BICYCLE, 2 * k + 1, bicycle_outlines(bike, ground, where.heading, camera), [], distance + 0.02))  # type: ignore[arg-type]
                if actor.label == PERSON or actor.rider:
                    person = self._look(2 * k, where.life, actor, PERSON)
                    outlines = person_outlines(person, actor.pose, ground, where.heading, where.walked, where.speed, camera, right_light)  # type: ignore[arg-type]
                    parts.append((PERSON, 2 * k, outlines, [], distance))
            for label, slot, outlines, lights, depth in parts:
                cached = still_camera and actor.speed == 0 and label == CAR
                if cached and k in self._parked:
                    figure, lights = self._parked[k]
                else:
                    figure = rasterise(outlines, options.width, options.height, smear)
                    if figure is not None:
                        self._texture(figure, slot, label)
                    if cached:
                        self._parked[k] = (figure, lights)
                if figure is None and not lights:
                    continue
                if figure is None:
                    continue
                contact, heat = self._contact(label, actor, where, camera)
                drawn.append(_Drawn(label, 1 + slot + slots * where.life, figure, depth, ground, lights, contact, heat))
        drawn.sort(key=lambda item: -item.distance)
        if world.sunny and drawn:
            feet = np.array([[(item.ground[0], 0.0, item.ground[1])] for item in drawn], np.float32)
            for item, lit in zip(drawn, self._sunlight(feet)[:, 0], strict=True):
                item.sunlit = float(lit)
        return drawn

    def _texture(self, figure: Figure, slot: int, label: int) -> None:
        """Break up flat surfaces of large figures: folds in cloth, uneven reflections on paint."""
        h, w = figure.coverage.shape
        if h < 30:
            return
        tile = noise_tile((slot + 1) % NOISE_KINDS, 1.4)
        cells = 40 if label == PERSON else 60
        oy, ox = (slot * 37) % 400, (slot * 61) % 400
        piece = tile[oy : oy + cells, ox : ox + max(int(cells * w / h), 4)]
        if piece.size == 0:
            return
        grain = cv2.resize(piece, (w, h), interpolation=cv2.INTER_LINEAR)
        weight = (0.1, 0.02) if label == PERSON else (0.05, 0.012)
        gain = np.empty((h, w, 4), np.float32)
        gain[..., :3] = 1 + grain[..., None] * np.float32(weight[0])
        gain[..., 3] = 1 + grain * np.float32(weight[1])
        figure.paint = cv2.multiply(figure.paint, gain, dtype=cv2.CV_8U)

    def _contact(self, label: int, actor: Actor, where: Placement, camera: Camera) -> tuple[NDArray[np.float64] | None, float]:
        """The patch of ground darkened by the object, in pixels, and how much warmer it is in kelvin."""
        half = {PERSON: (0.3, 0.3), CAR: (1.05, 2.35), BICYCLE: (0.2, 0.8)}[label]
        sine, cosine = math.sin(where.heading), math.cos(where.heading)
        ring = _RING * half
        ground = np.column_stack([where.x + ring[:, 0] * cosine + ring[:, 1] * sine, where.z - ring[:, 0] * sine + ring[:, 1] * cosine])
        sx, sy, sz = self.world.sun
        if self.world.sunny:  # a long shadow: the hull of the foot and of what the top casts
            height, narrow = {PERSON: (1.6, 0.5), CAR: (1.3, 0.7), BICYCLE: (0.9, 0.7)}[label]
            middle = np.array([where.x, where.z])
            top = middle + (ground - middle) * narrow - np.array([sx, sz]) * (height / sy)
            ground = middle + (ground - middle) * (0.6 if label == PERSON else 0.9)
            ground = cv2.convexHull(np.concatenate([ground, top]).astype(np.float32))[:, 0]
        world = np.column_stack([ground[:, 0], np.zeros(len(ground)), ground[:, 1]])
        points = camera.project_polygon(world)
        if len(points) < 3:
            return None, 0.0
        return points, 2.5 if actor.running else 0.0

    # -- composition

    def _render(self, index: int) -> tuple[SyntheticFrame, list[tuple[int, _Drawn]], NDArray[np.int16]]:
        if index < 0:
            raise ValueError(f"frame index must not be negative, got {index}; frames count from 0.")
        options = self.options
        seconds = index / options.fps
        camera = self._camera(seconds)
        stage = self._stage(camera)
        drawn = self._draw_actors(camera, seconds)
        rng = np.random.default_rng([options.seed, 5, index])
        radiance, celsius = stage.radiance.copy(), stage.celsius.copy()
        headlights = [light for item in drawn for light in item.lights if light.headlight]
        if headlights and stage.points is not None and stage.albedo is not None:
            self._add_beams(radiance, stage, headlights)
        self._cast(radiance, celsius, drawn, camera)
        owner = np.zeros((options.height, options.width), np.int16)
        lamps = self._lamps(camera.position[2])
        own = self._own_lights(camera)
        for slot, item in enumerate(drawn):
            self._blend(radiance, celsius, owner, stage.occluder, item, slot, camera, lamps, headlights + own)
        for slot, item in enumerate(drawn):
            for light in item.lights:
                self._shine(radiance, owner, stage.occluder, light, slot, item, camera)
        rgb = develop(radiance, self._exposure, self._rgb, rng)
        thermal = thermal_picture(celsius, self._thermal, options.thermal_bits, rng)
        return self._annotate(rgb, thermal, drawn, owner, seconds)

    def _add_beams(self, radiance: NDArray[np.float32], stage: _Lit, headlights: list[Light]) -> None:
        assert stage.points is not None and stage.albedo is not None and stage.coarse_sky is not None  # noqa: S101
        light = self._beam(stage.points, headlights, 22.0)
        light[stage.coarse_sky] = 0
        rows = np.flatnonzero(light.max(1) > 1e-3)
        if not len(rows):
            return
        first, last = int(rows[0]), int(rows[-1]) + 1
        height, width = radiance.shape[:2]
        y0, y1 = first * COARSE, min(last * COARSE, height)
        full = cv2.resize(light[first:last], (width, y1 - y0), interpolation=cv2.INTER_LINEAR)
        tinted = cv2.merge([full, full * np.float32(0.94), full * np.float32(0.82)])
        part = radiance[y0:y1]
        cv2.add(part, cv2.multiply(tinted, stage.albedo[y0:y1]), part)

    def _cast(self, radiance: NDArray[np.float32], celsius: NDArray[np.float32], drawn: list[_Drawn], camera: Camera) -> None:
        """Shadows under the objects and warm ground below running cars."""
        height, width = celsius.shape
        for item in drawn:
            if item.contact is None:
                continue
            low = np.floor(item.contact.min(0)).astype(int) - 2
            high = np.ceil(item.contact.max(0)).astype(int) + 3
            x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
            if x1 - x0 < 2 or y1 - y0 < 2:
                continue
            mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
            corners = np.round((np.clip(item.contact, -30000, 30000) - (x0, y0)) * 16).astype(np.int32)
            cv2.fillConvexPoly(mask, corners, 255, cv2.LINE_AA, 4)
            kernel = max((y1 - y0) // (12 if self.world.sunny else 5), 1) | 1
            soft = cv2.blur(mask, (kernel, kernel)).astype(np.float32) * np.float32(1 / 255)
            strength = np.float32((0.7 if item.label == CAR else 0.62) if self.world.sunny else 0.75 if item.label == CAR else 0.45)
            radiance[y0:y1, x0:x1] *= (1 - soft * strength)[..., None]
            if item.contact_heat:
                celsius[y0:y1, x0:x1] += soft * np.float32(item.contact_heat)

    def _blend(
        self, radiance: NDArray[np.float32], celsius: NDArray[np.float32], owner: NDArray[np.int16], occluder: NDArray[np.float32], item: _Drawn,
        slot: int, camera: Camera, lamps: NDArray[np.float64], beams: list[Light],
    ) -> None:  # fmt: skip
        figure = item.figure
        h, w = figure.coverage.shape
        window = np.s_[figure.y : figure.y + h, figure.x : figure.x + w]
        cover = np.where(occluder[window] < item.distance, np.float32(0), figure.coverage)
        owner[window][cover >= COVERAGE] = slot + 1
        inverse = 1 / np.maximum(figure.coverage, np.float32(1 / 255))
        paint = figure.paint.astype(np.float32) * inverse[..., None]
        heat = np.minimum(paint[..., 3], 255) * np.float32(CELSIUS_STEP) + np.float32(CELSIUS_ZERO)
        celsius[window] += (heat - celsius[window]) * cover
        light = self._light_on(item, camera, lamps, beams, h)
        colour = np.minimum(paint[..., :3] * np.float32(1 / 255), 1)
        colour *= colour
        colour *= light
        if self._haze > 0.0005 and item.distance > 15:
            clear = np.float32(math.exp(-item.distance * self._haze))
            colour = colour * clear + (1 - clear) * self._airlight()
        part = radiance[window]
        part += (colour - part) * cover[..., None]

    def _light_on(self, item: _Drawn, camera: Camera, lamps: NDArray[np.float64], beams: list[Light], rows: int) -> NDArray[np.float32]:
        """Light on an object: (3,) by day, (rows, 1, 3) where headlights light its lower part."""
        world = self.world
        ambient = self._ambient()
        if not self._dark:
            if not world.sunny:
                return ambient
            return ambient + np.float32(item.sunlit * 0.85) * np.array((1.15, 1.05, 0.9), np.float32)
        levels = np.array([[item.ground[0], y, item.ground[1]] for y in (0.1, 0.6, 1.1, 1.7)], np.float32)
        lamp = self._lamp_light(levels, lamps).mean() * np.array(world.lamp_colour, np.float32)
        others = [b for b in beams if all(b is not light for light in item.lights)]
        profile = self._beam(levels, others, 26.0) if others else np.zeros(4, np.float32)
        if profile.max() < 1e-3:
            return ambient + lamp
        heights = np.interp(np.linspace(1.7, 0.0, rows), (0.1, 0.6, 1.1, 1.7), profile).astype(np.float32)
        return ambient + lamp + heights[:, None, None] * np.array((1.0, 0.94, 0.82), np.float32)

    def _shine(
        self, radiance: NDArray[np.float32], owner: NDArray[np.int16], occluder: NDArray[np.float32], light: Light, slot: int, item: _Drawn, camera: Camera
    ) -> None:  # fmt: skip
        """Add a lamp of a car, unless something nearer hides it."""
        pixel, depth = camera.project(light.position[None])
        if depth[0] < 1.0:
            return
        x, y = round(float(pixel[0, 0])), round(float(pixel[0, 1]))
        if not (0 <= x < camera.width and 0 <= y < camera.height):
            return
        hidden = owner[y, x] > slot + 1 or occluder[y, x] < item.distance
        to_eye = camera.origin - light.position
        towards = float(light.facing @ to_eye) / (float(np.linalg.norm(to_eye)) + 1e-6)
        if hidden or towards <= 0.05:
            return
        fade = min(1.0, (AHEAD - 5 - item.distance) / 20)
        strength = (14.0 * towards**3 + 0.6 * towards if light.headlight else 1.5 * towards) * fade
        size = light.radius * camera.focal / float(depth[0])
        radius = max(size, 0.8)
        strength *= min(1.0, (size / 0.8) ** 2 * 1.5 + 0.15)
        colour = tuple(strength * c for c in light.colour)
        reach = int(radius) + 2
        x0, y0, x1, y1 = max(x - reach, 0), max(y - reach, 0), min(x + reach + 1, camera.width), min(y + reach + 1, camera.height)
        patch = np.zeros((y1 - y0, x1 - x0, 3), np.float32)
        cv2.circle(patch, (round((float(pixel[0, 0]) - x0) * 16), round((float(pixel[0, 1]) - y0) * 16)), round(radius * 16), colour, -1, cv2.LINE_8, 4)
        radiance[y0:y1, x0:x1] += patch

    # -- annotation

    def _annotate(
        self, rgb: NDArray[np.uint8], thermal: NDArray[np.uint8] | NDArray[np.uint16], drawn: list[_Drawn], owner: NDArray[np.int16], seconds: float
    ) -> tuple[SyntheticFrame, list[tuple[int, _Drawn]], NDArray[np.int16]]:  # fmt: skip
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
            if y1 - y0 < options.min_box_px or x1 - x0 < options.min_box_px / 2 or fraction < options.min_visible_fraction:
                continue
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


_RING = np.column_stack([np.cos(np.linspace(0, 2 * math.pi, 16, endpoint=False)), np.sin(np.linspace(0, 2 * math.pi, 16, endpoint=False))])


def noise_like(key: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Smooth noise of unit variance and the given (height, width)."""
    tile = noise_tile(key % NOISE_KINDS, 1.4)
    return cv2.resize(tile[:256, :320], (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=8)
def mottle(kind: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W) uneven surface temperatures in degrees Celsius around the zero of the temperature code; size is (W, H)."""
    return noise_like(kind, size[::-1]) * np.float32(0.08) + np.float32(CELSIUS_ZERO)


@lru_cache(maxsize=64)
def _street(street: int, height: int, width: int) -> SyntheticScene:
    """An empty street whose backdrop is painted."""
    scene = SyntheticScene(SceneOptions(seed=street, width=width, height=height, people=0, cars=0, bicycles=0))
    scene.frame(0)
    return scene


def training_sample(rng: np.random.Generator, height: int, width: int, streets: int = 64) -> SyntheticFrame:
    """One frame of a random scene, for training on the fly: new people, cars, bicycles and cameras in one of a set of streets.

    Painting a street takes several times longer than filling it, so the last 64 streets are kept.

    Args:
        rng: decides the scene; equal states give equal frames.
        height, width: image size in pixels.
        streets: number of different streets (day and night); above 64 each call is likely to paint a new one.

    Raises:
        ValueError: a size outside of what SceneOptions takes.
    """
    street = int(rng.integers(streets))
    options = SceneOptions(seed=int(rng.integers(1 << 31)), street=street, width=width, height=height)
    return SyntheticScene(options, _street(street, height, width)).frame(int(rng.integers(60)))
