"""``make-bag``: RGB and thermal frames of a folder, or a recording of a public set -> a rosbag2 with both topics."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmkd_ros.bags import IMAGE, BagError, BagWriter, serialize, typestore
from mmkd_train.data.adapters import ADAPTERS, Frame
from mmkd_train.errors import UserError

HELP = "Turn rgb/ and thermal/ frames, or a recording of a public set, into a rosbag2 with both image topics."

RGB_TOPIC = "/rgb/image_raw"
THERMAL_TOPIC = "/thermal/image_raw"
_NAMED = 12  # recordings that a message lists
START_STAMP = 1_700_000_000.0  # fixed, so that the same frames always give the same bag

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}

Image = NDArray[Any]


def make_bag_from_frames(
    frames: Iterable[tuple[Image | None, Image | None]],
    output: str | Path,
    fps: float,
    *,
    rgb_topic: str = RGB_TOPIC,
    thermal_topic: str = THERMAL_TOPIC,
    start_stamp: float = START_STAMP,
    colour_order: Literal["rgb8", "bgr8"] = "rgb8",
    overwrite: bool = False,
) -> tuple[int, int]:
    """Write frames as ``sensor_msgs/Image`` messages, frame ``i`` of both cameras at ``start_stamp + i / fps``.

    Args:
        frames: pairs of (H, W, 3) uint8 colour and (h, w) uint8 or uint16 thermal; None where a camera has no frame.
        output: ``NAME.mcap`` for one lone file (what ``ros2 bag play`` and every MCAP reader open), else a bag folder.
        fps: frames per second.
        rgb_topic: topic of the colour images, frame id ``rgb_camera``.
        thermal_topic: topic of the thermal images, frame id ``thermal_camera``; encoding mono8 or mono16.
        start_stamp: seconds since the epoch, of the first frame.
        colour_order: order of the colour channels in ``frames``, and so the encoding.
        overwrite: replace a bag that lies at ``output``.

    Returns:
        Numbers of colour and of thermal images written.

    Raises:
        BagError: something is at ``output`` already, or it cannot be written.
        ValueError: ``fps`` or ``start_stamp`` out of range, one topic for both, or an image of another shape or dtype.
    """
    if not 0 < fps <= 1e6:
        raise ValueError(f"A frame rate of {fps} makes no time line; use a number above 0, such as 10.")
    if not 0 <= start_stamp < 2**31:
        raise ValueError(f"A start stamp of {start_stamp} s does not fit a ROS time; use 0 to {2**31 - 1}.")
    if rgb_topic == thermal_topic:
        raise ValueError(f"Both cameras would publish on {rgb_topic}; give them different topics.")
    start_ns, counts = round(start_stamp * 1e9), [0, 0]
    with BagWriter(output, overwrite=overwrite) as bag:
        for topic in (rgb_topic, thermal_topic):
            bag.add_topic(topic, IMAGE)
        for number, (rgb, thermal) in enumerate(frames):
            stamp_ns = start_ns + round(number * 1e9 / fps)
            if rgb is not None:
                _check("colour", number, rgb, rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.dtype == np.uint8)
                bag.write(rgb_topic, stamp_ns, image_message(rgb, stamp_ns, "rgb_camera", colour_order))
                counts[0] += 1
            if thermal is not None:
                _check("thermal", number, thermal, thermal.ndim == 2 and thermal.dtype in (np.uint8, np.uint16))
                encoding = "mono8" if thermal.dtype == np.uint8 else "mono16"
                bag.write(thermal_topic, stamp_ns, image_message(thermal, stamp_ns, "thermal_camera", encoding))
                counts[1] += 1
    return counts[0], counts[1]


def image_message(image: Image, stamp_ns: int, frame_id: str, encoding: str) -> bytes:
    """CDR bytes of a ``sensor_msgs/msg/Image`` holding an (H, W) or (H, W, C) uint8 or uint16 array."""
    types: Any = typestore().types
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    pixels = np.ascontiguousarray(image, image.dtype.newbyteorder("<"))
    return serialize(
        types[IMAGE](
            header=types["std_msgs/msg/Header"](
                stamp=types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds), frame_id=frame_id
            ),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=pixels.reshape(-1).view(np.uint8),
        )
    )


def _check(kind: str, number: int, image: Image, fits: bool) -> None:
    if not fits or 0 in image.shape:
        wanted = "(H, W, 3) uint8" if kind == "colour" else "(H, W) uint8 or uint16"
        raise ValueError(f"The {kind} image of frame {number} is {image.shape} {image.dtype}; it must be {wanted}.")


def match_frames(sequence: Path) -> tuple[list[tuple[Path | None, Path | None]], str]:
    """Find the frames of ``rgb/`` and ``thermal/`` that belong together.

    Frames of the same file stem are one pair; a frame without a partner stays alone. As many frames in both folders
    but under different names are paired in their order (numbers count as numbers).

    Returns:
        Paths (RGB, thermal) in order, and a remark for the user where not all went by name, else an empty string.

    Raises:
        UserError: a folder is missing or holds no image, or nothing belongs together.
    """
    folders = [sequence / "rgb", sequence / "thermal"]
    frames: list[dict[str, Path]] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}; --sequence names a folder that holds rgb/ and thermal/.")
        frames.append({path.stem: path for path in folder.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES})
        if not frames[-1]:
            raise UserError(f"{folder} holds no image ({', '.join(sorted(_IMAGE_SUFFIXES))}); put the frames there.")
    rgb, thermal = frames
    common = rgb.keys() & thermal.keys()
    if len(common) == len(rgb) == len(thermal):
        return [(rgb[stem], thermal[stem]) for stem in sorted(rgb, key=_natural)], ""
    if len(rgb) == len(thermal) and not common:
        ordered = zip(sorted(rgb, key=_natural), sorted(thermal, key=_natural), strict=True)
        return [(rgb[a], thermal[b]) for a, b in ordered], "File names differ in rgb/ and thermal/: paired in order."
    if not common:
        raise UserError(
            f"{len(rgb)} RGB and {len(thermal)} thermal frames share no file name, so nothing tells which belong "
            "together; name the frames of a pair alike."
        )
    stems = sorted(rgb.keys() | thermal.keys(), key=_natural)
    remark = (
        f"{len(rgb)} RGB and {len(thermal)} thermal frames: paired {len(common)} by name, "
        f"{len(stems) - len(common)} stay without a partner."
    )
    return [(rgb.get(stem), thermal.get(stem)) for stem in stems], remark


def dataset_frames(
    dataset: str, source: Path, recording: str = ""
) -> tuple[list[tuple[Path | None, Path | None]], str]:
    """Find the frames of one recording of a public set, in the order of their numbers; labels are not needed.

    Args:
        dataset: a name in ``ADAPTERS``, whose module says what the folder must look like.
        source: the set's folder.
        recording: name of a sequence in it (KAIST ``set00/V000``, LLVIP ``01``, FLIR ``FLIR_video``); empty takes the
            only one.

    Returns:
        As `match_frames`. Frames follow each other without a gap: a number that is missing is told, not waited for.

    Raises:
        UserError: another layout, no such recording, or more than one to choose from.
    """
    recordings: dict[str, list[Frame]] = {}
    for frame in ADAPTERS[dataset].find(source, source):  # any folder does for the labels
        recordings.setdefault(frame.sequence, []).append(frame)
    names = sorted(recordings, key=_natural)
    chosen = recording or (names[0] if len(names) == 1 else "")
    if chosen not in recordings:
        listed = ", ".join(f"{name} ({len(recordings[name])} frames)" for name in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        wrong = f"There is no recording {recording} in {source}" if recording else f"{source} holds several recordings"
        raise UserError(f"{wrong}; choose one with --recording: {listed}{more}.")
    frames = sorted(recordings[chosen], key=lambda frame: frame.number)
    pairs = [(_existing(frame.rgb), _existing(frame.thermal)) for frame in frames]
    alone = sum(pair.count(None) for pair in pairs)
    steps = np.diff([frame.number for frame in frames])
    gaps = int((steps > np.median(steps)).sum()) if len(steps) else 0
    remarks = [f"Missing images: {alone}."] if alone else []
    remarks += [f"Gaps in the numbers: {gaps}; the frames follow each other at --fps all the same."] if gaps else []
    return pairs, " ".join(remarks)


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which frame9 comes before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def read_frames(pairs: Iterable[tuple[Path | None, Path | None]]) -> Iterator[tuple[Image | None, Image | None]]:
    """Yield (H, W, 3) uint8 images, blue first, and (h, w) uint8 or uint16 thermal images, for `make_bag_from_frames`.

    Raises:
        UserError: a file that is no readable image.
    """
    for rgb, thermal in pairs:
        yield (
            None if rgb is None else _read(rgb, cv2.IMREAD_COLOR),
            None if thermal is None else _read(thermal, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH),
        )


def _read(path: Path, flags: int) -> Image:
    image = cv2.imread(str(path), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise UserError(f"{path} cannot be read as an image; replace it or take it out of the folder.")
    return image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``make-bag``."""
    parser.add_argument(
        "--sequence", type=Path, required=True, metavar="DIR", help="folder with rgb/ and thermal/, or the set's folder"
    )
    parser.add_argument("--dataset", choices=tuple(ADAPTERS), help="DIR is a public set in its owner's layout")
    parser.add_argument("--recording", default="", help="which recording of the set; default: the only one")
    parser.add_argument("--fps", type=float, required=True, help="frames per second of the recording")
    parser.add_argument(
        "--output", type=Path, required=True, help="NAME.mcap for one lone mcap file, any other name for a bag folder"
    )
    parser.add_argument("--rgb-topic", default=RGB_TOPIC, help="default: %(default)s")
    parser.add_argument("--thermal-topic", default=THERMAL_TOPIC, help="default: %(default)s")
    parser.add_argument(
        "--start-stamp", type=float, default=START_STAMP, help="seconds, of the first frame; default: %(default)s"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a bag that is there already")


def run(args: argparse.Namespace) -> int:
    """Write the bag; 0 when it is there."""
    if args.recording and not args.dataset:
        raise UserError(f"--recording {args.recording} names a part of a public set; say which with --dataset.")
    if args.dataset:
        pairs, remark = dataset_frames(args.dataset, args.sequence, args.recording)
    else:
        pairs, remark = match_frames(args.sequence)
    if remark:
        print(remark)
    try:
        rgb, thermal = make_bag_from_frames(
            read_frames(tqdm(pairs, desc="make-bag", unit="frame")),
            args.output,
            args.fps,
            rgb_topic=args.rgb_topic,
            thermal_topic=args.thermal_topic,
            start_stamp=args.start_stamp,
            colour_order="bgr8",
            overwrite=args.overwrite,
        )
    except (BagError, ValueError) as error:
        raise UserError(str(error)) from error
    seconds = len(pairs) / args.fps
    print(f"{args.output}: {rgb} images on {args.rgb_topic}, {thermal} on {args.thermal_topic}, {seconds:.1f} s.")
    return 0
