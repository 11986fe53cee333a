"""The street: where everything stands and how everything moves, drawn from the seed alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from mmkd_train.data.synthetic.camera import Camera
from mmkd_train.data.synthetic.options import BICYCLE, CAR, PERSON, SceneOptions
from mmkd_train.data.synthetic.person import Pose

Colour = tuple[float, float, float]

PERIOD = 240.0  # metres after which the street repeats, so that a driving camera never runs out of it
AHEAD, BEHIND = 150.0, 15.0  # metres around the camera in which things exist
REFERENCE_SECONDS = 8.0  # things are placed so that they are in view at some moment before this


@dataclass(frozen=True)
class Building:
    """A box with windows along the road; side is -1 left, 1 right."""

    side: int
    z0: float
    z1: float
    setback: float
    height: float
    wall: Colour
    glass_shade: float
    bay: float
    floor: float
    window: tuple[float, float]
    lit: float
    shop: bool
    warmth: float
    key: int


@dataclass(frozen=True)
class Prop:
    """Anything slim that stands at one place."""

    kind: Literal["tree", "lamp", "sign", "bollard", "hedge", "signal"]
    x: float
    z: float
    height: float
    key: int
    colour: Colour = (0.1, 0.1, 0.1)
    length: float = 0.0


@dataclass(frozen=True)
class Actor:
    """Something annotated, moving or not.

    A path is a polyline of (x, z) run at constant speed, from ``start`` metres on; at its end the actor starts a new life, as a new
    object with a new track id and a new look. ``running`` tells a car whose engine and lamps are on.
    """

    label: int
    pose: Pose
    path: tuple[tuple[float, float], ...]
    speed: float
    start: float
    sway: float
    key: int
    rider: bool = False
    running: bool = False


@dataclass(frozen=True)
class World:
    """A street at one time of one day."""

    time: Literal["day", "dusk", "night"]
    sunny: bool
    air: float
    sun: tuple[float, float, float]
    road_half: float
    lane: float
    parking: bool
    pavement: float
    verge: float
    wet: float
    crossing: float
    lamp_colour: Colour
    lamp_power: float
    own_lights: bool
    asphalt: float
    grass: Colour
    skyline: int
    camera: Camera
    yaw_swing: float
    drive_speed: float
    buildings: tuple[Building, ...]
    props: tuple[Prop, ...]
    actors: tuple[Actor, ...] = field(default=())


_WALLS: tuple[Colour, ...] = (
    (0.45, 0.42, 0.38), (0.3, 0.17, 0.12), (0.5, 0.48, 0.46), (0.25, 0.24, 0.23), (0.55, 0.48, 0.36), (0.36, 0.3, 0.25), (0.16, 0.17, 0.19),
)  # fmt: skip
_LAMPS: tuple[Colour, ...] = ((1.0, 0.62, 0.22), (1.0, 0.85, 0.62), (0.8, 0.95, 0.85), (1.0, 0.72, 0.35))


def _camera(rng: np.random.Generator, options: SceneOptions, road_half: float, lane: float, pavement: float) -> tuple[Camera, bool]:
    view = options.view
    if options.camera == "drive":
        view = "vehicle"
    elif view == "random":
        view = ("vehicle", "roadside", "surveillance")[int(rng.choice(3, p=(0.4, 0.35, 0.25)))]
    focal = options.width * float(rng.uniform(0.8, 1.15))
    degree = math.pi / 180
    side = 1 if rng.uniform() < 0.65 else -1
    if view == "vehicle":
        x, height = lane / 2 + rng.normal(0, 0.2), rng.uniform(1.2, 1.7)
        yaw, pitch = rng.normal(0, 2.0), rng.uniform(-1.0, 4.0)
    elif view == "roadside":
        x, height = side * (road_half + rng.uniform(0.3, pavement - 0.4)), rng.uniform(1.2, 2.2)
        yaw = -side * (rng.uniform(8, 30) if rng.uniform() < 0.8 else rng.uniform(45, 75))
        pitch = rng.uniform(0, 6)
    else:
        x, height = side * (road_half + rng.uniform(0.3, 1.5)), rng.uniform(3.5, 6.5)
        yaw, pitch = -side * rng.uniform(8, 40), rng.uniform(8, 20)
    camera = Camera(options.width, options.height, focal, (float(x), float(height), 0.0), float(yaw) * degree, float(pitch) * degree)
    return camera, view == "vehicle"


def _buildings(rng: np.random.Generator, curb: float, dark: bool) -> list[Building]:
    result = []
    for side in (-1, 1):
        built = rng.uniform(0.0, 1.0)  # a park on one side, a closed row of houses on the other
        z = -20.0
        while z < PERIOD - 20:
            length = float(rng.uniform(9, 30))
            length = min(length, PERIOD - 20 - z)
            if length < 4:
                break
            if rng.uniform() < built:
                floor = float(rng.uniform(2.9, 3.8))
                result.append(Building(
                    side=side, z0=z, z1=z + length, setback=curb + float(rng.uniform(0, 0.4) if built > 0.7 else rng.uniform(1, 6)),
                    height=floor * int(rng.integers(1, 8 if built > 0.6 else 4)) + float(rng.uniform(0.4, 1.2)),
                    wall=_WALLS[int(rng.integers(len(_WALLS)))], glass_shade=float(rng.uniform(0.6, 1.6)), bay=float(rng.uniform(2.0, 4.2)),
                    floor=floor, window=(float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.4, 0.65))),
                    lit=float(rng.uniform(0.05, 0.45)) if dark else 0.0, shop=bool(rng.uniform() < 0.35), warmth=float(rng.normal(0, 1.0)),
                    key=int(rng.integers(1 << 30)),
                ))  # fmt: skip
            z += length + (float(rng.uniform(2, 10)) if rng.uniform() < 0.35 else 0.1)
    return result


def _props(rng: np.random.Generator, road_half: float, curb: float, dark: bool, crossing: float) -> list[Prop]:
    result = []
    for side in (-1, 1):
        green = rng.uniform()
        spacing = float(rng.uniform(7, 16))
        if green > 0.3:
            for z in np.arange(-12 + rng.uniform(0, spacing), PERIOD - 12, spacing):
                if rng.uniform() < 0.85 and abs(z - crossing) > 4:
                    leaf: Colour = [(0.09, 0.16, 0.05), (0.07, 0.12, 0.04), (0.13, 0.17, 0.05), (0.22, 0.14, 0.04)][int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))]
                    offset = road_half + float(rng.uniform(0.6, 1.1)) if green < 0.75 else curb + float(rng.uniform(0.8, 3))
                    result.append(Prop("tree", side * offset, float(z + rng.uniform(-1, 1)), float(rng.uniform(4.5, 10)), int(rng.integers(1 << 30)), leaf))
        if rng.uniform() < 0.55:  # a grove behind the pavement
            for z in np.arange(-12 + rng.uniform(0, 6), PERIOD - 12, float(rng.uniform(4, 8))):
                if rng.uniform() < 0.8:
                    leaf = ((0.08, 0.14, 0.045), (0.06, 0.11, 0.04), (0.11, 0.15, 0.05))[int(rng.integers(3))]
                    offset = curb + float(rng.uniform(4, 12))
                    result.append(Prop("tree", side * offset, float(z), float(rng.uniform(6, 13)), int(rng.integers(1 << 30)), leaf))
        if rng.uniform() < 0.5:
            for z in np.arange(-10, PERIOD - 10, 12.0):
                if rng.uniform() < 0.6:
                    result.append(Prop("hedge", side * (curb + 0.3), float(z), float(rng.uniform(0.8, 1.6)), int(rng.integers(1 << 30)), (0.07, 0.11, 0.04), float(rng.uniform(6, 12))))
        pitch = float(rng.uniform(18, 30))
        first = float(rng.uniform(4, pitch))
        if rng.uniform() < 0.8 or dark:
            result += [Prop("lamp", side * (road_half + 0.45), float(z), float(rng.uniform(5.5, 8.0)), int(rng.integers(1 << 30)), (0.12, 0.12, 0.12))
                       for z in np.arange(first - pitch, PERIOD - pitch + first - 1, pitch)]  # fmt: skip
        for z in rng.uniform(5, PERIOD - 20, int(rng.integers(3, 10))):
            result.append(Prop("sign", side * (road_half + 0.4), float(z), float(rng.uniform(2.2, 2.9)), int(rng.integers(1 << 30)), (0.3, 0.3, 0.3)))
    if rng.uniform() < 0.5:
        for side in (-1, 1):
            result.append(Prop("signal", side * (road_half + 0.4), crossing - 1.5, 3.4, int(rng.integers(1 << 30)), (0.05, 0.05, 0.05)))
    return result


def build_world(options: SceneOptions) -> World:
    """Draw the street of ``options``; equal options give an equal street."""
    rng = np.random.default_rng([options.seed if options.street is None else options.street, 1])
    time = options.time_of_day
    if time == "random":
        time = ("day", "dusk", "night")[int(rng.choice(3, p=(0.45, 0.12, 0.43)))]
    dark = time != "day"
    sunny = time == "day" and bool(rng.uniform() < 0.6)
    air = float(rng.uniform(4, 27)) if time == "day" else float(rng.uniform(2, 21))
    azimuth, elevation = rng.uniform(0, 2 * math.pi), rng.uniform(0.45, 1.15)
    sun = (math.cos(elevation) * math.sin(azimuth), math.sin(elevation), math.cos(elevation) * math.cos(azimuth))
    lane = float(rng.uniform(3.0, 3.6))
    parking = bool(rng.uniform() < 0.6)
    road_half = lane + (2.2 if parking else 0.4)
    pavement = float(rng.uniform(2.4, 4.5))
    verge = float(rng.choice([0.0, rng.uniform(1, 4)]))
    curb = road_half + pavement + verge
    crossing = float(rng.uniform(10, 22))
    camera, in_vehicle = _camera(rng, options, road_half, lane, pavement)
    lamp_colour = _LAMPS[int(rng.integers(len(_LAMPS)))]
    buildings = _buildings(rng, curb, dark)
    props = _props(rng, road_half, curb, dark, crossing)
    world = World(
        time=time, sunny=sunny, air=air, sun=sun, road_half=road_half, lane=lane, parking=parking, pavement=pavement, verge=verge,
        wet=float(rng.choice([0.0, 0.6], p=(0.85, 0.15))), crossing=crossing, lamp_colour=lamp_colour, lamp_power=float(rng.uniform(0.5, 1.4)),
        own_lights=in_vehicle and dark, asphalt=float(rng.uniform(0.07, 0.2)), grass=(0.1, 0.14, 0.05) if rng.uniform() < 0.6 else (0.22, 0.2, 0.12),
        skyline=int(rng.integers(1 << 30)), camera=camera,
        yaw_swing=float(rng.uniform(3, 6)) * math.pi / 180 if options.camera == "pan" else 0.0,
        drive_speed=float(rng.uniform(5, 11)) if options.camera == "drive" else 0.0,
        buildings=tuple(buildings), props=tuple(props),
    )  # fmt: skip
    return with_actors(world, options)


def _in_view(camera: Camera, x: float, z: float, near: float, far: float, margin: float) -> bool:
    """Whether a point 0.9 m above ground is in the picture; ``margin`` is the share of the width kept free on either side."""
    dx, dy, dz = x - camera.position[0], 0.9 - camera.position[1], z - camera.position[2]
    sy, cy, sp, cp = math.sin(camera.yaw), math.cos(camera.yaw), math.sin(camera.pitch), math.cos(camera.pitch)
    ahead = sy * dx + cy * dz
    right, forward, down = cy * dx - sy * dz, ahead * cp - dy * sp, -ahead * sp - dy * cp
    return near < forward < far and abs(right) * camera.focal < (0.5 - margin) * camera.width * forward and down * camera.focal < camera.height / 2 * forward


def with_actors(world: World, options: SceneOptions) -> World:
    """The same street with the people, cars and bicycles of ``options``."""
    rng = np.random.default_rng([options.seed, 2])
    camera = world.camera
    counts = (
        int(rng.integers(2, 13)) if options.people is None else options.people,
        int(rng.integers(1, 12)) if options.cars is None else options.cars,
        int(rng.choice([0, 1, 2, 3], p=(0.35, 0.3, 0.2, 0.15))) if options.bicycles is None else options.bicycles,
    )
    actors: list[Actor] = []
    walk_side = world.road_half + world.pavement / 2

    def visible(make: object, near: float, far: float) -> tuple[float, float]:
        """A place from ``make`` that is in view, or the last try."""
        x, z = 0.0, 10.0
        for attempt in range(24):
            x, z = make()
            if _in_view(camera, x, z, near, far, 0.05) and (attempt > 12 or _free(actors, x, z)):
                break
        return x, z

    def depth_draw(near: float, far: float) -> float:
        return float(np.exp(rng.uniform(math.log(near), math.log(far))))

    def clear_of_camera(x: float) -> float:
        gap = x - camera.position[0]
        return x if abs(gap) > 1.1 else camera.position[0] + math.copysign(1.1, gap)

    groups = counts[PERSON]
    while groups > 0:
        manner = rng.choice(3, p=(0.45, 0.32, 0.23))
        members = int(min(groups, rng.choice([1, 2, 3], p=(0.6, 0.3, 0.1))))
        groups -= members
        moment = float(rng.uniform(0, REFERENCE_SECONDS))
        if manner == 0:  # along a pavement
            x, z = visible(lambda: (float(rng.choice([-1, 1])) * (walk_side + rng.uniform(-0.7, 0.7)), depth_draw(5, 45)), 4, 60)
            direction, speed = int(rng.choice([-1, 1])), float(rng.uniform(0.9, 1.6))
            for m in range(members):
                own = clear_of_camera(x + m * 0.62)
                actors.append(_along(PERSON, "walk", own, z + float(rng.normal(0, 0.15)), direction, speed, moment, 0.05, len(actors)))
        elif manner == 1:  # across the road, from pavement to pavement
            zc = world.crossing + float(rng.uniform(-1.6, 1.6)) if rng.uniform() < 0.6 else depth_draw(6, 35)
            x, zc = visible(lambda zc=zc: (rng.uniform(-1, 1) * world.road_half, zc if rng.uniform() < 0.5 else depth_draw(6, 35)), 4.5, 50)
            speed, side = float(rng.uniform(1.0, 1.7)), int(rng.choice([-1, 1]))
            for m in range(members):
                far_a, far_b = float(rng.choice([-1, 1])) * 110, float(rng.choice([-1, 1])) * 110
                zm = zc + m * 0.7
                kerb = clear_of_camera(side * walk_side), clear_of_camera(-side * walk_side)
                path = ((kerb[0], far_a), (kerb[0], zm), (kerb[1], zm), (kerb[1], far_b))
                reached = abs(far_a - zm) + abs(x - kerb[0])
                actors.append(Actor(PERSON, "walk", path, speed, reached - speed * moment + float(rng.normal(0, 0.2)), 0.05, len(actors)))
        else:  # standing about
            x, z = visible(lambda: (float(rng.choice([-1, 1])) * (walk_side + rng.uniform(-0.9, 0.6)), depth_draw(5, 40)), 4, 50)
            for m in range(members):
                angle = 2 * math.pi * m / max(members, 1) + 0.6
                px, pz = x + 0.55 * math.sin(angle) * (members > 1), z + 0.55 * math.cos(angle) * (members > 1)
                facing = (px, pz), (px - math.sin(angle), pz - math.cos(angle)) if members > 1 else (px - x, pz - 1)
                pose: Pose = "phone" if rng.uniform() < 0.4 else "stand"
                actors.append(Actor(PERSON, pose, facing, 0.0, 0.0, 0.0, len(actors)))
    traffic_moment = float(rng.uniform(0, REFERENCE_SECONDS))
    lane_speed = {-1: float(rng.uniform(5, 13)), 1: float(rng.uniform(5, 13))}
    in_lane = abs(camera.position[0] - world.lane / 2) < 1.5
    if in_lane:  # nothing may overtake through the camera: cars ahead go as fast as it does, or wait
        lane_speed[1] = world.drive_speed
    queues: dict[int, list[float]] = {-1: [], 1: []}
    for _ in range(counts[CAR]):
        if world.parking and rng.uniform() < 0.45:
            slot = world.road_half - 1.05

            def place() -> tuple[float, float]:
                return float(rng.choice([-1, 1])) * (slot + rng.uniform(-0.1, 0.1)), float(rng.uniform(5, 60))

            x, z = visible(place, 6.5, 70)
            direction = 1 if x > 0 else -1
            actors.append(Actor(CAR, "stand", ((x, z), (x + rng.normal(0, 0.02), z + direction)), 0.0, 0.0, 0.0, len(actors)))
        else:
            direction = int(rng.choice([-1, 1]))
            x, z = float(direction * world.lane / 2 + rng.normal(0, 0.15)), 30.0
            for _ in range(24):  # cars of a lane keep their gaps, since they all drive equally fast
                z = depth_draw(8, 100)
                if all(abs(z - other) > 9 for other in queues[direction]) and _in_view(camera, x, z, 6, 110, 0.05):
                    break
            queues[direction].append(z)
            if lane_speed[direction] > 0:
                actors.append(_along(CAR, "walk", x, z, direction, lane_speed[direction], traffic_moment, 0.0, len(actors), running=True))
            else:
                actors.append(Actor(CAR, "stand", ((x, z), (x, z + direction)), 0.0, 0.0, 0.0, len(actors), running=True))
    for _ in range(counts[BICYCLE]):
        moment = float(rng.uniform(0, REFERENCE_SECONDS))
        if rng.uniform() < 0.3:
            x, z = visible(lambda: (float(rng.choice([-1, 1])) * (world.road_half + rng.uniform(0.5, 0.9)), depth_draw(6, 30)), 5, 35)
            turn = float(rng.uniform(-0.5, 0.5)) + (0 if rng.uniform() < 0.5 else math.pi / 2)
            actors.append(Actor(BICYCLE, "stand", ((x, z), (x + math.sin(turn), z + math.cos(turn))), 0.0, 0.0, 0.0, len(actors)))
        elif rng.uniform() < 0.25:
            side = int(rng.choice([-1, 1]))
            x, z = visible(lambda: (rng.uniform(-1, 1) * world.road_half, depth_draw(8, 30)), 5, 40)
            reach = side * (walk_side + 40)
            actors.append(Actor(BICYCLE, "ride", ((reach, z), (-reach, z)), 3.2, abs(reach - x) - 3.2 * moment, 0.0, len(actors), True))
        else:
            direction = int(rng.choice([-1, 1]))
            x, z = visible(lambda d=direction: (d * (world.road_half - 0.7 if not world.parking else world.lane - 0.5), depth_draw(7, 40)), 5, 50)
            actors.append(_along(BICYCLE, "ride", clear_of_camera(x), z, direction, float(rng.uniform(3, 6)), moment, 0.0, len(actors), True))
    return replace(world, actors=tuple(actors))


def _free(actors: list[Actor], x: float, z: float) -> bool:
    """Whether nothing that stands still is already there."""
    return all(actor.speed > 0 or (actor.path[0][0] - x) ** 2 + (actor.path[0][1] - z) ** 2 > 25.0 for actor in actors)


def _along(
    label: int, pose: Pose, x: float, z: float, direction: int, speed: float, moment: float, sway: float, key: int, rider: bool = False,
    running: bool = False,
) -> Actor:  # fmt: skip
    """On a straight line along the road, at z at the given moment."""
    ends = ((x, -BEHIND), (x, AHEAD)) if direction > 0 else ((x, AHEAD), (x, -BEHIND))
    return Actor(label, pose, ends, speed, abs(z - ends[0][1]) - speed * moment, sway, key, rider, running)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an actor is at one instant: ground point in metres, heading in radians, metres walked, and which life this is."""

    x: float
    z: float
    heading: float
    walked: float
    life: int
    speed: float


def place(actor: Actor, seconds: float, camera_z: float, camera_speed: float) -> Placement:
    """Where ``actor`` is ``seconds`` after the start, for a camera that has driven to ``camera_z``.

    Things that move along the road are kept in a window around the camera and start a new life when they leave it; things that
    stand or cross belong to a stretch of road, which is used again once the camera has passed it.
    """
    span = AHEAD + BEHIND
    (xa, za), (xb, zb) = actor.path[0], actor.path[-1]
    straight = len(actor.path) == 2 and abs(zb - za) > 100
    if straight:
        direction = 1 if zb > za else -1
        relative = za + direction * actor.start + BEHIND + (direction * actor.speed - camera_speed) * seconds
        life = math.floor(relative / span)
        z = camera_z + relative - life * span - BEHIND
        walked = actor.start + actor.speed * seconds
        return Placement(xa + actor.sway * math.sin(walked), z, 0.0 if direction > 0 else math.pi, walked, abs(2 * life) - (life > 0), actor.speed)
    anchor = sum(z for _, z in actor.path[1:-1]) / (len(actor.path) - 2) if len(actor.path) > 2 else za
    laps = max(math.floor((camera_z - anchor - BEHIND) / span) + 1, 0)
    if actor.speed == 0:
        return Placement(xa, za + laps * span, math.atan2(xb - xa, zb - za), 0.0, laps, 0.0)
    lengths = [math.dist(a, b) for a, b in zip(actor.path, actor.path[1:], strict=False)]
    total = sum(lengths)
    since = seconds
    if laps and camera_speed > 0:
        since = seconds - ((laps - 1) * span + anchor + BEHIND) / camera_speed
        since -= 0.3 * AHEAD / camera_speed
    walked = actor.start + actor.speed * since
    loops = 0 if laps else math.floor(walked / total)
    along = walked % total
    x, z = _point(actor.path, lengths, along)
    ahead, behind = _point(actor.path, lengths, along + 0.35), _point(actor.path, lengths, along - 0.35)
    heading = math.atan2(ahead[0] - behind[0], ahead[1] - behind[1])
    side = actor.sway * math.sin(walked)
    life = abs(2 * loops) - (loops > 0) if not laps else 1000 + laps
    return Placement(x + side * math.cos(heading), z + laps * span - side * math.sin(heading), heading, walked, life, actor.speed)


def _point(path: tuple[tuple[float, float], ...], lengths: list[float], along: float) -> tuple[float, float]:
    for (xa, za), (xb, zb), length in zip(path, path[1:], lengths, strict=False):
        if along <= length:
            share = along / length
            return xa + (xb - xa) * share, za + (zb - za) * share
        along -= length
    (xa, za), (xb, zb) = path[-2], path[-1]
    return xb + (xb - xa) / lengths[-1] * along, zb + (zb - za) / lengths[-1] * along
