"""What trackers are measured on: detections frame by frame, with the boxes and identities of the truth.

Here: how a sequence is kept, those of MOTChallenge folders, and crowds for measuring speed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.types import Detections
from mmkd_train.errors import UserError
from mmkd_train.track_file import read_detections

MIN_SCORE = 0.1  # weaker detections are in no sequence
_MAX_FRAMES = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """What the trackers get, and what their answer is compared with.

    Attributes:
        name: of the sequence.
        fps: frames per second; frame t has the stamp t / fps.
        ids: one (N,) int64 per frame, the objects that are there.
        boxes: one (N, 4) float64 per frame, x1 y1 x2 y2 in pixels.
        detections: one per frame.
        vectors: one (M, D) float32 per frame, row i belongs to detection i, or None without appearance.
    """

    name: str
    fps: float
    ids: list[NDArray[np.int64]]
    boxes: list[NDArray[np.float64]]
    detections: list[Detections]
    vectors: list[NDArray[np.float32]] | None = None


def read_mot(folder: Path, fps: float) -> Sequence:
    """A MOTChallenge folder with `det/det.txt` and `gt/gt.txt` (lines ``frame,id,x,y,w,h,flag,...``; flag 0 = ignored).

    Raises:
        UserError: a missing or unreadable file, or a box without size; the sentence names the file.
    """
    path = folder / "gt" / "gt.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.zeros((0, 0))
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read the true boxes {path}: {error}.") from error
    if rows.shape[1] < 7 or not np.isfinite(rows[:, :7]).all() or (rows[:, 4:6] <= 0).any():
        raise UserError(f"{path} must have lines frame,id,x,y,w,h,flag of finite numbers, w and h above 0; check it.")
    if not ((rows[:, 0] >= 1) & (rows[:, 0] <= _MAX_FRAMES)).all():
        raise UserError(f"{path}: frames count from 1 and end before {_MAX_FRAMES}; check the first column.")
    rows = rows[rows[:, 6] != 0]
    frames, values = read_detections(folder / "det" / "det.txt")
    if (values[:, 2:4] <= 0).any():
        raise UserError(f"{folder / 'det' / 'det.txt'}: a box has no width or height; take such lines out.")
    corners = values[:, :4].copy()
    corners[:, 2:] += corners[:, :2]
    ids, boxes, detections = [], [], []
    last = int(max(rows[:, 0].max(initial=0), frames.max(initial=0)))
    for frame in range(1, last + 1):
        true = rows[rows[:, 0] == frame]
        ids.append(true[:, 1].astype(np.int64))
        boxes.append(np.concatenate((true[:, 2:4], true[:, 2:4] + true[:, 4:6]), axis=1))
        here = frames == frame
        detections.append(
            make_detections(corners[here], values[here, 4], np.zeros(here.sum()), ("object",), frame / fps)
        )
    return Sequence(folder.name, fps, ids, boxes, detections)


def make_detections(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    labels: NDArray[np.generic],
    names: tuple[str, ...],
    stamp: float,
) -> Detections:
    """Detections of (N, 4) x1 y1 x2 y2 boxes; scores are clipped to 0..1, as the tracker takes them."""
    return Detections(
        boxes=boxes.astype(np.float32),
        scores=np.clip(scores, 0, 1).astype(np.float32),
        labels=labels.astype(np.int64),
        class_names=names,
        stamp=stamp,
    )


def strong(sequence: Sequence, min_score: float) -> Sequence:
    """The sequence without the detections scored below ``min_score``."""
    kept = [found.scores >= min_score for found in sequence.detections]
    detections = [
        Detections(found.boxes[rows], found.scores[rows], found.labels[rows], found.class_names, found.stamp)
        for found, rows in zip(sequence.detections, kept, strict=True)
    ]
    vectors = None
    if sequence.vectors is not None:
        vectors = [given[rows] for given, rows in zip(sequence.vectors, kept, strict=True)]
    return replace(sequence, detections=detections, vectors=vectors)


def crowd(objects: int, frames: int, dimension: int = 128) -> Sequence:
    """Objects that walk about, nearly all of them found in every frame, each with an appearance vector of its own."""
    rng = np.random.default_rng(0)
    place = rng.uniform((0, 0), (1920, 1080), (objects, 2))
    speed = rng.normal(0, 3, (objects, 2))
    size = rng.uniform((30, 60), (80, 200), (objects, 2))
    looks = rng.normal(0, 1, (objects, dimension))
    vectors: list[NDArray[np.float32]] = []
    sequence = Sequence(f"crowd of {objects}", 30.0, [], [], [], vectors)
    for frame in range(frames):
        place += speed
        speed = np.where((place < 0) | (place > (1920, 1080)), -speed, speed)
        rows = np.flatnonzero(rng.random(objects) < 0.95)
        corner = place[rows] + rng.normal(0, 1, (len(rows), 2))
        boxes = np.concatenate((corner, corner + size[rows]), axis=1)
        sequence.ids.append(np.arange(1, objects + 1))
        sequence.boxes.append(np.concatenate((place, place + size), axis=1))
        sequence.detections.append(
            make_detections(boxes, np.full(len(rows), 0.9), np.zeros(len(rows)), ("object",), frame / 30)
        )
        vectors.append((looks[rows] + rng.normal(0, 0.2, (len(rows), dimension))).astype(np.float32))
    return sequence
