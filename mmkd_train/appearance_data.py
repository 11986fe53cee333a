"""What the appearance embedding is trained and measured on: crops of single objects, and clips with identities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mmkd_ros.imaging import thermal_to_uint8
from mmkd_ros.tracking.crops import AppearanceConfig
from mmkd_ros.types import ImagePair, Modality
from mmkd_train.data.crops import read_object_crops
from mmkd_train.data.synthetic import CLASS_NAMES, SceneOptions, SyntheticScene
from mmkd_train.errors import UserError

SAME_DRIVE_FRAMES = 15  # crops this near in time, but not of one frame, may show the same object
_BLOCK_FRAMES = 100  # the held-out part is two of every ten blocks of frame numbers
_GUARD_FRAMES = 5  # left out at the edges of a block


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """N aligned crops, each of a single object.

    Attributes:
        images: (N, H, W, 4) uint8, R, G, B, thermal.
        classes: (N,) names of the classes.
        frames: (N,) int64, number of the frame that a crop was cut from. Objects of one frame differ for certain,
            objects of near frames may be the same, whatever their identity says.
        identities: (N,) int64, equal for crops of one object.
    """

    images: NDArray[np.uint8]
    classes: NDArray[np.str_]
    frames: NDArray[np.int64]
    identities: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frames)

    def subset(self, rows: NDArray[np.bool_]) -> Crops:
        """The crops where ``rows`` (N,) bool is True."""
        return Crops(self.images[rows], self.classes[rows], self.frames[rows], self.identities[rows])

    def joined(self, other: Crops) -> Crops:
        """Both; their frames and identities must not overlap."""
        return Crops(
            np.concatenate((self.images, other.images)),
            np.concatenate((self.classes, other.classes)),
            np.concatenate((self.frames, other.frames)),
            np.concatenate((self.identities, other.identities)),
        )

    def partners(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """For each crop the row (N,) of a random other crop of its object; its own where there is no other."""
        shuffled = rng.permutation(len(self))
        order = shuffled[np.argsort(self.identities[shuffled], kind="stable")]  # objects in blocks, random inside
        starts = np.flatnonzero(np.diff(self.identities[order], prepend=self.identities[order[0]] - 1))
        sizes = np.diff(starts, append=len(self))
        following = np.arange(1, len(self) + 1)
        following[starts + sizes - 1] = starts  # the last of a block is followed by its first
        partner = np.empty(len(self), np.int64)
        partner[order] = order[following]
        return partner


def read_crops(archive: Path, size: tuple[int, int], limit: int | None = None) -> Crops:
    """Read `CLASS/DAY_OR_NIGHT/FRAME_OBJECT_{rgb,thermal}.jpg` from a tar file without unpacking it.

    Args:
        archive: the tar file.
        size: (width, height) that every crop is resized to.
        limit: stop after so many objects.

    Raises:
        UserError: as :func:`read_object_crops`.
    """
    images: list[NDArray[np.uint8]] = []
    classes: list[str] = []
    frames: list[int] = []
    for crop in islice(read_object_crops(archive), limit):
        both = (cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (crop.rgb, crop.thermal))
        images.append(np.dstack(tuple(both)).astype(np.uint8, copy=False))
        classes.append(crop.name)
        frames.append(crop.frame)
    numbers = np.arange(len(frames), dtype=np.int64)
    return Crops(np.stack(images), np.asarray(classes), np.asarray(frames, np.int64), numbers)


def render_crops(scenes: int, size: tuple[int, int], seed: int = 0) -> Crops:
    """Crops of the objects in synthetic scenes, each object at up to ten instants within 3 s.

    Args:
        scenes: number of scenes.
        size: (width, height) that every crop is resized to.
        seed: of the first scene.
    """
    images: list[NDArray[np.uint8]] = []
    classes: list[str] = []
    frames: list[int] = []
    identities: list[int] = []
    for number in tqdm(range(scenes), desc="rendered scenes"):
        clip = synthetic_clip(seed + number, frames=30, step=3)
        for pair, ids, boxes, labels in zip(clip.pairs, clip.ids, clip.boxes, clip.labels, strict=True):
            if pair.rgb is None or pair.thermal is None:
                continue
            stacked = np.dstack((pair.rgb, thermal_to_uint8(pair.thermal)))
            for identity, (x1, y1, x2, y2), label in zip(ids, np.rint(boxes).astype(int), labels, strict=True):
                crop = stacked[y1:y2, x1:x2]
                if min(crop.shape) < 4:
                    continue
                images.append(np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8))
                classes.append(CLASS_NAMES[label])
                # numbers that no recording reaches, a scene far from the next: all its objects differ for certain
                frames.append(10_000_000 + 1000 * number)
                identities.append(10_000_000 + 1000 * number + int(identity))
    return Crops(np.stack(images), np.asarray(classes), np.asarray(frames, np.int64), np.asarray(identities, np.int64))


def split_crops(crops: Crops) -> tuple[Crops, Crops]:
    """Training and held-out crops; by stretches of the recording, so that no object is in both."""
    block, place = crops.frames // _BLOCK_FRAMES, crops.frames % _BLOCK_FRAMES
    inside = (place >= _GUARD_FRAMES) & (place < _BLOCK_FRAMES - _GUARD_FRAMES)
    held_out = np.isin(block % 10, (3, 8))
    return crops.subset(~held_out), crops.subset(held_out & inside)


def batches(crops: Crops, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Rows of one epoch; a batch is of one class and keeps the objects of a frame together: those are the hard
    negatives.
    """
    chunks: list[NDArray[np.int64]] = []
    for label in np.unique(crops.classes):
        rows = np.flatnonzero(crops.classes == label)
        _, group = np.unique(crops.frames[rows], return_inverse=True)
        rows = rows[np.argsort(rng.permutation(len(rows))[group], kind="stable")]
        chunks += [rows[start : start + size] for start in range(0, len(rows), size) if len(rows) - start >= size // 2]
    for index in rng.permutation(len(chunks)):
        yield chunks[index]


def views(images: Tensor, config: AppearanceConfig, mode: Modality, generator: torch.Generator) -> Tensor:
    """One random view of every crop.

    Args:
        images: (B, H, W, 4) uint8.
        config: gives size and normalisation.
        mode: which modalities the view shows.
        generator: of everything random.

    Returns:
        (B, 4, height, width) float32, normalised; zeros for the modality not shown.
    """
    b = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * (high - low) + low

    def some(probability: float) -> Tensor:
        return (torch.rand((b, 1, 1, 1), generator=generator) < probability).float()

    x = images.permute(0, 3, 1, 2).float() / 255
    # Geometry: the box is never exact (shift, zoom, aspect), bodies bend (smooth random displacement).
    affine = torch.zeros(b, 2, 3)
    angle = uniform(-0.1, 0.1, b)
    zoom_x, zoom_y = uniform(0.8, 1.15, b), uniform(0.8, 1.15, b)
    affine[:, 0, 0], affine[:, 0, 1] = zoom_x * torch.cos(angle), -torch.sin(angle) / 2
    affine[:, 1, 0], affine[:, 1, 1] = torch.sin(angle) * 2, zoom_y * torch.cos(angle)
    affine[:, :, 2] = uniform(-0.15, 0.15, b, 2)
    grid = functional.affine_grid(affine, [b, 1, config.height, config.width], align_corners=False)
    bend = functional.interpolate(
        uniform(-0.12, 0.12, b, 2, 5, 3), (config.height, config.width), mode="bicubic", align_corners=True
    )
    grid = grid + bend.permute(0, 2, 3, 1)
    rgb = functional.grid_sample(x[:, :3], grid, padding_mode="border", align_corners=False)
    misaligned = grid + uniform(-0.08, 0.08, b, 1, 1, 2)
    thermal = functional.grid_sample(x[:, 3:], misaligned, padding_mode="border", align_corners=False)
    x = torch.cat((rgb, thermal), 1)
    # Another object's picture comes in from the corners (background) or in a rectangle (occlusion).
    other = x[torch.randperm(b, generator=generator)]
    rows = torch.linspace(-1, 1, config.height).view(1, 1, -1, 1)
    columns = torch.linspace(-1, 1, config.width).view(1, 1, 1, -1)
    radius = (rows - uniform(-0.1, 0.1, b, 1, 1, 1)) ** 2 + (columns - uniform(-0.1, 0.1, b, 1, 1, 1)) ** 2
    background = torch.sigmoid((radius - uniform(0.9, 1.4, b, 1, 1, 1)) * 8) * some(0.5)
    reach_y, reach_x = uniform(0.15, 0.5, b, 1, 1, 1), uniform(0.15, 0.5, b, 1, 1, 1)
    near_y = (rows - uniform(-1, 1, b, 1, 1, 1)).abs() < reach_y
    near_x = (columns - uniform(-1, 1, b, 1, 1, 1)).abs() < reach_x
    mix = torch.maximum(background, (near_y & near_x).float() * some(0.35))
    x = x * (1 - mix) + other * mix
    # Distance and motion: fewer pixels in all crops of the step alike (one size per step keeps it a batch operation).
    scale = float(uniform(0.3, 1.0, 1))
    small = functional.interpolate(
        x, (max(4, round(config.height * scale)), max(4, round(config.width * scale))), mode="area"
    )
    blurred = functional.interpolate(small, (config.height, config.width), mode="bilinear", align_corners=False)
    x = torch.lerp(x, blurred, some(0.5))
    # Light: contrast and brightness per modality, a cast per colour, gamma, noise.
    mean = torch.cat(
        (x[:, :3].mean((1, 2, 3), keepdim=True).expand(-1, 3, -1, -1), x[:, 3:].mean((2, 3), keepdim=True)), 1
    )
    contrast = torch.cat((uniform(0.7, 1.3, b, 1, 1, 1).expand(-1, 3, -1, -1), uniform(0.7, 1.3, b, 1, 1, 1)), 1)
    cast = uniform(0.92, 1.08, b, 4, 1, 1) * torch.cat(
        (uniform(0.75, 1.25, b, 1, 1, 1).expand(-1, 3, -1, -1), uniform(0.75, 1.25, b, 1, 1, 1)), 1
    )
    x = ((x - mean) * contrast + mean * cast).clamp(0, 1)
    x = x + torch.randn(x.shape, generator=generator) * uniform(0, 0.04, b, 1, 1, 1)
    if config.level_thermal:
        x[:, 3:] += config.mean[3] - x[:, 3:].mean((2, 3), keepdim=True)
    x = (x - torch.tensor(config.mean).view(1, 4, 1, 1)) / torch.tensor(config.std).view(1, 4, 1, 1)
    return _show(x, mode)


def _show(x: Tensor, mode: Modality) -> Tensor:
    """Blank the modality that ``mode`` does not show, in place."""
    if mode == "rgb":
        x[:, 3] = 0
    elif mode == "thermal":
        x[:, :3] = 0
    return x


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Consecutive pairs with the identities of the objects in them.

    Attributes:
        pairs: T image pairs.
        ids: T arrays (N,) int64.
        boxes: T arrays (N, 4) float32 x1 y1 x2 y2 in pixels.
        labels: T arrays (N,) int64 classes.
        fps: frames per second.
    """

    pairs: list[ImagePair]
    ids: list[NDArray[np.int64]]
    boxes: list[NDArray[np.float32]]
    labels: list[NDArray[np.int64]]
    fps: float


def read_clip(folder: Path, fps: float = 30.0) -> Clip:
    """A folder with `rgb/`, `thermal/` and `gt/gt.txt` (MOT lines `frame,id,x,y,w,h,conf,class,...`, frames from 1).

    Raises:
        UserError: a missing or unreadable file.
    """
    clip = Clip([], [], [], [], fps)
    try:
        rows = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read {folder / 'gt' / 'gt.txt'}: {error}.") from error
    for index, path in enumerate(sorted((folder / "rgb").glob("*.jpg"))):
        rgb = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        thermal = cv2.imread(str(folder / "thermal" / path.name), cv2.IMREAD_GRAYSCALE)
        if rgb is None or thermal is None:
            raise UserError(f"{path} or its thermal partner of the same name cannot be read.")
        here = rows[rows[:, 0] == index + 1]
        clip.pairs.append(ImagePair(np.asarray(rgb, np.uint8), np.asarray(thermal, np.uint8), index / fps))
        clip.ids.append(here[:, 1].astype(np.int64))
        clip.boxes.append(np.concatenate((here[:, 2:4], here[:, 2:4] + here[:, 4:6]), axis=1).astype(np.float32))
        clip.labels.append(here[:, 7].astype(np.int64))
    return clip


def synthetic_clip(seed: int, frames: int, step: int = 1) -> Clip:
    """A rendered street with many people, every ``step``-th frame; objects of which less than 40 % is seen are left
    out.
    """
    options = SceneOptions(seed=seed, people=12, cars=6, bicycles=3)
    scene = SyntheticScene(options)
    clip = Clip([], [], [], [], options.fps)
    for index in range(0, frames, step):
        frame = scene.frame(index)
        seen = frame.visible_fraction >= 0.4
        clip.pairs.append(ImagePair(frame.rgb, frame.thermal, frame.stamp))
        clip.ids.append(frame.track_ids[seen])
        clip.boxes.append(frame.boxes[seen])
        clip.labels.append(frame.labels[seen])
    return clip
