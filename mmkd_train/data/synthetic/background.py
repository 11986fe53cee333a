"""The picture of the street without its actors: colour, temperature, own light, distance, and what may hide an
actor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.synthetic.camera import NEAR, Camera
from mmkd_train.data.synthetic.motion import AHEAD, BEHIND
from mmkd_train.data.synthetic.raster import SHIFT, Value, celsius_code, fixed, value
from mmkd_train.data.synthetic.textures import FOLIAGE_KINDS, NOISE_KINDS, foliage, noise_bytes, noise_tile
from mmkd_train.data.synthetic.world import PERIOD, Building, Prop, World

COARSE = 4  # light and distance are kept for every 4th pixel
SKY_DISTANCE = 1e4  # metres
Colour = tuple[float, float, float]


@dataclass(slots=True, eq=False)
class Backdrop:
    """What the camera sees of the empty street.

    Attributes:
        paint: (H, W, 4) uint8 colour and temperature codes.
        emission: (H, W, 3) float32 radiance of what shines by itself.
        occluder: (H, W) float32 metres to the nearest slim thing, infinite elsewhere.
        distance: (ceil(H/4), ceil(W/4)) float32 metres forward.
        lamps: (K, 3) world metres of the street lamps that are lit.
    """

    paint: NDArray[Any]
    emission: NDArray[Any]
    occluder: NDArray[Any]
    distance: NDArray[Any]
    lamps: NDArray[Any]


_Band = Callable[..., None]


@lru_cache(maxsize=4)
def _darkness(height: int, width: int) -> NDArray[Any]:
    """No radiance at all, to copy from."""
    return np.zeros((height, width, 3), np.float32)


class _Painter:
    def __init__(self, world: World, camera: Camera) -> None:
        self.world, self.camera = world, camera
        w, h = camera.width, camera.height
        self.paint = np.zeros((h, w, 4), np.uint8)
        self.emission = np.zeros((h, w, 3), np.float32)
        self.darkness = _darkness(h, w)
        self.occluder = np.full((h, w), np.inf, np.float32)
        self.distance = np.full((-(-h // COARSE), -(-w // COARSE)), SKY_DISTANCE, np.float32)
        self.dark = world.time != "day"
        self.lamps: list[tuple[float, float, float]] = []

    # -- helpers

    def window(self, points: NDArray[Any]) -> tuple[int, int, int, int] | None:
        low = np.floor(points.min(0)).astype(np.int64)
        high = np.ceil(points.max(0)).astype(np.int64) + 1
        x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
        x1, y1 = min(int(high[0]), self.camera.width), min(int(high[1]), self.camera.height)
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def fill(self, points: NDArray[Any], paint: Value, distance: float | None = None, occludes: bool = False) -> None:
        if len(points) < 3:
            return
        corners = fixed(points)
        cv2.fillConvexPoly(self.paint, corners, paint, cv2.LINE_AA, SHIFT)
        if distance is not None:
            cv2.fillConvexPoly(self.emission, corners, (0, 0, 0), cv2.LINE_8, SHIFT)
            cv2.fillConvexPoly(self.distance, fixed(points, 1 / COARSE), distance, cv2.LINE_8, SHIFT)
            if occludes:
                cv2.fillConvexPoly(self.occluder, corners, distance, cv2.LINE_8, SHIFT)

    # -- sky and ground

    def sky(self) -> None:
        world, camera = self.world, self.camera
        rows = int(np.clip(math.ceil(camera.horizon) + 2, 0, camera.height))
        if rows == 0:
            return
        few = -(-rows // COARSE)
        up = np.clip((camera.horizon - np.arange(few) * (rows / few)) / camera.focal, 0, 1.2).astype(np.float32)[
            :, None
        ]
        rng = np.random.default_rng([world.skyline, 1])
        if world.time == "day":
            low, high = np.array((0.95, 0.97, 1.0)), np.array((0.42, 0.58, 0.9) if world.sunny else (0.75, 0.78, 0.82))
            ramp = np.minimum(up * 1.6, 1) ** 0.7
        elif world.time == "dusk":
            low, high = np.array((0.2, 0.11, 0.06)) * rng.uniform(0.5, 1.3), np.array((0.03, 0.05, 0.1))
            ramp = np.minimum(up * 2.0, 1) ** 0.6
        else:
            glow = rng.uniform(0.3, 1.6)
            low, high = np.array(world.lamp_colour) * 0.006 * glow, np.array((0.0012, 0.0014, 0.002))
            ramp = np.minimum(up * 2.0, 1) ** 0.5
        tile = noise_tile(int(rng.integers(NOISE_KINDS)), 1.6)
        x, y = (int(v) for v in rng.integers(0, 200, 2))
        cloud = cv2.resize(
            tile[y : y + 200, x : x + 300], (self.distance.shape[1], few), interpolation=cv2.INTER_LINEAR
        )
        cover = np.float32(rng.uniform(0.1, 0.9) if world.time != "day" or world.sunny else 0.9)
        base = (low + (high - low) * ramp[..., None]).astype(np.float32)
        white = np.float32({"day": 1.15, "dusk": 0.6, "night": 1.0}[world.time]) * low.astype(np.float32)
        share = np.clip(cloud * 0.5 + cover - 0.5, 0, 1)[..., None] * np.float32(0.7)
        size = (camera.width, rows)
        cv2.resize(base + (white - base) * share, size, self.emission[:rows], interpolation=cv2.INTER_LINEAR)
        cold = world.air - (24.0 if share.mean() < 0.3 else 17.0)
        celsius = cold + 9.0 * np.exp(-up * 5) + 6.0 * share[..., 0]
        code = np.clip((celsius + 20) / 0.3, 1, 255).astype(np.float32)
        self.paint[:rows, :, 3] = cv2.resize(code, size, interpolation=cv2.INTER_LINEAR)

    def skyline(self) -> None:
        """Far houses, trees and hills above the horizon, hazy."""
        world, camera = self.world, self.camera
        rng = np.random.default_rng([world.skyline, 2])
        base = camera.horizon + 2
        if base < 1:
            return
        count = int(rng.integers(18, 40))
        edges = np.sort(rng.uniform(-20, camera.width + 20, count))
        scale = camera.focal * 0.012
        for k in range(count - 1):
            house = rng.uniform() < 0.45
            top = base - scale * float(
                rng.uniform(1.0, 9.0) if house and rng.uniform() < 0.4 else rng.uniform(1.5, 4.0)
            )
            x0, x1 = edges[k], max(edges[k + 1], edges[k] + 6) + (0 if house else rng.uniform(0, 12))
            shade = float(rng.uniform(0.1, 0.25) if house else rng.uniform(0.06, 0.1))
            colour = (shade, shade, shade * 1.05) if house else (shade * 0.8, shade, shade * 0.5)
            celsius = (
                world.air
                + float(rng.uniform(-0.5, 1.5) if house else rng.uniform(-1.2, 0.3))
                + (2 if world.sunny else 0)
            )
            if house:
                shape = np.array([[x0, base], [x0, top], [x1, top], [x1, base]])
            else:
                steps = np.linspace(0, math.pi, 9)
                middle, half = (x0 + x1) / 2, (x1 - x0) / 2 + 3
                shape = np.column_stack(
                    [
                        middle - half * np.cos(steps),
                        base - (base - top) * np.sin(steps) ** 0.6 * rng.uniform(0.9, 1.1, 9),
                    ]
                )
            self.fill(shape, value(colour, 1.0, celsius), 300.0)
            if house and self.dark:
                for _ in range(int(rng.integers(0, 6))):
                    x, y = int(rng.uniform(x0, x1)), int(rng.uniform(top, base))
                    if 0 <= x < camera.width and 0 <= y < camera.height:
                        self.emission[y, x] = np.array((1.0, 0.75, 0.4)) * rng.uniform(0.05, 0.5)
        if self.dark:  # lamps and signs far down the road
            for _ in range(int(rng.integers(4, 18))):
                x = int(camera.width / 2 + rng.normal(0, 0.3) * camera.width)
                y = int(camera.horizon - abs(rng.normal(0, 0.02)) * camera.focal)
                if 0 <= x < camera.width - 2 and 0 <= y < camera.height - 2:
                    tint = ((1.0, 0.65, 0.3), (1.0, 0.9, 0.75), (0.9, 0.1, 0.05), (0.2, 0.9, 0.5), (0.6, 0.8, 1.0))[
                        int(rng.choice(5, p=(0.4, 0.3, 0.15, 0.07, 0.08)))
                    ]
                    size = int(rng.integers(1, 3))
                    self.emission[y : y + size, x : x + size] = np.array(tint) * rng.uniform(0.3, 3.0)

    def ground(self) -> None:
        world, camera = self.world, self.camera
        top = int(np.clip(math.floor(camera.horizon) + 1, 0, camera.height))
        if top >= camera.height:
            return
        z0, z1 = camera.position[2] - 40, camera.position[2] + 400
        warm = {"day": 7.0 if world.sunny else 3.0, "dusk": 3.0, "night": 1.5}[world.time]
        tar = world.asphalt * (1 - world.wet)
        asphalt = (tar, tar, tar * 0.97)
        self.paint[top:] = value(world.grass, 1.0, world.air + warm * 0.2 - (1.0 if self.dark else 0.0))
        stone = world.asphalt * 1.5 + 0.04
        curb = world.road_half + world.pavement

        def band(x0: float, x1: float, paint: Value, za: float = z0, zb: float = z1) -> None:
            corners = np.array([[x0, 0, za], [x0, 0, zb], [x1, 0, zb], [x1, 0, za]])
            self.fill(camera.project_polygon(corners), paint)

        for side in (-1, 1):
            band(
                side * (curb + world.verge),
                side * (curb + world.verge + 40),
                value((stone * 0.9, stone * 0.85, stone * 0.8), 1, world.air + warm * 0.6),
            )
            band(
                side * world.road_half,
                side * curb,
                value((stone, stone * 0.96, stone * 0.9), 1.0, world.air + warm * 0.75),
            )
        band(-world.road_half, world.road_half, value(asphalt, 1.0, world.air + warm))
        for side in (-1, 1):
            band(side * (world.road_half - 0.5), side * world.road_half, value(asphalt, 0.85, world.air + warm * 0.9))
            band(
                side * world.road_half,
                side * (world.road_half + 0.16),
                value((stone * 1.3,) * 3, 1.0, world.air + warm * 0.55),
            )
            for tyre in (-0.75, 0.75):  # worn wheel tracks
                x = side * world.lane / 2 + tyre
                band(x - 0.25, x + 0.25, value(asphalt, 1.07, world.air + warm + 0.5))
        self._markings(band, asphalt, world.air + warm)
        self._slabs(curb)
        self._ground_detail(top)
        self._ground_distance(top)

    def _markings(self, band: _Band, asphalt: Colour, celsius: float) -> None:
        world, camera = self.world, self.camera
        rng = np.random.default_rng([world.skyline, 3])
        white, yellow = (0.55, 0.55, 0.52), (0.55, 0.4, 0.06)
        line = value(yellow if rng.uniform() < 0.4 else white, float(rng.uniform(0.6, 1.0)), celsius - 1.2)
        edge = value(white, float(rng.uniform(0.5, 0.9)), celsius - 1.2)
        camera_z = camera.position[2]
        start = math.floor((camera_z - 20) / 8) * 8.0
        if rng.uniform() < 0.7:
            for z in np.arange(start, camera_z + 130, 8.0):
                band(-0.07, 0.07, line, z, z + 4.0)
        else:
            for x in (-0.16, 0.16):
                band(x - 0.06, x + 0.06, line)
        if world.road_half > world.lane + 1 or rng.uniform() < 0.5:
            for side in (-1, 1):
                band(side * world.lane, side * (world.lane + 0.12), edge)
        for lap in (-1, 0, 1):
            base = math.floor((camera_z + 20) / PERIOD) * PERIOD + lap * PERIOD
            zc = base + world.crossing
            if not camera_z - 20 < zc < camera_z + 130:
                continue
            for x in np.arange(-world.road_half + 0.5, world.road_half - 0.6, 1.0):
                band(x, x + 0.5, value(white, 0.9, celsius - 1.4), zc - 1.7, zc + 1.7)
            for side in (-1, 1):
                stop = zc - side * 3.0
                band(0.1 * side, side * (world.lane - 0.1), value(white, 0.8, celsius - 1.4), stop - 0.2, stop + 0.2)
        for _ in range(8):  # patches, manholes
            x, z = rng.uniform(-world.road_half + 0.8, world.road_half - 0.8), rng.uniform(3, PERIOD)
            z += math.floor((camera_z + AHEAD - z) / PERIOD) * PERIOD
            if z > camera_z - 10:
                wide, long = rng.uniform(0.3, 1.2), rng.uniform(0.3, 4)
                band(
                    x - wide,
                    x + wide,
                    value(asphalt, float(rng.uniform(0.7, 1.15)), celsius + rng.normal(0, 0.4)),
                    z,
                    z + long,
                )

    def _slabs(self, curb: float) -> None:
        """Joints of the paving stones, near the camera only: further away they would flicker."""
        world, camera = self.world, self.camera
        joint = value((world.asphalt * 0.9,) * 3, 1.0, world.air + 0.5)
        near_z = camera.position[2]
        lines = []
        for side in (-1, 1):
            for x in np.arange(world.road_half + 0.8, curb, 0.8):
                lines.append(((side * x, near_z - 5), (side * x, near_z + 22)))
            for z in np.arange(math.floor(near_z / 1.2 - 4) * 1.2, near_z + 18, 1.2):
                lines.append(((side * (world.road_half + 0.2), z), (side * curb, z)))
        for (xa, za), (xb, zb) in lines:
            ends = camera.to_camera(np.array([[xa, 0, za], [xb, 0, zb]]))
            if ends[:, 2].max() < 1.0:
                continue
            a, b = ends
            if a[2] < 1.0:
                a = b + (a - b) * ((b[2] - 1.0) / (b[2] - a[2]))
            if b[2] < 1.0:
                b = a + (b - a) * ((a[2] - 1.0) / (a[2] - b[2]))
            points = fixed(camera.to_pixels(np.array([a, b])))
            cv2.line(self.paint, tuple(map(int, points[0])), tuple(map(int, points[1])), joint, 1, cv2.LINE_AA, SHIFT)

    def _ground_detail(self, top: int) -> None:
        world, camera = self.world, self.camera
        rng = np.random.default_rng([world.skyline, 4])
        size = (camera.width, camera.height - top)
        shift = np.array([[1, 0, 0], [0, 1, -top], [0, 0, 1.0]])
        rows = np.arange(top, camera.height) - camera.horizon
        per_metre = np.maximum(rows, 0.5) / camera.position[1]  # pixels that a metre across fills
        total = np.zeros(size[::-1], np.float32)
        for texels, slope, amplitude, kind in ((64.0, 0.6, 0.3, 0), (9.0, 0.9, 0.16, 1), (1.2, 1.5, 0.16, 2)):
            tile = noise_bytes(int(rng.integers(NOISE_KINDS)) + 4 * kind, slope)
            to_texel = np.array(
                [[texels, 0, float(rng.integers(512))], [0, texels, float(rng.integers(512))], [0, 0, 1]]
            )
            warp = shift @ camera.ground_to_pixel @ np.linalg.inv(to_texel)
            layer = cv2.warpPerspective(tile, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            fade = (
                np.minimum(per_metre / texels * 0.5, 1.0) ** 1.5 * amplitude
            )  # the far end of each octave is below a texel
            # Close by a texel covers many pixels and turns into a blotch.
            fade *= np.minimum(1.0, 14.0 * texels / per_metre)
            total += (layer.astype(np.float32) - 128) * fade.astype(np.float32)[:, None]
        gain = cv2.convertScaleAbs(total, alpha=1.0, beta=128)  # 128 leaves a colour as it is
        warmth = cv2.convertScaleAbs(total, alpha=0.12, beta=128)
        part = self.paint[top:]
        cv2.multiply(part, cv2.merge([gain, gain, gain, warmth]), part, scale=1 / 128)

    def _ground_distance(self, top: int) -> None:
        camera = self.camera
        first = -(-top // COARSE)
        rows = (np.arange(first, self.distance.shape[0]) + 0.5) * COARSE - camera.horizon
        # Without roll a row of the ground has one forward distance (of the tilted camera).
        slope = np.maximum(rows, 0.5) / camera.focal
        sp, cp = math.sin(camera.pitch), math.cos(camera.pitch)
        v = slope + (camera.horizon - (camera.height - 1) / 2) / camera.focal
        down = np.maximum(v * cp + sp, 1e-3)
        self.distance[first:] = np.minimum(camera.position[1] / down, 2000.0).astype(np.float32)[:, None]

    # -- buildings

    def building(self, b: Building, shift: float) -> None:
        camera = self.camera
        x = b.side * b.setback
        z0, z1 = b.z0 + shift, b.z1 + shift
        deep = x + b.side * 12.0
        faces = []
        if b.side * (x - camera.position[0]) > 0:
            faces.append(((x, z0), (x, z1)) if b.side > 0 else ((x, z1), (x, z0)))
        if camera.position[2] < z0:
            faces.append(((x, z0), (deep, z0)))
        if camera.position[2] > z1:
            faces.append(((deep, z1), (x, z1)))
        rng = np.random.default_rng([b.key, 0])
        for (xa, za), (xb, zb) in faces:
            self.facade(b, rng, np.array([xa, za]), np.array([xb, zb]), end=abs(xa - xb) > 0.1)

    def facade(self, b: Building, rng: np.random.Generator, a: NDArray[Any], c: NDArray[Any], end: bool) -> None:
        camera = self.camera
        length = float(np.hypot(*(c - a)))
        bays, floors = max(int(length / b.bay), 1), max(int(round(b.height / b.floor)), 1)
        cell = 16
        lit_draw = rng.uniform(size=(floors, bays))
        jitter = rng.uniform(0.6, 1.5, (floors, bays))
        ends = camera.to_camera(np.array([[a[0], 0, a[1]], [c[0], 0, c[1]]]))
        if ends[:, 2].max() < NEAR * 2:
            return
        u = [0.0, 1.0]
        for k, (this, other) in enumerate(((ends[0], ends[1]), (ends[1], ends[0]))):
            if this[2] < NEAR * 2:
                share = (other[2] - NEAR * 2) / (other[2] - this[2])
                u[k] = 1 - share if k == 0 else share
        ground = np.array([a + (c - a) * u[0], a + (c - a) * u[1]])
        corners3 = np.array(
            [
                [ground[0, 0], 0, ground[0, 1]],
                [ground[0, 0], b.height, ground[0, 1]],
                [ground[1, 0], b.height, ground[1, 1]],
                [ground[1, 0], 0, ground[1, 1]],
            ]
        )
        corners, depth = camera.project(corners3)
        corners = np.clip(corners, -20000, 20000)
        window = self.window(corners)
        if window is None:
            return
        x0, y0, x1, y1 = window
        texture, glow = self._facade_texture(b, bays, floors, cell, lit_draw, jitter, end)
        th, tw = texture.shape[:2]
        source = np.array([[u[0] * tw, th], [u[0] * tw, 0], [u[1] * tw, 0], [u[1] * tw, th]], np.float32) - 0.5
        warp = cv2.getPerspectiveTransform(source, (corners - (x0, y0)).astype(np.float32))
        size = (x1 - x0, y1 - y0)
        mask = np.zeros(size[::-1], np.uint8)
        cv2.fillConvexPoly(mask, fixed(corners, 1.0, (x0, y0)), 255, cv2.LINE_8, SHIFT)
        picture = cv2.warpPerspective(texture, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        cv2.copyTo(picture, mask, self.paint[y0:y1, x0:x1])
        if glow is None:
            cv2.copyTo(self.darkness[y0:y1, x0:x1], mask, self.emission[y0:y1, x0:x1])
        else:
            light = cv2.warpPerspective(glow, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            cv2.copyTo(light, mask, self.emission[y0:y1, x0:x1])
        self._plane_distance(corners, depth)

    def _facade_texture(
        self, b: Building, bays: int, floors: int, cell: int, lit: NDArray[Any], jitter: NDArray[Any], end: bool
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        world = self.world
        warm = {"day": 4.0 if world.sunny else 1.5, "dusk": 2.0, "night": 1.0}[world.time] + b.warmth
        shade = 0.75 if end else 1.0
        if world.sunny:
            normal = np.array([-b.side, 0.0]) if not end else np.array([0.0, -1.0])
            shade = 0.4 + 0.75 * max(float(normal @ (world.sun[0], world.sun[2])), 0.0)
        wall = value(b.wall, shade, world.air + warm)
        height, width = floors * cell, bays * cell
        texture = np.empty((height, width, 4), np.uint8)
        texture[:] = wall
        wide, high = max(int(cell * b.window[0]), 3), max(int(cell * b.window[1]), 3)
        left, top = (cell - wide) // 2, int(cell * 0.22)
        tiles = texture.reshape(floors, cell, bays, cell, 4)
        frame = value(b.wall, shade * 1.25, world.air + warm + 0.5)
        tiles[:, top - 1 : top + high + 1, :, left - 1 : left + wide + 1] = frame
        sky = {"day": 0.12, "dusk": 0.03, "night": 0.012}[world.time]
        glass = np.empty((floors, bays, 4), np.float32)
        glass[..., :3] = 255 * np.sqrt(np.clip(sky * b.glass_shade * jitter, 0.004, 0.6))[..., None]
        glass[..., 3] = np.clip((world.air + warm - 3.5 + 2.0 * (jitter - 1) + 20) / 0.3, 1, 255)
        tiles[:, top : top + high, :, left : left + wide] = glass.astype(np.uint8)[:, None, :, None]
        tiles[:, cell - 1, :, :] = np.array(value(b.wall, shade * 0.8, world.air + warm + 0.3), np.uint8)
        if b.shop and not end:
            base = tiles[floors - 1]
            base[2:14, :, 1:15] = np.array(value((0.08, 0.09, 0.1), b.glass_shade, world.air + warm - 1.5), np.uint8)
            base[0:2] = np.array(
                value((0.3, 0.12, 0.1) if b.key % 3 else (0.1, 0.2, 0.3), 1.0, world.air + warm + 1), np.uint8
            )
        grime = noise_bytes(b.key % NOISE_KINDS, 1.2)
        ox, oy = b.key % 97, b.key % 89
        if height + oy <= 512 and width + ox <= 512:
            noise = grime[oy : oy + height, ox : ox + width].astype(np.float32)[..., None] - 128
            texture = np.clip(texture + noise * np.array((0.18, 0.18, 0.18, 0.05), np.float32), 1, 255).astype(np.uint8)
        if not self.dark:
            return texture, None
        glow = np.zeros((floors, cell, bays, cell, 3), np.float32)
        tint = np.array((1.0, 0.72, 0.38) if b.key % 4 else (0.75, 0.9, 1.0))
        strength = np.where(lit < b.lit, 0.04 + 0.4 * jitter**3 / 3.4, 0.0) * (0.5 if world.time == "dusk" else 1.0)
        glow[:, top : top + high, :, left : left + wide] = (strength[..., None] * tint)[:, None, :, None]
        if b.shop and not end:
            glow[floors - 1] = 0
            glow[floors - 1, 2:13, :, 1:15] = (
                0.12 + 0.35 * jitter[floors - 1, None, :, None, None] * (lit[floors - 1, None, :, None, None] < 0.7)
            ) * tint
        return texture, glow.reshape(height, width, 3)

    def _plane_distance(self, corners: NDArray[Any], depth: NDArray[Any]) -> None:
        """Inverse distance is linear over the picture of a plane."""
        system = np.column_stack([corners[:3], np.ones(3)])
        try:
            coefficient = np.linalg.solve(system, 1 / np.maximum(depth[:3], NEAR))
        except np.linalg.LinAlgError:  # seen edge-on: no area to fill
            return
        window = self.window(corners)
        if window is None:
            return
        x0, y0, x1, y1 = (v // COARSE for v in window)
        mask = np.zeros((y1 - y0 + 1, x1 - x0 + 1), np.uint8)
        cv2.fillConvexPoly(mask, fixed(corners, 1 / COARSE, (x0 * COARSE, y0 * COARSE)), 1, cv2.LINE_8, SHIFT)
        part = self.distance[y0 : y1 + 1, x0 : x1 + 1]
        mask = mask[: part.shape[0], : part.shape[1]]
        columns = (np.arange(x0, x0 + part.shape[1]) + 0.5) * COARSE
        rows = (np.arange(y0, y0 + part.shape[0]) + 0.5) * COARSE
        inverse = coefficient[0] * columns + (coefficient[1] * rows)[:, None] + coefficient[2]
        np.copyto(part, (1 / np.clip(inverse, 1e-4, 2)).astype(np.float32), where=mask > 0)

    # -- slim things

    def prop(self, p: Prop, shift: float) -> None:
        z = p.z + shift
        base = self.camera.to_camera(np.array([[p.x, 0, z]]))[0]
        distance = float(base[2])
        if distance < 2.0 or (
            p.kind in ("tree", "hedge")
            and (distance < 4.5 or math.hypot(p.x - self.camera.position[0], z - self.camera.position[2]) < 5.0)
        ):
            return
        half_angle = self.camera.width / 2 / self.camera.focal
        if abs(base[0]) > distance * half_angle + 6:
            return
        getattr(self, f"_{p.kind}")(p, z, distance)

    def pole(self, x: float, z: float, y0: float, y1: float, thick: float, paint: Value, distance: float) -> None:
        ends, _ = self.camera.project(np.array([[x, y0, z], [x, y1, z]]))
        half = max(thick * self.camera.focal / distance / 2, 0.45)
        shape = np.array([ends[0] - (half, 0), ends[1] - (half, 0), ends[1] + (half, 0), ends[0] + (half, 0)])
        self.fill(shape, paint, distance, occludes=half > 0.8)

    def _tree(self, p: Prop, z: float, distance: float) -> None:
        world, camera = self.world, self.camera
        rng = np.random.default_rng([p.key, 0])
        warm = 1.5 if world.sunny else -0.5
        trunk = float(rng.uniform(0.2, 0.4))
        self.pole(p.x, z, 0, p.height * 0.6, trunk, value((0.06, 0.045, 0.035), 1.0, world.air + warm + 1.0), distance)
        mirrored = bool(rng.uniform() < 0.5)
        centre_y, half = p.height * 0.66, p.height * float(rng.uniform(0.4, 0.52))
        middle, _ = camera.project(np.array([[p.x, centre_y, z]]))
        reach = half * camera.focal / distance
        window = self.window(np.array([middle[0] - reach, middle[0] + reach]))
        if window is None:
            return
        x0, y0, x1, y1 = window
        level = int(np.clip(math.floor(math.log2(128 / max(reach, 1.0))), 0, 5))  # warpAffine does not average
        crown = foliage(p.key % FOLIAGE_KINDS, mirrored, level)
        scale = 2 * reach / crown.shape[0]
        matrix = np.array([[scale, 0, middle[0, 0] - reach - x0], [0, scale, middle[0, 1] - reach - y0]])
        leaves = cv2.warpAffine(crown, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        cover = np.where(leaves[..., 1] > 110, np.uint8(255), np.uint8(0))
        tint = np.sqrt(np.array(p.colour)) * float(rng.uniform(0.9, 1.25)) * 1.6
        offset = celsius_code(world.air + warm) - 11.0
        paint = cv2.transform(leaves, np.array([[v, 0, 0] for v in tint] + [[0.1, 0, offset]]))
        cv2.copyTo(paint, cover, self.paint[y0:y1, x0:x1])
        cv2.copyTo(self.darkness[y0:y1, x0:x1], cover, self.emission[y0:y1, x0:x1])
        self.occluder[y0:y1, x0:x1][cover > 0] = distance
        coarse = self.distance[y0 // COARSE : -(-y1 // COARSE), x0 // COARSE : -(-x1 // COARSE)]
        small_cover = cv2.resize(cover, (coarse.shape[1], coarse.shape[0]), interpolation=cv2.INTER_AREA)
        coarse[small_cover > 127] = distance

    def _hedge(self, p: Prop, z: float, distance: float) -> None:
        world, camera = self.world, self.camera
        z1 = z + p.length
        celsius = world.air + (1.0 if world.sunny else -0.5)
        inner = p.x - math.copysign(0.3, p.x)
        for face in (
            [
                [inner, 0, z],
                [inner, p.height, z],
                [p.x + math.copysign(0.5, p.x), p.height, z],
                [p.x + math.copysign(0.5, p.x), 0, z],
            ],
            [[inner, 0, z], [inner, p.height, z], [inner, p.height, z1], [inner, 0, z1]],
        ):
            points = camera.project_polygon(np.array(face, np.float64))
            if len(points) < 3:
                continue
            window = self.window(np.clip(points, -20000, 20000))
            if window is None:
                continue
            x0, y0, x1, y1 = window
            mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
            cv2.fillConvexPoly(mask, fixed(points, 1.0, (x0, y0)), 255, cv2.LINE_8, SHIFT)
            grain = noise_bytes(p.key % NOISE_KINDS, 0.5)
            grain = np.tile(grain, (-(-mask.shape[0] // 512), -(-mask.shape[1] // 512)))[
                : mask.shape[0], : mask.shape[1]
            ]
            tint = 255 * np.sqrt(np.array(p.colour))
            texture = np.empty((*mask.shape, 4), np.uint8)
            factor = grain.astype(np.float32) * np.float32(1 / 140)
            for channel in range(3):
                texture[..., channel] = np.clip(factor * tint[channel], 0, 255)
            texture[..., 3] = np.clip(celsius_code(celsius) + (factor - 0.9) * 4, 1, 255)
            cv2.copyTo(texture, mask, self.paint[y0:y1, x0:x1])
            cv2.copyTo(self.darkness[y0:y1, x0:x1], mask, self.emission[y0:y1, x0:x1])
            cv2.fillConvexPoly(self.distance, fixed(points, 1 / COARSE), distance, cv2.LINE_8, SHIFT)

    def _lamp(self, p: Prop, z: float, distance: float) -> None:
        world = self.world
        metal = value(p.colour, 1.0, world.air + (3 if world.sunny else -0.8))
        self.pole(p.x, z, 0, p.height, 0.16, metal, distance)
        head_x = p.x - math.copysign(1.3, p.x)
        arm, _ = self.camera.project(np.array([[p.x, p.height, z], [head_x, p.height + 0.15, z]]))
        half = max(0.09 * self.camera.focal / distance / 2, 0.4)
        self.fill(
            np.array([arm[0] - (0, half), arm[1] - (0, half), arm[1] + (0, half), arm[0] + (0, half)]), metal, distance
        )
        centre = arm[1]
        wide, high = max(0.26 * self.camera.focal / distance, 0.8), max(0.06 * self.camera.focal / distance, 0.5)
        shape = np.array(
            [centre + (-wide, -high), centre + (wide, -high), centre + (wide, high), centre + (-wide, high)]
        )
        self.fill(shape, value(p.colour, 1.2, world.air + (8 if self.dark else 1)), distance)
        if self.dark:
            self.lamps.append((head_x, p.height + 0.1, z))
            lower = np.array(
                [
                    centre + (-wide * 0.8, 0),
                    centre + (wide * 0.8, 0),
                    centre + (wide * 0.8, high),
                    centre + (-wide * 0.8, high),
                ]
            )
            shine = tuple(60.0 * world.lamp_power * v for v in world.lamp_colour)
            cv2.fillConvexPoly(self.emission, fixed(lower), shine, cv2.LINE_8, SHIFT)
            x, y = round(float(centre[0])), round(float(centre[1]))
            if 0 <= x < self.camera.width and 0 <= y < self.camera.height:
                self.emission[y, x] = shine

    def _sign(self, p: Prop, z: float, distance: float) -> None:
        world = self.world
        grey = value(p.colour, 1.0, world.air)
        self.pole(p.x, z, 0, p.height, 0.07, grey, distance)
        centre, _ = self.camera.project(np.array([[p.x, p.height, z]]))
        radius = 0.33 * self.camera.focal / distance
        turn = (
            np.linspace(0, 2 * math.pi, 16, endpoint=False)
            if p.key % 3
            else np.linspace(math.pi / 4, 2.25 * math.pi, 4, endpoint=False)
        )
        ring = np.column_stack([np.cos(turn), np.sin(turn)])
        plate, inner = (
            ((0.45, 0.03, 0.03), (0.7, 0.7, 0.7)),
            ((0.03, 0.1, 0.4), (0.03, 0.1, 0.4)),
            ((0.5, 0.4, 0.03), (0.03, 0.03, 0.03)),
        )[p.key % 5 % 3]
        self.fill(centre + ring * radius, value(plate, 1.0, world.air - 0.5), distance, occludes=True)
        self.fill(centre + ring * radius * 0.75, value(inner, 1.0, world.air - 0.7), distance)

    def _signal(self, p: Prop, z: float, distance: float) -> None:
        world = self.world
        self.pole(p.x, z, 0, p.height, 0.12, value(p.colour, 1.0, world.air), distance)
        ends, _ = self.camera.project(np.array([[p.x, p.height - 0.9, z], [p.x, p.height, z]]))
        half = 0.16 * self.camera.focal / distance
        self.fill(np.array([ends[0] - (half, 0), ends[1] - (half, 0), ends[1] + (half, 0), ends[0] + (half, 0)]),
                  value((0.02, 0.02, 0.02), 1.0, world.air + 1), distance, occludes=True)  # fmt: skip
        red = p.key % 2 == 0
        centre = ends[0] + (ends[1] - ends[0]) * (0.8 if red else 0.2)
        colour = (1.0, 0.05, 0.03) if red else (0.05, 0.9, 0.5)
        radius = max(0.11 * self.camera.focal / distance, 0.7)
        ring = centre + np.column_stack([np.cos(_CIRCLE), np.sin(_CIRCLE)]) * radius
        cv2.fillConvexPoly(
            self.emission, fixed(ring), tuple((1.6 if self.dark else 1.0) * v for v in colour), cv2.LINE_8, SHIFT
        )


_CIRCLE = np.linspace(0, 2 * math.pi, 10, endpoint=False)


def paint_backdrop(world: World, camera: Camera) -> Backdrop:
    """Paint the empty street as ``camera`` sees it, far things first."""
    painter = _Painter(world, camera)
    painter.sky()
    painter.skyline()
    painter.ground()
    camera_z = camera.position[2]
    queue: list[tuple[float, Building | Prop, float]] = []
    items: list[Building | Prop] = [*world.buildings, *world.props]
    for item in items:
        z = item.z0 if isinstance(item, Building) else item.z
        last = item.z1 if isinstance(item, Building) else item.z + item.length
        # The copy of the item whose far end is the first one not left behind.
        shift = math.ceil((camera_z - BEHIND - last) / PERIOD) * PERIOD
        if z + shift < camera_z + AHEAD:
            if isinstance(item, Building):
                nearest = min(max(camera_z, z + shift), last + shift)
                distance = math.hypot(item.side * item.setback - camera.position[0], nearest - camera_z) + 1.0
            else:
                distance = math.hypot(item.x - camera.position[0], z + shift - camera_z)
            queue.append((distance, item, shift))
    for _, item, shift in sorted(queue, key=lambda entry: -entry[0]):
        if isinstance(item, Building):
            painter.building(item, shift)
        else:
            painter.prop(item, shift)
    lamps = np.array(painter.lamps).reshape(-1, 3)
    return Backdrop(painter.paint, painter.emission, painter.occluder, painter.distance, lamps)
