"""Cars and bicycles: solids in metres whose faces are projected and painted back to front."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.synthetic.camera import NEAR, Camera
from mmkd_train.data.synthetic.raster import Light, Outline, Value, value

Colour = tuple[float, float, float]
CarKind = Literal["sedan", "hatch", "suv", "van", "taxi"]

_PAINTS: tuple[Colour, ...] = (
    (0.62, 0.62, 0.62), (0.4, 0.41, 0.42), (0.2, 0.2, 0.21), (0.03, 0.03, 0.035), (0.3, 0.02, 0.02), (0.03, 0.06, 0.2),
    (0.35, 0.3, 0.22), (0.03, 0.1, 0.06), (0.7, 0.7, 0.68), (0.1, 0.16, 0.22), (0.015, 0.015, 0.02),
)  # fmt: skip
_TAXI: Colour = (0.75, 0.45, 0.03)

# Side profiles from the rear end over the top to the front end: (length / L from the centre, height / H, half width /
# W).
_BODIES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "sedan": (
        (-0.49, 0.17, 0.44), (-0.5, 0.42, 0.46), (-0.485, 0.66, 0.44), (-0.34, 0.69, 0.47),
        (0.2, 0.66, 0.49), (0.44, 0.54, 0.45), (0.495, 0.43, 0.43), (0.49, 0.15, 0.42),
    ),
    "hatch": (
        (-0.49, 0.17, 0.45), (-0.5, 0.42, 0.47), (-0.475, 0.62, 0.46), (-0.42, 0.64, 0.48),
        (0.24, 0.63, 0.49), (0.45, 0.52, 0.45), (0.495, 0.42, 0.44), (0.49, 0.15, 0.43),
    ),
    "suv": (
        (-0.49, 0.2, 0.46), (-0.5, 0.42, 0.48), (-0.485, 0.6, 0.47), (-0.45, 0.62, 0.48),
        (0.22, 0.61, 0.49), (0.44, 0.55, 0.46), (0.495, 0.45, 0.45), (0.49, 0.18, 0.44),
    ),
    "van": (
        (-0.49, 0.15, 0.48), (-0.5, 0.35, 0.49), (-0.49, 0.52, 0.49), (-0.475, 0.54, 0.49),
        (0.34, 0.53, 0.49), (0.47, 0.44, 0.47), (0.495, 0.36, 0.46), (0.49, 0.13, 0.45),
    ),
}  # fmt: skip
_CABINS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "sedan": ((-0.36, 0.67, 0.46), (-0.19, 0.97, 0.37), (-0.05, 1.0, 0.37), (0.06, 0.97, 0.37), (0.24, 0.65, 0.46)),
    "hatch": ((-0.47, 0.63, 0.46), (-0.39, 0.96, 0.38), (-0.15, 1.0, 0.39), (0.08, 0.96, 0.38), (0.28, 0.62, 0.46)),
    "suv": ((-0.48, 0.61, 0.47), (-0.41, 0.97, 0.4), (-0.15, 1.0, 0.41), (0.08, 0.97, 0.4), (0.25, 0.6, 0.47)),
    "van": ((-0.49, 0.53, 0.49), (-0.47, 0.97, 0.44), (-0.1, 1.0, 0.45), (0.24, 0.97, 0.44), (0.38, 0.52, 0.48)),
}  # fmt: skip
_SIZES: dict[str, tuple[float, float, float]] = {  # length, width, height in metres
    "sedan": (4.65, 1.82, 1.46), "hatch": (4.1, 1.76, 1.5), "suv": (4.6, 1.88, 1.72), "van": (4.9, 1.95, 2.05),
    "taxi": (4.65, 1.82, 1.5),
}  # fmt: skip


@dataclass(frozen=True)
class CarLook:
    """What one car looks like; metres and degrees Celsius."""

    kind: CarKind
    length: float
    width: float
    height: float
    paint: Colour
    rim: Colour
    running: bool
    lamps: bool
    paint_celsius: float
    hood_celsius: float
    glass_celsius: float
    wheel_celsius: float
    exhaust_celsius: float
    gloss: float


def car_look(rng: np.random.Generator, air: float, sunny: bool, dark: bool, moving: bool) -> CarLook:
    """Draw a look; a parked car may still be warm from its last trip."""
    kind: CarKind = ("sedan", "hatch", "suv", "van", "taxi")[int(rng.choice(5, p=(0.32, 0.25, 0.25, 0.1, 0.08)))]
    length, width, height = (v * float(rng.uniform(0.95, 1.05)) for v in _SIZES[kind])
    paint = _TAXI if kind == "taxi" else _PAINTS[int(rng.integers(len(_PAINTS)))]
    warm = 1.0 if moving else float(rng.choice([0.0, 0.5], p=(0.7, 0.3)))
    absorbed = 1.0 - 0.6 * sum(paint) / 3
    body = air + (11.0 * absorbed if sunny else 0.0) + (1.5 if moving else -0.8 if dark else 0.0)
    return CarLook(
        kind=kind,
        length=length,
        width=width,
        height=height,
        paint=paint,
        rim=(0.45, 0.45, 0.46) if rng.uniform() < 0.7 else (0.08, 0.08, 0.08),
        running=moving,
        lamps=moving and dark,
        paint_celsius=body,
        hood_celsius=body + warm * float(rng.uniform(5, 13)),
        glass_celsius=body - float(rng.uniform(3, 6)),
        wheel_celsius=air + (6 if sunny else 0) + warm * float(rng.uniform(6, 13)),
        exhaust_celsius=air + 3 + warm * float(rng.uniform(14, 26)),
        gloss=float(rng.uniform(0.5, 1.0)),
    )


class _Solid:
    """Places local metres (forward, up, left) into the picture of one camera."""

    def __init__(self, ground: tuple[float, float], heading: float, camera: Camera) -> None:
        sine, cosine = math.sin(heading), math.cos(heading)
        self.axes = np.array([[sine, 0, cosine], [0, 1, 0], [-cosine, 0, sine]])
        self.base = np.array([ground[0], 0.0, ground[1]])
        self.camera = camera
        self.eye = (camera.origin - self.base) @ self.axes.T  # the camera in local metres

    def world(self, local: NDArray[Any]) -> NDArray[Any]:
        return local @ self.axes + self.base

    def pixels(self, local: NDArray[Any]) -> NDArray[Any]:
        return self.camera.project_polygon(self.world(local))

    def outlines(self, faces: list[tuple[NDArray[Any], Value]]) -> list[Outline]:
        """Project convex faces in local metres, all in one go unless some reach behind the near plane."""
        if not faces:
            return []
        local = self.camera.to_camera(self.world(np.concatenate([corners for corners, _ in faces])))
        if local[:, 2].min() < NEAR:
            return [(self.pixels(corners), paint) for corners, paint in faces]
        pixels = self.camera.to_pixels(local)
        ends = np.cumsum([len(corners) for corners, _ in faces])
        return [(part, paint) for part, (_, paint) in zip(np.split(pixels, ends[:-1]), faces, strict=True)]

    def faces_eye(self, corners: NDArray[Any], normal: NDArray[Any]) -> bool:
        return float(normal @ (self.eye - corners[0])) > 0


def _far_first(strips: list[tuple[NDArray[Any], NDArray[Any]]], eye: NDArray[Any]) -> list[int]:
    away = np.array([corners for corners, _ in strips]).mean(1) - eye
    return list(np.argsort(-(away**2).sum(1)))


def _inset(corners: NDArray[Any], amount: float) -> NDArray[Any]:
    centre = corners.mean(0)
    return centre + (corners - centre) * (1 - amount)


_WHEEL = np.linspace(0, 2 * math.pi, 18, endpoint=False)


def car_outlines(
    look: CarLook, ground: tuple[float, float], heading: float, camera: Camera, sun: NDArray[Any], sky: float
) -> tuple[list[Outline], list[Light]]:
    """Outlines of a car, far parts first, and its lamps.

    Args:
        ground: x and z in metres of the centre.
        heading: radians from the road's direction.
        sun: unit vector towards the main light, world axes.
        sky: how much brighter faces turned up are than the others: 0 at night to 1 under an open sky.
    """
    kind = "sedan" if look.kind == "taxi" else look.kind
    size = np.array([look.length, look.height, look.width])
    solid = _Solid(ground, heading, camera)
    if (camera.to_camera(solid.base[None])[0, 2]) < -look.length:
        return [], []
    body = np.array(_BODIES[kind]) * size
    cabin = np.array(_CABINS[kind]) * size
    light = (solid.axes @ sun).tolist()
    metre = camera.focal / max(float(camera.to_camera(solid.base[None])[0, 2]), 1.0)
    detailed = metre * look.height > 14  # pixels
    paint, glass = look.paint, (0.012, 0.014, 0.017)
    faces: list[tuple[NDArray[Any], Value]] = []

    def add(corners: NDArray[Any], paint4: Value) -> None:
        faces.append((corners, paint4))

    def shade(normal: NDArray[Any]) -> float:
        nx, ny, nz = normal.tolist()
        length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
        towards = max(nx * light[0] + ny * light[1] + nz * light[2], 0.0) / length
        return min(max(0.5 + 0.3 * towards + (0.1 + 0.25 * sky) * ny / length, 0.25), 1.0)

    def strip(profile: NDArray[Any], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        (xa, ya, wa), (xb, yb, wb) = profile[k], profile[k + 1]
        corners = np.array([[xa, ya, wa], [xb, yb, wb], [xb, yb, -wb], [xa, ya, -wa]])
        return corners, np.array([-(yb - ya), xb - xa, 0.0])

    # Ground contact: the dark, warm gap below the car, then the four tyres.
    sill = body[0, 1]
    radius, tread = 0.22 * look.height if kind != "van" else 0.16 * look.height, 0.21
    radius = min(max(radius, 0.3), 0.37)
    wheels_x = (-0.3 * look.length, 0.31 * look.length)
    for x, w in ((-0.46 * look.length, 0.42), (0.46 * look.length, 0.42)):
        corners = np.array(
            [
                [x, 0.17, w * look.width],
                [x, sill + 0.08, w * look.width],
                [x, sill + 0.08, -w * look.width],
                [x, 0.17, -w * look.width],
            ]
        )
        add(corners, value((0.01, 0.01, 0.01), 1.0, look.wheel_celsius - 2))
    x, top, side_z = 0.44 * look.length, sill + 0.1, 0.4 * look.width
    low = np.array([[-x, 0.12, side_z], [x, 0.12, side_z], [x, top, side_z], [-x, top, side_z]])
    for side in (1, -1):
        add(low * (1, 1, side), value((0.01, 0.01, 0.01), 1.0, look.wheel_celsius - 2))
    ring = np.column_stack([np.cos(_WHEEL), np.sin(_WHEEL), np.zeros_like(_WHEEL)]) * radius
    tyres: list[Outline] = []
    for x in wheels_x:
        for side in (1, -1):
            z = side * 0.47 * look.width
            both = np.concatenate([ring + (x, radius, z), ring + (x, radius, z - side * tread)])
            if camera.to_camera(solid.world(both))[:, 2].min() > NEAR:
                hull = cv2.convexHull(solid.pixels(both).astype(np.float32))[:, 0]
                tyres.append((hull, value((0.012, 0.012, 0.012), 1.0, look.wheel_celsius)))
    under = solid.outlines(faces)
    faces.clear()

    # Lower body: strips across the car, then the visible flank.
    flank_side = 1.0 if solid.eye[2] > 0 else -1.0
    strips = [strip(body, k) for k in range(len(body) - 1)]
    for k in _far_first(strips, solid.eye):
        corners, normal = strips[k]
        if not solid.faces_eye(corners, normal):
            continue
        front = k == 4 or (k == 5)
        celsius = look.hood_celsius if front else look.paint_celsius
        if k >= 6 or k == 0:  # the bumpers
            add(corners, value(paint, 0.75 * shade(normal), celsius + (2 if k >= 6 and look.running else 0)))
        else:
            add(corners, value(paint, shade(normal), celsius))
            if k == 4:
                add(_inset(corners, 0.25), value(paint, min(1.0, 1.15 * shade(normal)), look.hood_celsius + 2))
    side_normal = np.array([0, 0, flank_side])
    flank = body * (1, 1, flank_side)
    flank_visible = abs(solid.eye[2]) > look.width / 2
    if flank_visible:
        tone = shade(side_normal)
        add(flank, value(paint, tone * 0.8, look.paint_celsius - 0.5))
        crease = 0.62 * body[4, 1]
        upper = np.array([[p[0], max(p[1], crease), p[2] * flank_side] for p in body[1:7]])
        add(upper, value(paint, min(tone * 1.12, 1.0), look.paint_celsius + 0.3))
        front_wing = np.array(
            [[p[0], max(p[1], crease * 0.8), p[2] * flank_side] for p in body[4:7]]
            + [[0.2 * look.length, crease * 0.8, 0.47 * look.width * flank_side]]
        )
        add(front_wing, value(paint, min(tone * 1.05, 1.0), (look.hood_celsius + look.paint_celsius) / 2))

    # Cabin: roof and glass strips, then the side windows.
    strips = [strip(cabin, k) for k in range(len(cabin) - 1)]
    for k in _far_first(strips, solid.eye):
        corners, normal = strips[k]
        if not solid.faces_eye(corners, normal):
            continue
        glazed = k in (0, len(cabin) - 2) and not (k == 0 and kind == "van")
        add(
            corners, value(paint, shade(normal) * (0.9 if glazed else 1.0), look.paint_celsius + (0 if glazed else 0.5))
        )
        if glazed:
            pane = _inset(corners, 0.12)
            add(
                pane,
                value(
                    glass,
                    1.0 + 4.0 * sky * look.gloss * max(0.3, normal[1] / (np.linalg.norm(normal) + 1e-9)),
                    look.glass_celsius,
                ),
            )
            if detailed and k == len(cabin) - 2:  # a paler streak: the reflected sky
                streak = np.array([pane[0] * 0.5 + pane[1] * 0.5, pane[1], pane[2], pane[2] * 0.75 + pane[3] * 0.25])
                add(streak, value((0.05, 0.055, 0.06), 0.5 + 2.0 * sky * look.gloss, look.glass_celsius - 1))
    if flank_visible:
        side = cabin * (1, 1, flank_side)
        add(side, value(paint, shade(side_normal + (0, 0.3, 0)), look.paint_celsius))
        panes = _side_windows(cabin, flank_side, kind)
        for pane in panes:
            add(pane, value(glass, 1.0 + 3.0 * sky * look.gloss, look.glass_celsius + 0.5))
        for x in (-0.02, 0.24 if kind != "van" else 0.3) if detailed else ():  # door gaps
            rear, low_y, high_y, z = (
                x * look.length,
                0.2 * look.height,
                0.62 * look.height,
                0.49 * look.width * flank_side,
            )
            gap = np.array([[rear, low_y, z], [rear + 0.03, low_y, z], [rear + 0.03, high_y, z], [rear, high_y, z]])
            add(gap, value(paint, 0.3, look.paint_celsius - 0.5))
        for x in wheels_x:
            z = 0.475 * look.width * flank_side
            hub = ring + (x, radius, z)
            add(ring * 1.17 + (x, radius * 1.05, z), value((0.008, 0.008, 0.008), 1.0, look.wheel_celsius - 1))
            add(hub, value((0.018, 0.018, 0.018), 1.0, look.wheel_celsius + 1.5))
            if not detailed:
                continue
            add(ring * 0.62 + (x, radius, z), value(look.rim, 0.8, look.wheel_celsius + 3.5))
            add(ring * 0.2 + (x, radius, z), value(look.rim, 0.35, look.wheel_celsius + 4))

    lamps = _ends(look, body, solid, add)
    if look.kind == "taxi":
        x, y = -0.06 * look.length, look.height
        sign = np.array([[x, y, 0.3], [x, y + 0.14, 0.26], [x, y + 0.14, -0.26], [x, y, -0.3]])
        add(sign, value((0.8, 0.75, 0.5), 1.0, look.paint_celsius))
    return under + tyres + solid.outlines(faces), lamps


def _side_windows(cabin: NDArray[Any], side: float, kind: str) -> list[NDArray[Any]]:
    """The glass of one flank, split by the middle pillar."""
    height = cabin[:, 1].max()
    base, top = cabin[0, 1] + 0.04, height - 0.09
    split = 0.5 * (cabin[0, 0] + cabin[-1, 0]) - (0.02 if kind != "van" else -0.2)

    def edge(front: bool, y: float) -> float:
        (xa, ya, _), (xb, yb, _) = (cabin[-1], cabin[-2]) if front else (cabin[0], cabin[1])
        return float(xa + (xb - xa) * (y - ya) / (yb - ya))

    def across(y: float) -> float:
        wide, narrow = cabin[0, 2], cabin[2, 2]
        return float(wide + (narrow - wide) * (y - cabin[0, 1]) / (height - cabin[0, 1])) * side

    def pane(x0: float, x1: float, x2: float, x3: float) -> NDArray[Any]:
        return np.array(
            [[x0, base, across(base)], [x1, top, across(top)], [x2, top, across(top)], [x3, base, across(base)]]
        )

    front = pane(split + 0.05, split + 0.05, edge(True, top) - 0.1, edge(True, base) - 0.16)
    rear = pane(edge(False, base) + 0.22, edge(False, top) + 0.12, split - 0.05, split - 0.05)
    return [front] if kind == "van" else [rear, front]


def _ends(look: CarLook, body: NDArray[Any], solid: _Solid, add: Callable[[NDArray[Any], Value], None]) -> list[Light]:
    """Grille, plates and lamps of the end that the camera sees; returns the lamps."""
    length, width, height = look.length, look.width, look.height
    lights: list[Light] = []

    def panel(x: float, y: float, z: float, wide: float, high: float) -> NDArray[Any]:
        return np.array(
            [
                [x, y - high / 2, z - wide / 2],
                [x, y + high / 2, z - wide / 2],
                [x, y + high / 2, z + wide / 2],
                [x, y - high / 2, z + wide / 2],
            ]
        )

    warm = look.hood_celsius + (6 if look.running else 0)
    if solid.eye[0] > length * 0.4:
        x = 0.496 * length
        y = 0.5 * (body[5, 1] + body[6, 1])
        add(panel(x, 0.26 * height, 0, 0.6 * width, 0.13 * height), value((0.012, 0.012, 0.012), 1.0, warm + 3))
        add(panel(x, y - 0.02 * height, 0, 0.42 * width, 0.09 * height), value((0.03, 0.03, 0.03), 1.0, warm + 5))
        add(panel(x + 0.01, 0.31 * height, 0, 0.5, 0.11), value((0.6, 0.6, 0.55), 1.0, look.paint_celsius))
        for side in (1, -1):
            spot = np.array([x, y, side * 0.33 * width])
            add(
                panel(x, y, spot[2], 0.2 * width, 0.085 * height),
                value((0.5, 0.52, 0.55), 1.0, look.paint_celsius + (9 if look.lamps else 1)),
            )
            if look.lamps:
                lights.append(Light(solid.world(spot[None])[0], solid.axes[0], (1.0, 0.93, 0.8), 0.09, True))
    if solid.eye[0] < -length * 0.4:
        x = -0.502 * length
        y = 0.5 * (body[1, 1] + body[2, 1])
        add(
            panel(x, 0.42 * height if look.kind != "van" else 0.36 * height, 0, 0.5, 0.11),
            value((0.6, 0.6, 0.5), 1.0, look.paint_celsius),
        )
        add(
            panel(x, 0.22 * height, 0, 0.7 * width, 0.07 * height),
            value((0.02, 0.02, 0.02), 1.0, look.paint_celsius + 1),
        )
        add(panel(x, 0.2 * height, 0.28 * width, 0.1, 0.06), value((0.03, 0.03, 0.03), 1.0, look.exhaust_celsius))
        for side in (1, -1):
            spot = np.array([x, y, side * 0.365 * width])
            add(
                panel(x, y, spot[2], 0.15 * width, 0.12 * height),
                value((0.3, 0.015, 0.012), 1.0, look.paint_celsius + (3 if look.lamps else 0)),
            )
            if look.lamps:
                lights.append(Light(solid.world(spot[None])[0], -solid.axes[0], (1.0, 0.06, 0.03), 0.08, False))
    return lights


@dataclass(frozen=True)
class BicycleLook:
    """What one bicycle looks like; metres and degrees Celsius."""

    wheel: float
    base: float
    frame: Colour
    basket: bool
    step_through: bool
    celsius: float
    tyre_celsius: float


def bicycle_look(rng: np.random.Generator, air: float, sunny: bool, ridden: bool) -> BicycleLook:
    """Draw a look."""
    frames: tuple[Colour, ...] = (
        (0.03, 0.03, 0.03),
        (0.3, 0.03, 0.03),
        (0.05, 0.1, 0.3),
        (0.5, 0.5, 0.5),
        (0.1, 0.25, 0.12),
    )
    return BicycleLook(
        wheel=float(rng.uniform(0.31, 0.35)),
        base=float(rng.uniform(1.0, 1.1)),
        frame=frames[int(rng.integers(len(frames)))],
        basket=bool(rng.uniform() < 0.35),
        step_through=bool(rng.uniform() < 0.4),
        celsius=air + (4 if sunny else -0.5) + (2 if ridden else 0),
        tyre_celsius=air + (5 if sunny else 0) + (4 if ridden else 0),
    )


def bicycle_outlines(look: BicycleLook, ground: tuple[float, float], heading: float, camera: Camera) -> list[Outline]:
    """Outlines of a bicycle; empty when it is too near to the camera."""
    solid = _Solid(ground, heading, camera)
    depth = float(camera.to_camera(solid.base[None])[0, 2])
    if depth < NEAR + 1.2:
        return []
    metre = camera.focal / depth
    r, half = look.wheel, look.base / 2
    rear, front = np.array([-half, r, 0.0]), np.array([half, r, 0.0])
    crank, seat_low = np.array([-0.08, 0.28, 0.0]), np.array([-0.22, 0.78, 0.0])
    saddle, head = np.array([-0.25, 0.93, 0.0]), np.array([0.33, 0.86, 0.0])
    bar, neck = np.array([0.32, 1.02, 0.0]), np.array([0.36, 0.7, 0.0])
    rods: list[tuple[NDArray[Any], NDArray[Any], float, Value]] = []

    def rod(a: NDArray[Any], b: NDArray[Any], thick: float, paint: Value) -> None:
        rods.append((a, b, thick, paint))

    tyre = value((0.02, 0.02, 0.02), 1.0, look.tyre_celsius)
    rim = value((0.3, 0.3, 0.3), 1.0, look.tyre_celsius - 1)
    wire = value((0.12, 0.12, 0.12), 1.0, look.celsius)
    steps = 16 if metre * r > 12 else 10
    angle = np.linspace(0, 2 * math.pi, steps, endpoint=False)
    circle = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(steps)])
    for hub in (rear, front):
        if metre * r > 14:
            for k in range(0, steps, 2):
                rod(hub, hub + circle[k] * r * 0.92, 0.012, wire)
        for k in range(steps):
            rod(hub + circle[k - 1] * r, hub + circle[k] * r, 0.055, tyre)
        if metre * r > 14:
            for k in range(steps):
                rod(hub + circle[k - 1] * r * 0.88, hub + circle[k] * r * 0.88, 0.02, rim)
    paint = value(look.frame, 1.0, look.celsius)
    low_top = np.array([-0.18, 0.5, 0.0]) if look.step_through else seat_low
    tubes = [
        (rear, crank, 0.03),
        (rear, seat_low, 0.025),
        (crank, saddle, 0.035),
        (crank, neck, 0.045),
        (low_top, head, 0.04),
        (neck, front, 0.035),
        (neck, bar, 0.035),
    ]
    for a, b, thick in tubes:
        rod(a, b, thick, paint)
    dark = value((0.015, 0.015, 0.015), 1.0, look.celsius + 1)
    rod(saddle + (-0.13, 0.02, 0), saddle + (0.12, 0.02, 0), 0.075, dark)
    rod(bar + (0, 0, 0.27), bar + (0.06, 0, 0), 0.04, dark)
    rod(bar + (0, 0, -0.27), bar + (0.06, 0, 0), 0.04, dark)
    rod(saddle + (0, 0.02, 0.07), saddle + (0, 0.02, -0.07), 0.07, dark)
    starts, _ = camera.project(solid.world(np.array([r[0] for r in rods])))
    ends, _ = camera.project(solid.world(np.array([r[1] for r in rods])))
    along = ends - starts
    half_width = np.maximum(np.array([r[2] for r in rods]) * metre / 2, 0.4)
    along *= (half_width / (np.hypot(along[:, 0], along[:, 1]) + 1e-6))[:, None]
    across = np.column_stack([-along[:, 1], along[:, 0]])
    shapes = np.stack(
        [
            starts + across - along / 2,
            ends + across + along / 2,
            ends - across + along / 2,
            starts - across - along / 2,
        ],
        1,
    )
    outlines: list[Outline] = [(shape, r[3]) for shape, r in zip(shapes, rods, strict=True)]
    if look.basket:
        box = np.array(
            [
                [0.42, 0.75, 0.15],
                [0.42, 0.98, 0.17],
                [0.68, 0.98, 0.17],
                [0.68, 0.75, 0.15],
                [0.42, 0.75, -0.15],
                [0.42, 0.98, -0.17],
                [0.68, 0.98, -0.17],
                [0.68, 0.75, -0.15],
            ]
        )
        corners = solid.pixels(box)
        if len(corners) == 8:
            outlines.append(
                (cv2.convexHull(corners.astype(np.float32))[:, 0], value((0.1, 0.1, 0.1), 1.0, look.celsius))
            )
    return outlines
