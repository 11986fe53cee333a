"""The actors of one instant, drawn but not yet part of the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.synthetic import lighting
from mmkd_train.data.synthetic.camera import Camera
from mmkd_train.data.synthetic.motion import AHEAD, Actor, Placement, place
from mmkd_train.data.synthetic.options import BICYCLE, CAR, PERSON
from mmkd_train.data.synthetic.person import PersonLook, person_look, person_outlines
from mmkd_train.data.synthetic.raster import Figure, Light, Outline, rasterise
from mmkd_train.data.synthetic.textures import NOISE_KINDS, noise_tile
from mmkd_train.data.synthetic.vehicle import (
    BicycleLook,
    CarLook,
    bicycle_look,
    bicycle_outlines,
    car_look,
    car_outlines,
)
from mmkd_train.data.synthetic.world import World

_TURN = np.linspace(0, 2 * math.pi, 16, endpoint=False)
_RING = np.column_stack([np.cos(_TURN), np.sin(_TURN)])
_LOOKS_KEPT = 500


@dataclass(slots=True, eq=False)
class Drawn:
    """One figure on its way into the picture.

    Attributes:
        label: index into CLASS_NAMES.
        track: track id.
        figure: its pixels.
        distance: metres forward.
        ground: x and z in metres.
        lights: its lamps that are on.
        shadow: (N, 2) pixels of the ground that it darkens, or None when out of view.
        ground_heat: kelvin by which it warms that ground.
        sunlit: share of the sun that reaches it.
    """

    label: int
    track: int
    figure: Figure
    distance: float
    ground: tuple[float, float]
    lights: list[Light]
    shadow: NDArray[Any] | None
    ground_heat: float
    sunlit: float = 1.0


@dataclass(eq=False)
class Cast:
    """Draws the actors of one world; keeps looks, and the figures of what never moves."""

    world: World
    seed: int
    shutter: float
    _people: dict[tuple[int, int], PersonLook] = field(default_factory=dict)
    _cars: dict[tuple[int, int], CarLook] = field(default_factory=dict)
    _bicycles: dict[tuple[int, int], BicycleLook] = field(default_factory=dict)
    _still: dict[int, list[Drawn]] = field(default_factory=dict)

    def draw(self, camera: Camera, seconds: float) -> list[Drawn]:
        """All actors in the picture of ``camera``, the farthest first."""
        world = self.world
        drawn: list[Drawn] = []
        still_camera = camera is world.camera
        for number, actor in enumerate(world.actors):
            if still_camera and actor.speed == 0:
                if number not in self._still:
                    self._still[number] = self._draw_actor(number, actor, camera, seconds)
                drawn += self._still[number]
            else:
                drawn += self._draw_actor(number, actor, camera, seconds)
        drawn.sort(key=lambda item: -item.distance)
        if world.sunny and drawn:
            feet = np.array([[(item.ground[0], 0.0, item.ground[1])] for item in drawn], np.float32)
            for item, lit in zip(drawn, lighting.sunlight(world, feet)[:, 0], strict=True):
                item.sunlit = float(lit)
        return drawn

    def _draw_actor(self, number: int, actor: Actor, camera: Camera, seconds: float) -> list[Drawn]:
        """The one or two figures of an actor, as far as they are in the picture."""
        where = place(actor, seconds, camera.position[2], self.world.drive_speed)
        right, _, distance = camera.to_camera(np.array([[where.x, 0.8, where.z]]))[0].tolist()
        reach = 3.5 if actor.label == CAR else 1.5
        if not -reach < distance < AHEAD - 5:
            return []
        if abs(right) - reach > max(distance, 0.5) * (camera.width / camera.focal * 0.5 + 0.15):
            return []
        if actor.label == CAR:
            parts = [self._car(number, actor, where, camera, distance)]
        else:
            parts = self._people_and_bicycles(number, actor, where, camera, distance)
        return [part for part in parts if part is not None]

    # Each actor owns two track ids a life: an even slot for the car or the person, an odd one for the bicycle.

    def _track(self, slot: int, life: int) -> int:
        return 1 + slot + 2 * len(self.world.actors) * life

    def _car(self, number: int, actor: Actor, where: Placement, camera: Camera, distance: float) -> Drawn | None:
        world, slot = self.world, 2 * number
        look = self._cars.get((slot, where.life))
        if look is None:
            _trim(self._cars)
            look = car_look(self._rng(slot, where.life), world.air, world.sunny, world.time != "day", actor.running)
            self._cars[slot, where.life] = look
        sun = np.array(world.sun) if world.sunny else np.array((0.3, 0.9, -0.3))
        open_sky = {"day": 1.0, "dusk": 0.25, "night": 0.0}[world.time]
        outlines, lights = car_outlines(look, (where.x, where.z), where.heading, camera, sun, open_sky)
        figure = self._figure(outlines, where, camera, distance, slot, CAR)
        return self._drawn(CAR, slot, where, camera, figure, distance, lights, actor.running)

    def _people_and_bicycles(
        self, number: int, actor: Actor, where: Placement, camera: Camera, distance: float
    ) -> list[Drawn | None]:
        world = self.world
        parts: list[Drawn | None] = []
        if actor.label == BICYCLE:
            slot = 2 * number + 1
            bicycle = self._bicycles.get((slot, where.life))
            if bicycle is None:
                _trim(self._bicycles)
                bicycle = bicycle_look(self._rng(slot, where.life), world.air, world.sunny, actor.rider)
                self._bicycles[slot, where.life] = bicycle
            outlines = bicycle_outlines(bicycle, (where.x, where.z), where.heading, camera)
            figure = self._figure(outlines, where, camera, distance, slot, BICYCLE)
            parts.append(self._drawn(BICYCLE, slot, where, camera, figure, distance + 0.02, [], False))
        if actor.label == PERSON or actor.rider:
            slot = 2 * number
            person = self._people.get((slot, where.life))
            if person is None:
                _trim(self._people)
                person = person_look(self._rng(slot, where.life), world.air, world.sunny, actor.rider)
                self._people[slot, where.life] = person
            light = float(np.clip(camera.rotation[0] @ np.array(world.sun), -1, 1))
            outlines = person_outlines(person, actor.pose, where, camera, light)
            figure = self._figure(outlines, where, camera, distance, slot, PERSON)
            parts.append(self._drawn(PERSON, slot, where, camera, figure, distance, [], False))
        return parts

    def _rng(self, slot: int, life: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 4, slot, life])

    def _figure(
        self, outlines: list[Outline], where: Placement, camera: Camera, distance: float, slot: int, label: int
    ) -> Figure | None:
        vx = where.speed * math.sin(where.heading)
        vz = where.speed * math.cos(where.heading) - self.world.drive_speed
        across = vx * math.cos(camera.yaw) - vz * math.sin(camera.yaw)
        smear = min(abs(across) * camera.focal / max(distance, 1.0) * self.shutter, 0.03 * camera.width)
        figure = rasterise(outlines, camera.width, camera.height, smear)
        if figure is not None:
            _add_grain(figure, slot, label)
        return figure

    def _drawn(
        self,
        label: int,
        slot: int,
        where: Placement,
        camera: Camera,
        figure: Figure | None,
        distance: float,
        lights: list[Light],
        running: bool,
    ) -> Drawn | None:
        if figure is None:
            return None
        shadow = self._shadow(label, where, camera)
        heat = 2.5 if running else 0.0
        track = self._track(slot, where.life)
        return Drawn(label, track, figure, distance, (where.x, where.z), lights, shadow, heat)

    def _shadow(self, label: int, where: Placement, camera: Camera) -> NDArray[Any] | None:
        """The patch of ground darkened by an object, in pixels."""
        half = {PERSON: (0.3, 0.3), CAR: (1.05, 2.35), BICYCLE: (0.2, 0.8)}[label]
        sine, cosine = math.sin(where.heading), math.cos(where.heading)
        ring = _RING * half
        middle = np.array([where.x, where.z])
        ground = middle + ring @ np.array([[cosine, -sine], [sine, cosine]])
        sx, sy, sz = self.world.sun
        if self.world.sunny:  # a long shadow: the hull of the foot and of what the top casts
            height, narrow, foot = {PERSON: (1.6, 0.5, 0.6), CAR: (1.3, 0.7, 0.9), BICYCLE: (0.9, 0.7, 0.9)}[label]
            top = middle + (ground - middle) * narrow - np.array([sx, sz]) * (height / sy)
            base = middle + (ground - middle) * foot
            ground = cv2.convexHull(np.concatenate([base, top]).astype(np.float32))[:, 0]
        points = camera.project_polygon(np.column_stack([ground[:, 0], np.zeros(len(ground)), ground[:, 1]]))
        return points if len(points) > 2 else None


def _trim(looks: dict[tuple[int, int], Any]) -> None:
    """Looks can be drawn again at any time, so a long run may forget them."""
    if len(looks) > _LOOKS_KEPT:
        looks.clear()


def _add_grain(figure: Figure, slot: int, label: int) -> None:
    """Break up the flat surfaces of a large figure: folds in cloth, uneven reflections on paint."""
    h, w = figure.coverage.shape
    if h < 30:
        return
    tile = noise_tile((slot + 1) % NOISE_KINDS, 1.4)
    cells = 40 if label == PERSON else 60
    oy, ox = (slot * 37) % 400, (slot * 61) % 400
    piece = tile[oy : oy + cells, ox : ox + max(int(cells * w / h), 4)]
    grain = cv2.resize(piece, (w, h), interpolation=cv2.INTER_LINEAR)
    colour, warmth = (0.1, 0.02) if label == PERSON else (0.05, 0.012)
    gain = cv2.merge([grain * np.float32(weight) for weight in (colour, colour, colour, warmth)])
    gain += 1
    gain *= figure.paint
    figure.paint = np.minimum(gain, 255, out=gain).astype(np.uint8)
