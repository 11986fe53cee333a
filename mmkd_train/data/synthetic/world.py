"""The street: where everything that stays in place stands, drawn from the seed alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mmkd_train.data.synthetic.camera import Camera
from mmkd_train.data.synthetic.motion import Actor
from mmkd_train.data.synthetic.options import SceneOptions

Colour = tuple[float, float, float]
Time = Literal["day", "dusk", "night"]

PERIOD = 240.0  # metres after which the street repeats, so that a driving camera never runs out of it


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

    kind: Literal["tree", "lamp", "sign", "hedge", "signal"]
    x: float
    z: float
    height: float
    key: int
    colour: Colour = (0.1, 0.1, 0.1)
    length: float = 0.0


@dataclass(frozen=True)
class World:
    """A street at one time of one day."""

    time: Time
    sunny: bool
    air: float
    sun: tuple[float, float, float]
    road_half: float
    lane: float
    parking: bool
    pavement: float
    verge: float
    wet: float  # share of the asphalt's brightness that rain has taken
    crossing: float
    lamp_colour: Colour
    lamp_power: float
    own_lights: bool
    asphalt: float
    grass: Colour
    skyline: int
    haze: float
    camera: Camera
    yaw_swing: float
    drive_speed: float
    buildings: tuple[Building, ...]
    props: tuple[Prop, ...]
    actors: tuple[Actor, ...] = field(default=())


_WALLS: tuple[Colour, ...] = (
    (0.45, 0.42, 0.38),
    (0.3, 0.17, 0.12),
    (0.5, 0.48, 0.46),
    (0.25, 0.24, 0.23),
    (0.55, 0.48, 0.36),
    (0.36, 0.3, 0.25),
    (0.16, 0.17, 0.19),
)
_LAMPS: tuple[Colour, ...] = ((1.0, 0.62, 0.22), (1.0, 0.85, 0.62), (0.8, 0.95, 0.85), (1.0, 0.72, 0.35))


def _camera(
    rng: np.random.Generator, options: SceneOptions, road_half: float, lane: float, pavement: float
) -> tuple[Camera, bool]:
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
    camera = Camera(
        options.width, options.height, focal, (float(x), float(height), 0.0), float(yaw) * degree, float(pitch) * degree
    )
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
                result.append(
                    Building(
                        side=side,
                        z0=z,
                        z1=z + length,
                        setback=curb + float(rng.uniform(0, 0.4) if built > 0.7 else rng.uniform(1, 6)),
                        height=floor * int(rng.integers(1, 8 if built > 0.6 else 4)) + float(rng.uniform(0.4, 1.2)),
                        wall=_WALLS[int(rng.integers(len(_WALLS)))],
                        glass_shade=float(rng.uniform(0.6, 1.6)),
                        bay=float(rng.uniform(2.0, 4.2)),
                        floor=floor,
                        window=(float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.4, 0.65))),
                        lit=float(rng.uniform(0.05, 0.45)) if dark else 0.0,
                        shop=bool(rng.uniform() < 0.35),
                        warmth=float(rng.normal(0, 1.0)),
                        key=int(rng.integers(1 << 30)),
                    )
                )
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
                    leaf: Colour = [(0.09, 0.16, 0.05), (0.07, 0.12, 0.04), (0.13, 0.17, 0.05), (0.22, 0.14, 0.04)][
                        int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))
                    ]
                    offset = (
                        road_half + float(rng.uniform(0.6, 1.1)) if green < 0.75 else curb + float(rng.uniform(0.8, 3))
                    )
                    result.append(
                        Prop(
                            "tree",
                            side * offset,
                            float(z + rng.uniform(-1, 1)),
                            float(rng.uniform(4.5, 10)),
                            int(rng.integers(1 << 30)),
                            leaf,
                        )
                    )
        if rng.uniform() < 0.55:  # a grove behind the pavement
            for z in np.arange(-12 + rng.uniform(0, 6), PERIOD - 12, float(rng.uniform(4, 8))):
                if rng.uniform() < 0.8:
                    leaf = ((0.08, 0.14, 0.045), (0.06, 0.11, 0.04), (0.11, 0.15, 0.05))[int(rng.integers(3))]
                    offset = curb + float(rng.uniform(4, 12))
                    result.append(
                        Prop(
                            "tree", side * offset, float(z), float(rng.uniform(6, 13)), int(rng.integers(1 << 30)), leaf
                        )
                    )
        if rng.uniform() < 0.5:
            for z in np.arange(-10, PERIOD - 10, 12.0):
                if rng.uniform() < 0.6:
                    result.append(
                        Prop(
                            "hedge",
                            side * (curb + 0.3),
                            float(z),
                            float(rng.uniform(0.8, 1.6)),
                            int(rng.integers(1 << 30)),
                            (0.07, 0.11, 0.04),
                            float(rng.uniform(6, 12)),
                        )
                    )
        pitch = float(rng.uniform(18, 30))
        first = float(rng.uniform(4, pitch))
        if rng.uniform() < 0.8 or dark:
            result += [
                Prop(
                    "lamp",
                    side * (road_half + 0.45),
                    float(z),
                    float(rng.uniform(5.5, 8.0)),
                    int(rng.integers(1 << 30)),
                    (0.12, 0.12, 0.12),
                )
                for z in np.arange(first - pitch, PERIOD - pitch + first - 1, pitch)
            ]
        for z in rng.uniform(5, PERIOD - 20, int(rng.integers(3, 10))):
            result.append(
                Prop(
                    "sign",
                    side * (road_half + 0.4),
                    float(z),
                    float(rng.uniform(2.2, 2.9)),
                    int(rng.integers(1 << 30)),
                    (0.3, 0.3, 0.3),
                )
            )
    if rng.uniform() < 0.5:
        for side in (-1, 1):
            result.append(
                Prop(
                    "signal",
                    side * (road_half + 0.4),
                    crossing - 1.5,
                    3.4,
                    int(rng.integers(1 << 30)),
                    (0.05, 0.05, 0.05),
                )
            )
    return result


def _haze(rng: np.random.Generator, time: str) -> float:
    """Extinction per metre."""
    if time == "day":
        return float(rng.uniform(0.0002, 0.0025) if rng.uniform() < 0.8 else rng.uniform(0.002, 0.007))
    return float(rng.uniform(0.0, 0.004))


def build_world(options: SceneOptions) -> World:
    """Draw the empty street of ``options``; equal options give an equal street."""
    rng = np.random.default_rng([options.seed if options.street is None else options.street, 1])
    drawn: Time = ("day", "dusk", "night")[int(rng.choice(3, p=(0.45, 0.12, 0.43)))]
    time: Time = drawn if options.time_of_day == "random" else options.time_of_day
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
        time=time,
        sunny=sunny,
        air=air,
        sun=sun,
        road_half=road_half,
        lane=lane,
        parking=parking,
        pavement=pavement,
        verge=verge,
        wet=float(rng.choice([0.0, 0.45], p=(0.85, 0.15))),
        crossing=crossing,
        lamp_colour=lamp_colour,
        lamp_power=float(rng.uniform(0.5, 1.4)),
        own_lights=in_vehicle and dark,
        asphalt=float(rng.uniform(0.07, 0.2)),
        grass=(0.1, 0.14, 0.05) if rng.uniform() < 0.6 else (0.22, 0.2, 0.12),
        skyline=int(rng.integers(1 << 30)),
        haze=_haze(rng, time),
        camera=camera,
        yaw_swing=float(rng.uniform(3, 6)) * math.pi / 180 if options.camera == "pan" else 0.0,
        drive_speed=float(rng.uniform(5, 11)) if options.camera == "drive" else 0.0,
        buildings=tuple(buildings),
        props=tuple(props),
    )
    return world
