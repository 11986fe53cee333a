"""Who is in the street: places people, cars and bicycles so that they come into view."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mmkd_train.data.synthetic.camera import Camera
from mmkd_train.data.synthetic.motion import AHEAD, BEHIND, Actor, Pose
from mmkd_train.data.synthetic.options import BICYCLE, CAR, PERSON, SceneOptions
from mmkd_train.data.synthetic.world import World

REFERENCE_SECONDS = 8.0  # an actor is placed so that it is in view at some moment before this
TRIES = 24
CAR_GAP = 9.0  # metres from centre to centre in a lane
CLEARANCE = 1.1  # metres at which people pass by the camera


def populate(world: World, options: SceneOptions) -> World:
    """The same street with the people, cars and bicycles of ``options``."""
    traffic = _Traffic(world, options)
    people = int(traffic.rng.integers(2, 13)) if options.people is None else options.people
    cars = int(traffic.rng.integers(1, 12)) if options.cars is None else options.cars
    drawn = int(traffic.rng.choice([0, 1, 2, 3], p=(0.35, 0.3, 0.2, 0.15)))
    bicycles = drawn if options.bicycles is None else options.bicycles
    while people > 0:
        people -= traffic.add_group(people)
    for _ in range(cars):
        traffic.add_car()
    for _ in range(bicycles):
        traffic.add_bicycle()
    return replace(world, actors=tuple(traffic.actors))


def in_view(camera: Camera, x: float, z: float, near: float, far: float, margin: float = 0.05) -> bool:
    """Whether a point 0.9 m above ground is in the picture, ``margin`` widths away from either side."""
    dx, dy, dz = x - camera.position[0], 0.9 - camera.position[1], z - camera.position[2]
    sy, cy, sp, cp = math.sin(camera.yaw), math.cos(camera.yaw), math.sin(camera.pitch), math.cos(camera.pitch)
    ahead = sy * dx + cy * dz
    right, forward, down = cy * dx - sy * dz, ahead * cp - dy * sp, -ahead * sp - dy * cp
    if not near < forward < far:
        return False
    half_width, half_height = (0.5 - margin) * camera.width / camera.focal, 0.5 * camera.height / camera.focal
    return abs(right) < half_width * forward and down < half_height * forward


class _Traffic:
    def __init__(self, world: World, options: SceneOptions) -> None:
        self.world, self.camera = world, world.camera
        self.rng = np.random.default_rng([options.seed, 2])
        self.actors: list[Actor] = []
        self.walk_side = world.road_half + world.pavement / 2
        self.moment = self._moment()
        self.speeds = {-1: float(self.rng.uniform(5, 13)), 1: float(self.rng.uniform(5, 13))}
        self.in_lane = abs(self.camera.position[0] - world.lane / 2) < 1.5
        if self.in_lane:  # nothing may overtake through the camera: cars ahead go as fast as it does, or wait
            self.speeds[1] = world.drive_speed
        self.queues: dict[int, list[float]] = {-1: [], 1: []}

    # -- draws

    def _moment(self) -> float:
        return float(self.rng.uniform(0, REFERENCE_SECONDS))

    def _side(self) -> int:
        return int(self.rng.choice([-1, 1]))

    def _far(self, near: float, far: float) -> float:
        """A distance; as likely between 10 and 20 m as between 20 and 40 m."""
        return math.exp(self.rng.uniform(math.log(near), math.log(far)))

    def _visible(self, draw: Callable[[], tuple[float, float]], near: float, far: float) -> tuple[float, float]:
        """A place from ``draw`` that is in view, and free if one is found soon; the last try if none is."""
        x, z = draw()
        for attempt in range(TRIES):
            if in_view(self.camera, x, z, near, far) and (attempt > TRIES // 2 or self._free(x, z)):
                break
            x, z = draw()
        return x, z

    def _free(self, x: float, z: float) -> bool:
        """Whether nothing that stands still is already there."""
        standing = (actor.path[0] for actor in self.actors if actor.speed == 0)
        return all((px - x) ** 2 + (pz - z) ** 2 > 25.0 for px, pz in standing)

    def _clear(self, x: float) -> float:
        """The same line along the road, moved aside where it would run into the camera."""
        gap = x - self.camera.position[0]
        return x if abs(gap) > CLEARANCE else self.camera.position[0] + math.copysign(CLEARANCE, gap)

    def _along(
        self,
        label: int,
        pose: Pose,
        place: tuple[float, float],
        direction: int,
        speed: float,
        moment: float,
        sway: float = 0.0,
    ) -> None:
        """Add something on a straight line along the road that is at ``place`` at the given moment."""
        x, z = place
        path = ((x, -BEHIND), (x, AHEAD)) if direction > 0 else ((x, AHEAD), (x, -BEHIND))
        start = abs(z - path[0][1]) - speed * moment
        self.actors.append(Actor(label, pose, path, speed, start, sway, rider=label == BICYCLE, running=label == CAR))

    # -- people

    def add_group(self, most: int) -> int:
        """Add one to three people who stay together, at most ``most``; returns how many."""
        manner = int(self.rng.choice(3, p=(0.45, 0.32, 0.23)))
        members = int(min(most, self.rng.choice([1, 2, 3], p=(0.6, 0.3, 0.1))))
        (self._walkers, self._crossers, self._standers)[manner](members)
        return members

    def _walkers(self, members: int) -> None:
        """Along a pavement."""
        rng, moment = self.rng, self._moment()
        x, z = self._visible(
            lambda: (self._side() * (self.walk_side + rng.uniform(-0.7, 0.7)), self._far(5, 45)), 4, 60
        )
        direction, speed = self._side(), float(rng.uniform(0.9, 1.6))
        for m in range(members):
            place = self._clear(x + m * 0.62), z + float(rng.normal(0, 0.15))
            self._along(PERSON, "walk", place, direction, speed, moment, sway=0.05)

    def _crossers(self, members: int) -> None:
        """From one pavement over the road to the other, often at the crossing."""
        rng, moment = self.rng, self._moment()
        at_crossing = self.world.crossing + float(rng.uniform(-1.6, 1.6))

        def draw() -> tuple[float, float]:
            x = float(rng.uniform(-1, 1)) * self.world.road_half
            return x, at_crossing if rng.uniform() < 0.65 else self._far(6, 35)

        x, z = self._visible(draw, 4.5, 50)
        speed, side = float(rng.uniform(1.0, 1.7)), self._side()
        first, last = self._clear(side * self.walk_side), self._clear(-side * self.walk_side)
        for m in range(members):
            row = z + m * 0.7
            origin, goal = 110.0 * self._side(), 110.0 * self._side()
            path = ((first, origin), (first, row), (last, row), (last, goal))
            start = abs(origin - row) + abs(x - first) - speed * moment + float(rng.normal(0, 0.2))
            self.actors.append(Actor(PERSON, "walk", path, speed, start, 0.05))

    def _standers(self, members: int) -> None:
        """Standing about on a pavement, a group face to face."""
        rng = self.rng
        x, z = self._visible(
            lambda: (self._side() * (self.walk_side + rng.uniform(-0.9, 0.6)), self._far(5, 40)), 4, 50
        )
        for m in range(members):
            angle = 2 * math.pi * m / members + 0.6
            dx, dz = math.sin(angle), math.cos(angle)
            place = (x + 0.55 * dx, z + 0.55 * dz) if members > 1 else (x, z)
            toward = (place[0] - dx, place[1] - dz) if members > 1 else (0.0, z - 1)
            pose: Pose = "phone" if rng.uniform() < 0.4 else "stand"
            self.actors.append(Actor(PERSON, pose, (place, toward), 0.0, 0.0, 0.0))

    # -- cars and bicycles

    def add_car(self) -> None:
        """Add a parked car, or one in the traffic of its lane."""
        rng, world = self.rng, self.world
        if world.parking and rng.uniform() < 0.45:
            edge = world.road_half - 1.05
            x, z = self._visible(lambda: (self._side() * (edge + rng.uniform(-0.1, 0.1)), rng.uniform(5, 60)), 6.5, 70)
            self.actors.append(
                Actor(CAR, "stand", ((x, z), (x + rng.normal(0, 0.02), z + math.copysign(1, x))), 0.0, 0.0, 0.0)
            )
            return
        direction = self._side()
        x, z = float(direction * world.lane / 2 + rng.normal(0, 0.15)), 30.0
        nearest = 13.0 if self.in_lane and direction > 0 else 8.0
        for _ in range(TRIES):  # the cars of a lane keep their gaps, since they all drive equally fast
            z = self._far(nearest, 100)
            if all(abs(z - other) > CAR_GAP for other in self.queues[direction]) and in_view(self.camera, x, z, 6, 110):
                break
        self.queues[direction].append(z)
        if self.speeds[direction] > 0:
            self._along(CAR, "walk", (x, z), direction, self.speeds[direction], self.moment)
        else:
            self.actors.append(Actor(CAR, "stand", ((x, z), (x, z + direction)), 0.0, 0.0, 0.0, running=True))

    def add_bicycle(self) -> None:
        """Add a parked bicycle, a rider crossing the road, or a rider along the road."""
        rng, world, moment = self.rng, self.world, self._moment()
        manner = rng.uniform()
        if manner < 0.3:
            edge = world.road_half + 0.7
            x, z = self._visible(lambda: (self._side() * (edge + rng.uniform(-0.2, 0.2)), self._far(6, 30)), 5, 35)
            turn = float(rng.uniform(-0.5, 0.5)) + (0 if rng.uniform() < 0.5 else math.pi / 2)
            self.actors.append(
                Actor(BICYCLE, "stand", ((x, z), (x + math.sin(turn), z + math.cos(turn))), 0.0, 0.0, 0.0)
            )
        elif manner < 0.48:
            x, z = self._visible(lambda: (rng.uniform(-1, 1) * world.road_half, self._far(8, 30)), 5, 40)
            reach, speed = self._side() * (self.walk_side + 40), 3.2
            path = ((reach, z), (-reach, z))
            self.actors.append(Actor(BICYCLE, "ride", path, speed, abs(reach - x) - speed * moment, 0.0, rider=True))
        else:
            direction = self._side()
            edge = world.lane - 0.5 if world.parking else world.road_half - 0.7
            x, z = self._visible(lambda: (direction * edge, self._far(7, 40)), 5, 50)
            self._along(BICYCLE, "ride", (self._clear(x), z), direction, float(rng.uniform(3, 6)), moment)
