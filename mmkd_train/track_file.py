"""`track`: run the tracker on a MOTChallenge detection file, without images; appearance vectors may come in a file."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmkd_ros.tracking import DeepSort, TrackerOptions
from mmkd_ros.types import Detections, Tracks
from mmkd_train.errors import UserError

HELP = "Track the detections of a MOTChallenge file (frame,id,x,y,w,h,conf,...) and write MOTChallenge tracks."

_CLASS_NAMES = ("object",)
# --min-confidence does it before the clipping; there are no images
_NOT_HERE = ("min_score", "motion_compensation")
_MAX_FRAMES = 10_000_000  # a longer span is a typing error in a frame number, and would take hours of empty frames


def read_detections(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read MOTChallenge lines ``frame,id,x,y,w,h,conf,...``; the id and what follows the confidence are not used.

    Returns:
        frames: (N,) int64, ascending.
        values: (N, 5) float64 x, y, w, h, conf, as they stand in the file.

    Raises:
        UserError: as ``_read_lines``.
    """
    frames, values = _read_lines(path)
    order = np.argsort(frames, kind="stable")
    return frames[order], values[order]


def read_with_vectors(path: Path, vectors: Path) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]:
    """Detections and, from a .npy file, their appearance vectors: row i belongs to the i-th line that is not blank.

    Returns:
        As ``read_detections``, and vectors (N, D) float32 in the same order.

    Raises:
        UserError: as ``read_detections``; or the vectors are no numbers (N, D), or not one for each line.
    """
    frames, values = _read_lines(path)
    try:
        given = np.load(vectors, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"Cannot read the appearance vectors {vectors}: {error}.") from error
    if not isinstance(given, np.ndarray) or given.ndim != 2 or given.dtype.kind not in "fiu" or given.shape[1] == 0:
        raise UserError(f"{vectors} must hold one array of numbers with a row for each detection line.")
    if len(given) != len(values):
        raise UserError(f"{vectors} has {len(given)} rows, but {path} has {len(values)} detections; they must agree.")
    order = np.argsort(frames, kind="stable")
    return frames[order], values[order], given[order].astype(np.float32)


def _read_lines(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Frames and values in the order of the file.

    Raises:
        UserError: a missing or unreadable file, or a line that is not seven or more numbers; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the detections {path}: {error}.") from error
    frames: list[int] = []
    values: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = line.split(",")
        if len(cells) < 7:
            raise UserError(f"{path}, line {number}: {len(cells)} values; need frame,id,x,y,w,h,conf.")
        try:
            row = [float(cell) for cell in (cells[0], *cells[2:7])]
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}.") from error
        if not all(map(math.isfinite, row)):
            raise UserError(f"{path}, line {number}: every value must be a finite number.")
        if row[0] != int(row[0]) or row[0] < 0:
            raise UserError(
                f"{path}, line {number}: the frame must be a whole number from 0 on, got {cells[0].strip()}."
            )
        frames.append(int(row[0]))
        values.append(row[1:])
    if frames and max(frames) - min(frames) >= _MAX_FRAMES:
        late = frames.index(max(frames))
        raise UserError(f"{path}: frame {frames[late]} lies more than {_MAX_FRAMES} frames after the first; check it.")
    return np.asarray(frames, np.int64), np.asarray(values, np.float64).reshape(-1, 5)


def track_detections(
    tracker: DeepSort,
    frames: NDArray[np.int64],
    values: NDArray[np.float64],
    fps: float,
    min_confidence: float = -math.inf,
    vectors: NDArray[np.float32] | None = None,
) -> list[tuple[int, Tracks]]:
    """Run the tracker over all frames from the first to the last; those without detections are empty frames.

    Confidences of MOTChallenge files may be any number. ``min_confidence`` is compared with the number in the file;
    then it is clipped to 0..1, which is what the tracker takes for a score and what comes out. Boxes stay in the file's
    coordinates.

    Args:
        tracker: fresh or reset.
        frames: (N,) int64, ascending.
        values: (N, 5) float64 x, y, w, h, conf.
        fps: frames per second; frame k has the stamp k / fps.
        min_confidence: detections below are left out.
        vectors: (N, D) float32 appearance, a row of zeros where unknown, or None.

    Returns:
        (frame, tracks) for every frame.
    """
    result: list[tuple[int, Tracks]] = []
    if not len(frames):
        return result
    kept = values[:, 4] >= min_confidence
    starts = np.searchsorted(frames, np.arange(frames[0], frames[-1] + 2))
    numbers = tqdm(
        range(int(frames[0]), int(frames[-1]) + 1), desc="track", unit="frame", mininterval=1, delay=2, leave=False
    )
    for frame, first, last in zip(numbers, starts[:-1], starts[1:], strict=True):
        here = first + np.flatnonzero(kept[first:last])
        rows = values[here]
        found = Detections(
            boxes=np.concatenate((rows[:, :2], rows[:, :2] + rows[:, 2:4]), axis=1).astype(np.float32),
            scores=np.clip(rows[:, 4], 0, 1).astype(np.float32),
            labels=np.zeros(len(rows), np.int64),
            class_names=_CLASS_NAMES,
            stamp=frame / fps,
        )
        result.append((frame, tracker.update(found, None if vectors is None else vectors[here])))
    return result


def parity_options(fps: float) -> TrackerOptions:
    """The options of the DeepSORT paper at that frame rate; a track is put out for one frame after its last detection,
    as its authors do."""
    return replace(TrackerOptions.published(fps), coast_s=1 / fps)


def mot_lines(frame: int, tracks: Tracks) -> list[str]:
    """``frame,id,x,y,w,h,conf,-1,-1,-1`` for every track."""
    return [
        f"{frame},{identity},{x1:.3f},{y1:.3f},{x2 - x1:.3f},{y2 - y1:.3f},{score:.4f},-1,-1,-1"
        for identity, (x1, y1, x2, y2), score in zip(
            tracks.ids.tolist(), tracks.boxes.tolist(), tracks.scores.tolist(), strict=True
        )
    ]


def benchmark_tracker(objects: int, frames: int, dimension: int = 128) -> float:
    """Mean milliseconds per ``DeepSort.update`` with that many objects moving about, each with an appearance vector.

    Args:
        objects: per frame; one in twenty is not detected.
        frames: timed, after ten to warm up.
        dimension: of the appearance vectors.
    """
    rng = np.random.default_rng(0)
    place = rng.uniform((0, 0), (1920, 1080), (objects, 2))
    speed = rng.normal(0, 3, (objects, 2))
    size = rng.uniform((30, 60), (80, 200), (objects, 2))
    identity = rng.normal(0, 1, (objects, dimension))
    tracker = DeepSort()
    spent = 0.0
    for frame in range(frames + 10):
        place += speed
        speed = np.where((place < 0) | (place > (1920, 1080)), -speed, speed)
        rows = np.flatnonzero(rng.random(objects) < 0.95)
        corner = place[rows] + rng.normal(0, 1, (len(rows), 2))
        boxes = np.concatenate((corner, corner + size[rows]), axis=1).astype(np.float32)
        vectors = (identity[rows] + rng.normal(0, 0.2, (len(rows), dimension))).astype(np.float32)
        scores = np.full(len(rows), 0.9, np.float32)
        found = Detections(boxes, scores, np.zeros(len(rows), np.int64), _CLASS_NAMES, frame / 30)
        started = time.perf_counter()
        tracker.update(found, vectors)
        spent += (time.perf_counter() - started) if frame >= 10 else 0.0
    return spent / frames * 1000


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, got {text}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command; those of the tracker come from ``TrackerOptions``, and unset ones from the mode."""
    parser.add_argument("--detections", type=Path, required=True, help="file of lines frame,id,x,y,w,h,conf,...")
    parser.add_argument("--fps", type=_positive, required=True, help="frames per second of the recording")
    parser.add_argument(
        "--output", type=Path, required=True, help="file to write, lines frame,id,x,y,w,h,conf,-1,-1,-1"
    )
    parser.add_argument(
        "--min-confidence", type=float, default=-math.inf, help="leave out detections below, as written in the file"
    )
    parser.add_argument(
        "--embeddings", type=Path, help=".npy file of appearance vectors, a row for each detection line"
    )
    parser.add_argument(
        "--mode",
        choices=("robot", "parity"),
        default="robot",
        help="robot = the defaults below; parity = the published DeepSORT, one frame one step. Other options given win",
    )
    for option in fields(TrackerOptions):
        if option.name in _NOT_HERE:
            continue
        flag, text = f"--{option.name.replace('_', '-')}", f"{option.metadata['description']} Default {option.default}."
        if isinstance(option.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        else:
            parser.add_argument(flag, type=type(option.default), help=text)


def run(args: argparse.Namespace) -> int:
    """Track the file; prints what was done and what was left out."""
    names = [option.name for option in fields(TrackerOptions) if option.name not in _NOT_HERE]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    try:
        base = parity_options(args.fps) if args.mode == "parity" else TrackerOptions()
        tracker = DeepSort(replace(base, **given))
    except ValueError as error:
        raise UserError(str(error)) from error
    if 1 / args.fps > tracker.options.max_age_s:
        raise UserError(
            f"At {args.fps} frames per second a track ends, by --max-age-s {tracker.options.max_age_s}, before "
            f"the next frame; give one above {1 / args.fps:.3f}."
        )
    vectors: NDArray[np.float32] | None = None
    if args.embeddings is not None:
        frames, values, vectors = read_with_vectors(args.detections, args.embeddings)
    else:
        frames, values = read_detections(args.detections)
    started = time.perf_counter()
    result = track_detections(tracker, frames, values, args.fps, args.min_confidence, vectors)
    seconds = time.perf_counter() - started
    lines = [line for frame, tracks in result for line in mot_lines(frame, tracks)]
    try:
        args.output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot write {args.output}: {error}.") from error
    ids = {int(identity) for _, tracks in result for identity in tracks.ids}
    print(f"{len(result)} frames, {len(values)} detections, {len(ids)} tracks, {len(lines)} boxes in {seconds:.2f} s")
    dropped = {reason: count for reason, count in tracker.dropped.items() if count}
    if dropped:
        print("left out: " + ", ".join(f"{count} by {reason}" for reason, count in dropped.items()))
    return 0
