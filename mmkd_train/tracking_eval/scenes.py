"""Synthetic scenes as sequences: rendered, with a detector in the loop, or as true boxes alone, without rendering."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.types import Detections, ImagePair
from mmkd_train.data.synthetic import SceneOptions, SyntheticScene
from mmkd_train.data.synthetic.camera import Camera
from mmkd_train.data.synthetic.cast import Cast
from mmkd_train.data.synthetic.raster import COVERAGE
from mmkd_train.data.synthetic.scene import PAN_SECONDS
from mmkd_train.data.synthetic.traffic import populate
from mmkd_train.data.synthetic.world import World, build_world
from mmkd_train.tracking_eval.sequences import Sequence

Detect = Callable[[ImagePair], Detections]
Encode = Callable[[ImagePair, NDArray[np.float32]], NDArray[np.float32]]

_SHUTTER_S = 0.01  # of the camera that the unrendered scenes are seen by

# Seeds that no option of the tracker was tuned on.
SCENES = (
    SceneOptions(seed=90001, fps=5, people=12, cars=6, bicycles=3),
    SceneOptions(seed=90002, fps=10, people=14, cars=5, bicycles=3, view="surveillance"),
    SceneOptions(seed=90003, fps=10, people=12, cars=6, bicycles=3, camera="pan"),
    SceneOptions(seed=90004, fps=15, people=14, cars=6, bicycles=2, camera="drive"),
    SceneOptions(seed=90005, fps=30, people=14, cars=6, bicycles=3, view="roadside"),
    SceneOptions(seed=90006, fps=30, people=12, cars=6, bicycles=2, camera="drive"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Who is where in T frames; list t has the N objects of frame t.

    Attributes:
        name: of the sequence.
        fps: frames per second; frame t has the stamp t / fps.
        size: (width, height) of the images in pixels.
        ids: (N,) int64.
        boxes: (N, 4) float64 x1 y1 x2 y2 in pixels.
        labels: (N,) int64 classes.
        visible: (N,) float64, seen share of the object in 0..1.
    """

    name: str
    fps: float
    size: tuple[int, int]
    ids: list[NDArray[np.int64]]
    boxes: list[NDArray[np.float64]]
    labels: list[NDArray[np.int64]]
    visible: list[NDArray[np.float64]]


def scene_truth(options: SceneOptions, frames: int) -> Truth:
    """Boxes and identities of a synthetic scene without rendering it: its figures are outlined, not lit.

    Objects that are seen too little are left out as in rendered scenes, but nothing that stands in the street (trees,
    lamps) hides them here. A driving camera does not nod.
    """
    world = populate(build_world(options), options)
    cast = Cast(world, options.seed, _SHUTTER_S)
    truth = Truth(f"scene {options.seed}", options.fps, (options.width, options.height), [], [], [], [])
    for index in range(frames):
        seconds = index / options.fps
        drawn = cast.draw(_camera(world, seconds), seconds)
        owner = np.zeros((options.height, options.width), np.int16)
        solids = [item.figure.coverage >= COVERAGE for item in drawn]
        for slot, (item, solid) in enumerate(zip(drawn, solids, strict=True), start=1):
            h, w = solid.shape
            owner[item.figure.y : item.figure.y + h, item.figure.x : item.figure.x + w][solid] = slot
        seen = np.bincount(owner.ravel(), minlength=len(drawn) + 1)[1:]
        rows = []
        for item, solid, pixels in zip(drawn, solids, seen.tolist(), strict=True):
            columns, lines = np.flatnonzero(solid.any(0)), np.flatnonzero(solid.any(1))
            visible = min(pixels / max(item.figure.area, 1.0), 1.0)
            if len(columns) and visible >= options.min_visible_fraction:
                x, y = item.figure.x, item.figure.y
                box = (x + columns[0], y + lines[0], x + columns[-1] + 1, y + lines[-1] + 1)
                if box[3] - box[1] >= options.min_box_px and box[2] - box[0] >= options.min_box_px / 2:
                    rows.append((item.track, box, item.label, visible))
        rows.sort()
        truth.ids.append(np.array([row[0] for row in rows], np.int64))
        truth.boxes.append(np.array([row[1] for row in rows], np.float64).reshape(-1, 4))
        truth.labels.append(np.array([row[2] for row in rows], np.int64))
        truth.visible.append(np.array([row[3] for row in rows], np.float64))
    return truth


def _camera(world: World, seconds: float) -> Camera:
    """The camera on its way; the very same object when it stands still, so that parked cars are drawn once."""
    base = world.camera
    if not (world.drive_speed or world.yaw_swing):
        return base
    x, y, z = base.position
    yaw = base.yaw + world.yaw_swing * math.sin(2 * math.pi * seconds / PAN_SECONDS)
    return replace(base, position=(x, y, z + world.drive_speed * seconds), yaw=yaw)


def rendered(options: SceneOptions, frames: int, detect: Detect, encode: Encode) -> Sequence:
    """A rendered scene as the detector sees it, with the encoder's appearance vectors."""
    scene = SyntheticScene(options)
    vectors: list[NDArray[np.float32]] = []
    sequence = Sequence(f"rendered scene {options.seed}", options.fps, [], [], [], vectors)
    for index in range(frames):
        frame = scene.frame(index)
        pair = ImagePair(frame.rgb, frame.thermal, frame.stamp)
        found = detect(pair)
        sequence.ids.append(frame.track_ids)
        sequence.boxes.append(frame.boxes.astype(np.float64))
        sequence.detections.append(found)
        vectors.append(encode(pair, found.boxes))
    return sequence
