"""How things move: paths along and across the road, run at constant speed, for ever."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Pose = Literal["walk", "stand", "phone", "ride"]

AHEAD, BEHIND = 150.0, 15.0  # metres around the camera in which things exist


@dataclass(frozen=True)
class Actor:
    """Something annotated, moving or not.

    A path is a polyline of (x, z) run at constant speed, from ``start`` metres on; at its end the actor starts a new
    life, as a new
    object with a new track id and a new look. ``running`` tells a car whose engine and lamps are on.
    """

    label: int
    pose: Pose
    path: tuple[tuple[float, float], ...]
    speed: float
    start: float
    sway: float
    rider: bool = False
    running: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an actor is at one instant: ground point in metres, heading in radians, metres walked, and which life
    this is."""

    x: float
    z: float
    heading: float
    walked: float
    life: int
    speed: float


def place(actor: Actor, seconds: float, camera_z: float, camera_speed: float) -> Placement:
    """Where ``actor`` is ``seconds`` after the start, for a camera that has driven to ``camera_z``.

    Things that move along the road are kept in a window around the camera and start a new life when they leave it;
    things that
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
        return Placement(
            xa + actor.sway * math.sin(walked),
            z,
            0.0 if direction > 0 else math.pi,
            walked,
            abs(2 * life) - (life > 0),
            actor.speed,
        )
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
    return Placement(
        x + side * math.cos(heading), z + laps * span - side * math.sin(heading), heading, walked, life, actor.speed
    )


def _point(path: tuple[tuple[float, float], ...], lengths: list[float], along: float) -> tuple[float, float]:
    for (xa, za), (xb, zb), length in zip(path, path[1:], lengths, strict=False):
        if along <= length:
            share = along / length
            return xa + (xb - xa) * share, za + (zb - za) * share
        along -= length
    (xa, za), (xb, zb) = path[-2], path[-1]
    return xb + (xb - xa) / lengths[-1] * along, zb + (zb - za) / lengths[-1] * along
