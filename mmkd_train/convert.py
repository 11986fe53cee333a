"""``convert``: the folder of a public RGB-thermal set -> the annotation files that training and evaluation read.

In: the set as its owner publishes it, and :data:`mmkd_train.data.adapters.ADAPTERS`. Out: train.json, val.json and
test.json in ``annotations/``, as :mod:`mmkd_train.data.coco` reads them. Pictures are neither copied nor linked: names
are relative to ``--source``, which is then ``data.root``. Every picture is decoded once, so that a damaged one does not
stop a training hours later; what is flawed is left out, named and counted.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from mmkd_train.data.adapters import ADAPTERS, CLASSES, Adapter, Box, Frame, LabelError
from mmkd_train.data.adapters.split import SPLITS, SplitOptions, divide, group_of
from mmkd_train.errors import UserError

HELP = "Make the annotation files of a public RGB-thermal set from its folder as published."
_NAMED = 3  # examples of each flaw that are printed

Flaws = dict[str, list[str]]
"""What was left out -> the files, one entry per picture or box."""


class _FlawedPair(Exception):
    """A pair that cannot be used; the message is the reason to count it by."""


def _picture_size(frame: Frame) -> tuple[int, int]:
    """(width, height) of a pair whose two pictures can be decoded and agree."""
    for path, kind in ((frame.rgb, "RGB"), (frame.thermal, "thermal")):
        if not path.is_file():
            raise _FlawedPair(f"{kind} picture missing")
    rgb = cv2.imread(str(frame.rgb), cv2.IMREAD_COLOR)
    thermal = cv2.imread(str(frame.thermal), cv2.IMREAD_UNCHANGED)
    if rgb is None or thermal is None:
        raise _FlawedPair(f"{'RGB' if rgb is None else 'thermal'} picture cannot be decoded")
    if str(thermal.dtype) not in ("uint8", "uint16"):
        raise _FlawedPair("thermal picture neither 8 nor 16 bit")
    if rgb.shape[:2] != thermal.shape[:2]:
        raise _FlawedPair("thermal picture of another size than RGB")
    return rgb.shape[1], rgb.shape[0]


def _clipped(box: Box, width: int, height: int) -> list[float] | str:
    """x, y, width, height inside the picture, or why there is none."""
    if not all(math.isfinite(value) for value in box.xyxy):
        return "box with NaN or infinity"
    x1, x2 = (min(max(value, 0.0), float(width)) for value in box.xyxy[::2])
    y1, y2 = (min(max(value, 0.0), float(height)) for value in box.xyxy[1::2])
    if x2 - x1 < 1 or y2 - y1 < 1:
        return "box of zero area or outside the picture"
    return [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]


def coco_set(
    frames: Sequence[Frame], dataset: str, adapter: Adapter, root: Path, flaws: Flaws, progress: bool = True
) -> dict[str, Any]:
    """The annotation file's content for one split.

    Args:
        frames: the split's pairs.
        dataset: name of the set, the pictures' ``source``.
        adapter: reads the label files.
        root: folder that the file names become relative to.
        flaws: what is left out is added here.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for frame in tqdm(frames, desc=dataset, disable=not progress, mininterval=1):
        name = frame.rgb.relative_to(root).as_posix()
        try:
            width, height = _picture_size(frame)
            if not frame.label.is_file():
                raise _FlawedPair("label file missing")
            boxes = adapter.read(frame.label, width, height)
        except (_FlawedPair, LabelError) as error:
            flaws[str(error)].append(name)
            continue
        image = {
            "id": len(images) + 1,
            "file_name": name,
            "thermal_file_name": frame.thermal.relative_to(root).as_posix(),
            "width": width,
            "height": height,
            "source": dataset,
            "group": group_of(frame, adapter.block),
        }
        images.append(image if frame.night is None else {**image, "night": frame.night})
        for box in boxes:
            corners = _clipped(box, width, height)
            if box.name not in adapter.categories:
                flaws[f"box of category '{box.name}', which is not mapped"].append(name)
            elif isinstance(corners, str):
                flaws[corners].append(name)
            else:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": len(images),
                        "category_id": CLASSES.index(adapter.categories[box.name]) + 1,
                        "bbox": corners,
                        "area": round(corners[2] * corners[3], 2),
                        "iscrowd": int(box.ignore),
                    }
                )
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def summary(sets: dict[str, dict[str, Any]], flaws: Flaws, guarded: int) -> str:
    """Counts per split, and what was left out with some of its names."""
    lines = [f"{'split':7s}{'pairs':>7s}{'night':>7s}{'ignore':>8s}" + "".join(f"{name:>11s}" for name in CLASSES)]
    for split, content in sets.items():
        boxes = content["annotations"]
        counts = [sum(b["category_id"] == k + 1 and not b["iscrowd"] for b in boxes) for k in range(len(CLASSES))]
        lights = [image["night"] for image in content["images"] if "night" in image]
        lines.append(
            f"{split:7s}{len(content['images']):7d}{sum(lights) if lights else '?':>7}"
            f"{sum(b['iscrowd'] for b in boxes):8d}" + "".join(f"{count:11d}" for count in counts)
        )
    for flaw, names in sorted(flaws.items(), key=lambda item: -len(item[1])):
        more = ", ..." if len(set(names)) > _NAMED else ""
        lines.append(f"left out: {len(names)} x {flaw} ({', '.join(list(dict.fromkeys(names))[:_NAMED])}{more})")
    if guarded:
        lines.append(f"left out: {guarded} x pair next to another split")
    return "\n".join(lines)


def convert(
    dataset: str,
    source: Path,
    output: Path,
    options: SplitOptions,
    splits: Sequence[str] = SPLITS,
    labels: Path | None = None,
    progress: bool = True,
) -> str:
    """Write ``output/annotations/SPLIT.json`` for the asked splits.

    Args:
        dataset: a name in ``ADAPTERS``.
        source: the set's folder.
        labels: folder of the labels where it is not at its usual place in ``source``.

    Returns:
        The summary to print.

    Raises:
        UserError: another layout, files that would be overwritten, or a split without a usable pair.
    """
    adapter = ADAPTERS[dataset]
    paths = {split: output / "annotations" / f"{split}.json" for split in SPLITS if split in splits}
    for path in paths.values():
        if path.exists():
            raise UserError(f"{path} exists already; remove it or choose another --output.")
    divided, guarded = divide(adapter.find(source, labels), adapter, options)
    flaws: Flaws = defaultdict(list)
    sets = {split: coco_set(divided[split], dataset, adapter, source, flaws, progress) for split in paths}
    text = summary(sets, flaws, guarded)
    for split, content in sets.items():
        if not content["images"]:
            raise UserError(
                f"{source}: no pair for the split '{split}'; nothing was written. Change its share, or leave it out "
                f"with --splits.\n{text}"
            )
    for split, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(sets[split]) + "\n")
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    default = SplitOptions()
    parser.add_argument("--dataset", choices=tuple(ADAPTERS), required=True)
    parser.add_argument("--source", type=Path, required=True, help="the set's folder, later --root and data.root")
    parser.add_argument("--output", type=Path, required=True, help="gets annotations/{train,val,test}.json")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS), help="what to write")
    parser.add_argument("--labels", type=Path, help="folder of the labels, if it is not in the source folder")
    parser.add_argument("--val", type=float, default=default.val, help="share of the published training part")
    parser.add_argument("--test", type=float, default=default.test, help="share, for sets without a published test")
    parser.add_argument("--every", type=int, default=default.every, help="keep each so manieth frame of a sequence")
    parser.add_argument("--seed", type=int, default=default.seed, help="draws the groups of val and test")


def run(args: argparse.Namespace) -> int:
    """Convert and print the summary."""
    try:
        options = SplitOptions(args.val, args.test, args.every, args.seed)
    except ValueError as error:
        raise UserError(str(error)) from error
    print(convert(args.dataset, args.source, args.output, options, args.splits, args.labels))
    print(f"{args.output / 'annotations'}: check the pairs with `inspect --root {args.source}` before training.")
    return 0
