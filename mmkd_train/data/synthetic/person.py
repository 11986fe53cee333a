"""Articulated people: a skeleton in metres, posed by the gait phase and clothed with capsules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.synthetic.camera import NEAR, Camera
from mmkd_train.data.synthetic.motion import Placement, Pose
from mmkd_train.data.synthetic.raster import Outline, value

Colour = tuple[float, float, float]
STRIDE = 1.45  # metres of a full gait cycle of an adult of 1.75 m
SADDLE = 0.92  # metres

_SKINS: tuple[Colour, ...] = (
    (0.55, 0.36, 0.26),
    (0.48, 0.30, 0.20),
    (0.33, 0.19, 0.12),
    (0.16, 0.09, 0.06),
    (0.6, 0.42, 0.33),
)
_HAIR: tuple[Colour, ...] = (
    (0.02, 0.015, 0.012),
    (0.05, 0.03, 0.02),
    (0.12, 0.07, 0.03),
    (0.35, 0.26, 0.13),
    (0.3, 0.3, 0.3),
)
_TOPS: tuple[Colour, ...] = (
    (0.02, 0.02, 0.025), (0.05, 0.05, 0.06), (0.02, 0.03, 0.08), (0.6, 0.6, 0.58), (0.35, 0.03, 0.03),
    (0.05, 0.15, 0.3), (0.25, 0.24, 0.22), (0.09, 0.12, 0.06), (0.55, 0.4, 0.08), (0.4, 0.32, 0.22),
    (0.45, 0.2, 0.28), (0.1, 0.25, 0.22),
)  # fmt: skip
_BOTTOMS: tuple[Colour, ...] = (
    (0.02, 0.02, 0.025), (0.03, 0.05, 0.12), (0.06, 0.1, 0.2), (0.1, 0.09, 0.08), (0.3, 0.26, 0.19), (0.04, 0.04, 0.04),
)  # fmt: skip


@dataclass(frozen=True)
class PersonLook:
    """What one person looks like; lengths in metres, temperatures in degrees Celsius."""

    height: float
    girth: float
    skin: Colour
    hair: Colour
    top: Colour
    bottom: Colour
    shoes: Colour
    pack: Colour | None
    coat: bool
    skirt: bool
    long_hair: bool
    bare_arms: bool
    bare_legs: bool
    helmet: bool
    phase: float
    skin_celsius: float
    top_celsius: float
    bottom_celsius: float
    shoes_celsius: float


def person_look(rng: np.random.Generator, air: float, sunny: bool, rider: bool) -> PersonLook:
    """Draw a look for a day of ``air`` degrees Celsius."""
    warm_day = air > 20
    top = _TOPS[int(rng.integers(len(_TOPS)))]
    jitter = float(rng.uniform(0.7, 1.3))
    child = (not rider) and rng.uniform() < 0.07
    height = rng.normal(1.2, 0.08) if child else np.clip(rng.normal(1.71, 0.08), 1.52, 1.95)
    # Clothes lie between air and skin; the sun and thin cloth take them nearer to the skin.
    cloth = 0.42 + 0.12 * warm_day + 0.1 * sunny
    skin_celsius = 33.0 + 0.05 * (air - 15) + rng.normal(0, 0.5)
    return PersonLook(
        height=float(height),
        girth=float(np.clip(rng.normal(1.0, 0.1), 0.82, 1.3)),
        skin=_SKINS[int(rng.integers(len(_SKINS)))],
        hair=_HAIR[int(rng.integers(len(_HAIR)))],
        top=(top[0] * jitter, top[1] * jitter, top[2] * jitter),
        bottom=_BOTTOMS[int(rng.integers(len(_BOTTOMS)))],
        shoes=(0.5, 0.5, 0.5) if rng.uniform() < 0.3 else (0.03, 0.025, 0.02),
        pack=_TOPS[int(rng.integers(len(_TOPS)))] if rng.uniform() < 0.3 else None,
        coat=bool(not warm_day and not rider and rng.uniform() < 0.3),
        skirt=bool(not rider and rng.uniform() < 0.15),
        long_hair=bool(rng.uniform() < 0.4),
        bare_arms=bool(warm_day and rng.uniform() < 0.7),
        bare_legs=bool(warm_day and rng.uniform() < 0.4),
        helmet=bool(rider and rng.uniform() < 0.35),
        phase=float(rng.uniform(0, 2 * math.pi)),
        skin_celsius=float(skin_celsius),
        top_celsius=float(air + (skin_celsius - air) * np.clip(rng.normal(cloth, 0.08), 0.25, 0.8)),
        bottom_celsius=float(air + (skin_celsius - air) * np.clip(rng.normal(cloth + 0.02, 0.07), 0.25, 0.8)),
        shoes_celsius=float(air + (skin_celsius - air) * 0.25),
    )


def _joints(look: PersonLook, pose: Pose, phase: float, speed: float) -> dict[str, NDArray[Any]]:
    """Joints in the person's frame: forward, up, left, in metres; feet on the ground (on the pedals when riding)."""
    h = look.height
    thigh, calf, upper, fore = 0.245 * h, 0.246 * h, 0.172 * h, 0.15 * h
    joints: dict[str, NDArray[Any]] = {}
    swing = 0.5 * min(speed / 1.4, 1.25) if pose == "walk" else 0.0
    lean = {"walk": 0.04, "stand": 0.0, "phone": -0.02, "ride": 0.42}[pose]
    hip = np.array([-0.12, SADDLE + 0.06, 0.0]) if pose == "ride" else np.array([0.0, 0.53 * h, 0.0])
    chest = hip + 0.29 * h * np.array([math.sin(lean), math.cos(lean), 0])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        hip_joint = hip + (0, 0, sign * 0.052 * h)
        shoulder = chest + (0, 0, sign * 0.1 * h * look.girth**0.5)
        beat = phase if sign > 0 else phase + math.pi
        if pose == "ride":
            foot = np.array([0.08 + 0.17 * math.cos(beat), 0.3 + 0.17 * math.sin(beat), sign * 0.1])
            reach = foot - hip_joint
            span = min(float(np.hypot(reach[0], reach[1])), thigh + calf - 1e-3)
            bend = math.acos(np.clip((thigh**2 + span**2 - calf**2) / (2 * thigh * span), -1, 1))
            down = math.atan2(reach[0], -reach[1]) + bend
            knee = hip_joint + thigh * np.array([math.sin(down), -math.cos(down), 0])
            ankle = foot
            hand = np.array([0.42, 1.02, sign * 0.24])
            elbow = (shoulder + hand) / 2 + (-0.03, -0.06, sign * 0.05)
        else:
            spread = 0.03 if pose == "walk" else 0.045
            lift = swing * math.sin(beat)
            flex = 0.06 + (
                1.05 * swing * max(math.cos(beat), 0.0) ** 1.5 + 0.25 * swing * max(math.sin(beat - 1.9), 0.0)
            )
            knee = hip_joint + thigh * np.array([math.sin(lift), -math.cos(lift), sign * spread * 0.3])
            ankle = knee + calf * np.array([math.sin(lift - flex), -math.cos(lift - flex), 0])
            raised = pose == "phone" and sign < 0
            arm = 0.3 if raised else -0.85 * lift
            elbow = shoulder + upper * np.array([math.sin(arm), -math.cos(arm), sign * 0.16])
            bent = arm + (2.0 if raised else 0.3 + 0.5 * swing)
            hand = elbow + fore * np.array([math.sin(bent), -math.cos(bent), -sign * (0.45 if raised else 0.05)])
        joints |= {f"hip_{side}": hip_joint, f"shoulder_{side}": shoulder, f"knee_{side}": knee, f"ankle_{side}": ankle}
        toe = ankle + 0.115 * h * np.array([math.cos(0.25), -0.12, 0.0])
        joints |= {f"toe_{side}": toe, f"elbow_{side}": elbow, f"hand_{side}": hand}
    neck = chest + 0.035 * h * np.array([math.sin(lean), math.cos(lean), 0])
    joints["neck"] = neck
    joints["head"] = neck + 0.085 * h * np.array([math.sin(lean * 0.5) + 0.12, math.cos(lean * 0.5), 0])
    joints["crown"] = joints["head"] + (-0.018 * h, 0.03 * h, 0)
    joints["nape"] = joints["head"] + (-0.04 * h, -0.05 * h, 0)
    joints["pack_top"] = chest + (-0.1 * h, -0.02 * h, 0)
    joints["pack_bottom"] = chest + (-0.1 * h, -0.2 * h, 0)
    if pose != "ride":
        lowest = min(joints["ankle_left"][1], joints["ankle_right"][1]) - 0.038 * h
        for name in joints:
            joints[name] = joints[name] - (0, lowest, 0)
    return joints


_HALF = np.linspace(-math.pi / 2, math.pi / 2, 6)
_CIRCLE = np.linspace(0, 2 * math.pi, 12, endpoint=False)
_ROUND = np.column_stack([np.cos(_CIRCLE), np.sin(_CIRCLE)])


def _capsules(a: NDArray[Any], b: NDArray[Any], ra: NDArray[Any], rb: NDArray[Any]) -> NDArray[Any]:
    """(M, 2) end points and (M,) end radii in pixels -> (M, 12, 2) outlines."""
    along = np.arctan2(b[:, 1] - a[:, 1], b[:, 0] - a[:, 0])[:, None]
    end, start = along + _HALF, along + math.pi + _HALF
    near = b[:, None] + rb[:, None, None] * np.stack([np.cos(end), np.sin(end)], -1)
    far = a[:, None] + ra[:, None, None] * np.stack([np.cos(start), np.sin(start)], -1)
    return np.concatenate([near, far], 1)


def person_outlines(look: PersonLook, pose: Pose, where: Placement, camera: Camera, light: float) -> list[Outline]:
    """Outlines of a person, far parts first; empty when the person is behind the camera.

    Args:
        where: the point between the feet, the heading, and the metres walked, which set the phase of the legs.
        light: -1 (light comes from the left of the picture) to 1.
    """
    h = look.height
    cycle = 5.0 if pose == "ride" else STRIDE * h / 1.75 * (0.6 + 0.4 * min(where.speed / 1.4, 1.4))
    joints = _joints(look, pose, look.phase + 2 * math.pi * where.walked / cycle, where.speed)
    names = list(joints)
    local = np.array([joints[n] for n in names])
    sine, cosine = math.sin(where.heading), math.cos(where.heading)
    world = np.empty_like(local)
    # forward = (sin, cos), left = (-cos, sin) in (x, z)
    world[:, 0] = where.x + local[:, 0] * sine - local[:, 2] * cosine
    world[:, 1] = local[:, 1]
    world[:, 2] = where.z + local[:, 0] * cosine + local[:, 2] * sine
    pixels, depth = camera.project(world)
    if depth.min() < NEAR + 0.3:
        return []
    at = dict(zip(names, pixels, strict=True))
    metre = camera.focal / depth.mean()  # pixels
    left_is_near = depth[names.index("hip_left")] < depth[names.index("hip_right")]
    near, far = ("left", "right") if left_is_near else ("right", "left")
    faces_away = depth[names.index("nape")] < depth[names.index("head")]

    skin = look.skin_celsius
    arm_colour, arm_celsius = (look.skin, skin - 1) if look.bare_arms else (look.top, look.top_celsius)
    leg_colour, leg_celsius = (
        (look.skin, skin - 1.5) if look.bare_legs or look.skirt else (look.bottom, look.bottom_celsius)
    )
    g = look.girth * h
    detailed = metre * h > 26

    # (from, to, radius from, radius to, colour, temperature); parts in drawing order
    limbs: list[tuple[str, str, float, float, Colour, float]] = []

    def leg(side: str) -> None:
        limbs.append((f"ankle_{side}", f"toe_{side}", 0.024 * h, 0.017 * h, look.shoes, look.shoes_celsius))
        limbs.append((f"knee_{side}", f"ankle_{side}", 0.036 * g, 0.027 * g, leg_colour, leg_celsius - 0.5))
        limbs.append((f"hip_{side}", f"knee_{side}", 0.054 * g, 0.038 * g, look.bottom, look.bottom_celsius + 0.5))

    def arm(side: str) -> None:
        limbs.append((f"shoulder_{side}", f"elbow_{side}", 0.034 * g, 0.027 * g, look.top, look.top_celsius))
        limbs.append((f"elbow_{side}", f"hand_{side}", 0.026 * g, 0.019 * g, arm_colour, arm_celsius))
        limbs.append((f"hand_{side}", f"hand_{side}", 0.022 * h, 0.022 * h, look.skin, skin - 2))

    arm(far)
    leg(far)
    leg(near)
    after_torso = len(limbs)
    limbs.append(("neck", "head", 0.03 * h, 0.03 * h, look.skin, skin + 1))
    limbs.append(("head", "head", 0.06 * h, 0.06 * h, look.skin, skin))
    after_head = len(limbs)
    arm(near)

    a = np.array([at[part[0]] for part in limbs])
    b = np.array([at[part[1]] for part in limbs])
    ra = np.array([part[2] for part in limbs]) * metre
    rb = np.array([part[3] for part in limbs]) * metre
    outer = _capsules(a, b, ra, rb)
    shift = np.column_stack([light * 0.28 * ra, np.full(len(ra), -0.0)])
    inner = _capsules(a + shift, b + shift, ra * 0.6, rb * 0.6) if detailed else None

    outlines: list[Outline] = []

    def draw(k: int) -> None:
        colour, celsius = limbs[k][4], limbs[k][5]
        if inner is None:
            outlines.append((outer[k], value(colour, 0.85, celsius - 0.3)))
            return
        outlines.append((outer[k], value(colour, 0.62, celsius - 1.6)))
        outlines.append((inner[k], value(colour, 1.0, celsius + 0.5)))

    def blob(parts: list[tuple[str, float]], colour: Colour, celsius: float) -> None:
        rings = np.concatenate([at[name] + _ROUND * (radius * metre) for name, radius in parts]).astype(np.float32)
        hull = cv2.convexHull(rings)[:, 0]
        outlines.append((hull, value(colour, 0.62 if detailed else 0.85, celsius - 1.2)))
        if detailed:
            centre = hull.mean(0)
            slim = centre + (hull - centre) * np.array([0.72, 0.9]) + (light * 0.03 * h * metre, 0)
            outlines.append((slim, value(colour, 1.0, celsius + 0.4)))

    def pack() -> None:
        if look.pack is not None:
            blob(
                [("pack_top", 0.06 * h), ("pack_bottom", 0.07 * h)],
                look.pack,
                look.top_celsius * 0.45 + look.shoes_celsius * 0.55,
            )

    for k in range(after_torso):
        draw(k)
    if not faces_away:
        pack()
    if look.skirt:
        blob([("hip_left", 0.065 * h), ("hip_right", 0.065 * h), ("knee_left", 0.05 * h), ("knee_right", 0.05 * h)],
             look.bottom, look.bottom_celsius)  # fmt: skip
    torso = [
        ("shoulder_left", 0.045 * g),
        ("shoulder_right", 0.045 * g),
        ("hip_left", 0.05 * g),
        ("hip_right", 0.05 * g),
    ]
    if look.coat:
        thighs = {s: at[f"hip_{s}"] * 0.45 + at[f"knee_{s}"] * 0.55 for s in ("left", "right")}
        at |= {"hem_left": thighs["left"], "hem_right": thighs["right"]}
        torso += [("hem_left", 0.062 * g), ("hem_right", 0.062 * g)]
    blob(torso, look.top, look.top_celsius + 0.6)
    if faces_away:
        pack()
    for k in range(after_torso, after_head):
        draw(k)
    hair = (0.04, 0.04, 0.05) if look.helmet else look.hair
    hair_celsius = look.shoes_celsius + (2 if look.helmet else 8)
    crown = at["crown"] + _ROUND * ((0.06 if faces_away else 0.055) * h * metre)
    if faces_away:
        outlines.append((crown, value(hair, 1.0, hair_celsius)))
        outlines.append((at["head"] + _ROUND * (0.058 * h * metre), value(hair, 0.9, hair_celsius + 1)))
    else:
        cap = crown[crown[:, 1] <= at["crown"][1] + 0.012 * h * metre]
        if len(cap) > 2:
            outlines.append((cap, value(hair, 1.0, hair_celsius)))
    if look.long_hair and not look.helmet:
        rings = np.concatenate([at["nape"] + _ROUND * (0.04 * h * metre), at["crown"] + _ROUND * (0.045 * h * metre)])
        hull = cv2.convexHull(rings.astype(np.float32))[:, 0]
        if faces_away:
            outlines.append((hull, value(hair, 0.9, hair_celsius)))
        else:
            outlines.insert(0, (hull, value(hair, 0.9, hair_celsius)))
    for k in range(after_head, len(limbs)):
        draw(k)
    return outlines
