"""MSRS (Tang et al., 2022): 1444 pairs of MFNet's drives, 640x480, day (D) and night (N).

    {train,test}/{vi,ir}/00001D.png    and, from the public repository MSRS-detection-label, three lists a picture:
    MSRS-detection-label/{fusion,infrared,visible}/{train,test}/00001D.txt, lines "class x_centre y_centre width height"
    in shares of the picture

The owner publishes segmentation masks, not boxes. Boxes are not derived from the masks: persons side by side and parked
cars are one connected region there. Of the lists, "fusion" was drawn where both cameras are seen and gives the objects
(6,402). What only another list has (2,647, mostly persons that one camera alone shows, and all of 35 pictures whose
fusion list is empty) is a region to ignore. "car" includes vans, trucks and buses.

The published test frames lie between the training frames of the same drives, so test figures flatter. Validation is
kept away from training, but cannot be kept away from test.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmkd_train.data.adapters.layout import Adapter, Box, Frame, LabelError, number_of, require, stems

_LISTS = ("fusion", "infrared", "visible")
_SAME_IOU = 0.4  # boxes of one class in two lists that overlap by more are one object
_NAMES = {"0": "person", "1": "bicycle", "2": "car"}  # the label repository's classes.txt


def find(source: Path, labels: Path | None) -> list[Frame]:
    """Frames of both published splits; the letter after the number tells day from night."""
    require(source, [f"{split}/{kind}" for split in ("train", "test") for kind in ("vi", "ir")], "MSRS")
    label_folder = labels or source / "MSRS-detection-label"
    lists = [f"{name}/{split}" for name in _LISTS for split in ("train", "test")]
    require(label_folder, lists, "MSRS-detection-label, the boxes of MSRS (see --labels)")
    return [
        Frame(
            split,
            "msrs",
            number_of(stem, "the picture"),
            source / split / "vi" / f"{stem}.png",
            source / split / "ir" / f"{stem}.png",
            label_folder / "fusion" / split / f"{stem}.txt",
            {"D": False, "N": True}.get(stem[-1]),
        )
        for split in ("train", "test")
        for stem in stems(source / split / "vi", source / split / "ir")
    ]


def _read_list(path: Path, width: int, height: int) -> list[Box]:
    boxes = []
    try:
        for line in filter(str.strip, path.read_text().splitlines()):
            label, *fields = line.split()
            x, y, w, h = (float(value) for value in fields)
            corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            boxes.append(Box(_NAMES.get(label, label), corners))
    except (OSError, ValueError) as error:
        raise LabelError("list that is missing, or has a line that is not a class and four numbers") from error
    return boxes


def _same(one: Box, other: Box) -> bool:
    """Whether two boxes have one class and overlap by more than the limit."""
    (a1, b1, a2, b2), (c1, d1, c2, d2) = one.xyxy, other.xyxy
    shared = max(0.0, min(a2, c2) - max(a1, c1)) * max(0.0, min(b2, d2) - max(b1, d1))
    together = (a2 - a1) * (b2 - b1) + (c2 - c1) * (d2 - d1) - shared
    return one.name == other.name and shared > _SAME_IOU * together


def read(path: Path, width: int, height: int) -> list[Box]:
    """Boxes of one frame in pixels: the fusion list's, then what only another list has, to ignore.

    Args:
        path: the frame's fusion list; the others lie beside it.
    """
    boxes = _read_list(path, width, height)
    for name in _LISTS[1:]:
        for box in _read_list(path.parents[2] / name / path.parent.name / path.name, width, height):
            if not any(_same(box, known) for known in boxes):
                boxes.append(replace(box, ignore=True))
    return boxes


CATEGORIES = {"person": "person", "bicycle": "bicycle", "car": "car"}
ADAPTER = Adapter(find, read, CATEGORIES, block=50, guard=5)
