"""Options of a synthetic scene, and what a rendered frame holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = ("person", "car", "bicycle")
PERSON, CAR, BICYCLE = range(3)

TimeOfDay = Literal["day", "dusk", "night", "random"]
CameraMotion = Literal["static", "pan", "drive"]
View = Literal["vehicle", "roadside", "surveillance", "random"]

MIN_SIDE, MAX_SIDE = 64, 4096
MAX_COUNT = 60


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """Everything that decides what a scene looks like; equal options give equal pixels.

    Attributes:
        seed: non-negative; decides every choice that the other options leave open.
        street: seed of the place, its light and the mounting of the camera, or None for the same as ``seed``: the
            same street with other people, cars and sensors.
        width, height: image size in pixels, the same for RGB and thermal.
        fps: frames per second of the recording.
        time_of_day: light; "random" lets the seed choose.
        people: pedestrians in the scene (riders come on top), or None to let the seed choose. Not all are in view all
            the time.
        cars: moving and parked cars, or None.
        bicycles: ridden and parked bicycles, or None. A rider is a person, the bicycle under the rider a bicycle.
        camera: "static" stands still, "pan" turns slowly, "drive" moves along the road.
        view: where the camera is mounted: in a vehicle, by the roadside at eye height, or high up like a surveillance
            camera.
        misalignment_px: greatest shift in pixels between the RGB and the thermal image; constant over a scene. 0
            aligns them exactly.
        thermal_bits: 8 for an image after gain control, 16 for radiometric counts of 0.04 K in uint16 (14 bits used).
        min_box_px: an object whose box is lower than this, or narrower than half of it, is not annotated.
        min_visible_fraction: an object is not annotated when less than this fraction of what lies within the image is
            seen, or less than 0.4 of this fraction of all of it.

    Raises:
        ValueError: an option out of its range; the sentence names it.
    """

    seed: int = 0
    street: int | None = None
    width: int = 640
    height: int = 512
    fps: float = 10.0
    time_of_day: TimeOfDay = "random"
    people: int | None = None
    cars: int | None = None
    bicycles: int | None = None
    camera: CameraMotion = "static"
    view: View = "random"
    misalignment_px: float = 3.0
    thermal_bits: Literal[8, 16] = 8
    min_box_px: float = 6.0
    min_visible_fraction: float = 0.25

    def __post_init__(self) -> None:
        for name in ("seed", "street"):
            seed = getattr(self, name)
            if seed is not None and seed < 0:
                raise ValueError(f"{name} must not be negative, got {seed}; give 0 or more.")
        for name in ("width", "height"):
            value = getattr(self, name)
            if not MIN_SIDE <= value <= MAX_SIDE:
                raise ValueError(
                    f"{name} must be {MIN_SIDE} to {MAX_SIDE} pixels, got {value}; choose an image size in that range."
                )
        if not (math.isfinite(self.fps) and 0.1 <= self.fps <= 1000):
            raise ValueError(f"fps must be 0.1 to 1000 frames per second, got {self.fps}; 10 is usual.")
        for name in ("people", "cars", "bicycles"):
            count = getattr(self, name)
            if count is not None and not 0 <= count <= MAX_COUNT:
                raise ValueError(f"{name} must be 0 to {MAX_COUNT}, got {count}; give None to let the seed choose.")
        for name, kind in (("time_of_day", TimeOfDay), ("camera", CameraMotion), ("view", View)):
            choices = get_args(kind)
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}; choose one of them."
                )
        if not (math.isfinite(self.misalignment_px) and 0 <= self.misalignment_px <= 50):
            raise ValueError(
                f"misalignment_px must be 0 to 50 pixels, got {self.misalignment_px}; 0 aligns the two images."
            )
        if self.thermal_bits not in (8, 16):
            raise ValueError(
                f"thermal_bits must be 8 or 16, got {self.thermal_bits}; 8 is gain-controlled, 16 radiometric."
            )
        if not (math.isfinite(self.min_box_px) and self.min_box_px >= 1):
            raise ValueError(f"min_box_px must be at least 1 pixel, got {self.min_box_px}; 6 is the default.")
        if not 0 < self.min_visible_fraction <= 1:
            raise ValueError(
                f"min_visible_fraction must be above 0 and at most 1, got {self.min_visible_fraction}; 0.25 is usual."
            )


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticFrame:
    """One rendered instant with its annotation; the N objects are in ascending order of track id.

    Attributes:
        rgb: (H, W, 3) uint8, R, G, B.
        thermal: (H, W) uint8, or uint16 counts of 0.04 K (kelvin = counts * 0.04); white is hot.
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of ``rgb``: the whole outline of the object, hidden parts
            included, clipped to
            the image. x2 and y2 are exclusive, so that a box of one pixel is 1 wide.
        labels: (N,) int64, index into CLASS_NAMES.
        track_ids: (N,) int64, positive, constant over the life of an object, never used twice in a scene.
        visible_fraction: (N,) float32, seen pixels / pixels of the whole outline (parts outside the image count as
            hidden).
        stamp: seconds since the first frame.
    """

    rgb: NDArray[np.uint8]
    thermal: NDArray[np.uint8] | NDArray[np.uint16]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    track_ids: NDArray[np.int64]
    visible_fraction: NDArray[np.float32]
    stamp: float

    def __len__(self) -> int:
        return len(self.labels)


DEMO_SCENE = SceneOptions(
    seed=12,
    street=108,
    time_of_day="night",
    people=12,
    cars=6,
    bicycles=3,
    view="surveillance",
)
"""The recording that the demo replays: 120 frames (12 s) of a crossing at night."""
