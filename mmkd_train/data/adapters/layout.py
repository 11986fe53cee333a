"""What all adapters share: the two records, the description of a set, and the readers of its folders and label files.

In: a set's folder. Out: :class:`Frame`, one per picture pair, and :class:`Box`, one per labelled object; nothing here
    decodes a picture.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmkd_train.errors import UserError

CLASSES = ("person", "car", "bicycle", "motorcycle", "bus", "truck")
"""The categories of a converted set; their ids are 1 to 6 in this order."""
_LISTED = 12  # entries of an unexpected folder that are shown


class LabelError(ValueError):
    """A label file that cannot be read; the message is a reason to count it by."""


@dataclass(frozen=True, slots=True)
class Box:
    """One labelled object.

    Attributes:
        name: the owner's category, lower case.
        xyxy: left, top, right, bottom in pixels, as the file has them.
        ignore: neither a hit nor a miss counts there.
        occlusion: the owner's degree, 0 where there is none.
    """

    name: str
    xyxy: tuple[float, float, float, float]
    ignore: bool = False
    occlusion: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture pair and the file of its labels; none of the three need exist.

    Attributes:
        split: "train" or "test" as the owner has it, "" if the owner has no splits.
        sequence: recording, camera view or file name prefix within which ``number`` counts up.
        number: position in the sequence; neighbours look alike.
        night: None where the owner does not say.
    """

    split: str
    sequence: str
    number: int
    rgb: Path
    thermal: Path
    label: Path
    night: bool | None = None


@dataclass(frozen=True, slots=True)
class Adapter:
    """How one public set is laid out.

    Attributes:
        find: (source folder, label folder or None) -> frames; UserError for a folder of another layout.
        read: (label file, picture width, picture height) -> boxes; LabelError if it cannot.
        categories: the owner's names in lower case -> ours; what is absent is left out and counted.
        block: frames whose number // block agrees belong together; 0 = the whole sequence does.
        guard: a frame of a split made here keeps at least so many numbers away from the other splits.
    """

    find: Callable[[Path, Path | None], list[Frame]]
    read: Callable[[Path, int, int], list[Box]]
    categories: Mapping[str, str]
    block: int = 0
    guard: int = 0


def require(folder: Path, names: Iterable[str], layout: str) -> None:
    """Refuse a folder in which any of ``names`` (relative paths) is absent, listing what was looked for and found."""
    wanted = list(names)
    missing = [name for name in wanted if not (folder / name).exists()]
    if folder.is_dir() and not missing:
        return
    listed = folder if folder.is_dir() else folder.parent
    found = sorted(path.name + "/" * path.is_dir() for path in listed.iterdir()) if listed.is_dir() else []
    shown = ", ".join(found[:_LISTED]) + (f" and {len(found) - _LISTED} more" if len(found) > _LISTED else "")
    if not folder.is_dir():
        raise UserError(f"{folder} should be {layout}, but is not a folder; {listed} holds {shown or 'nothing'}.")
    raise UserError(
        f"{folder} is not {layout}: looked for {', '.join(wanted)}; missing {', '.join(missing)}; "
        f"found {shown or 'nothing'}. Give the folder that holds these."
    )


def stems(*folders: Path) -> list[str]:
    """Names without extension of all pictures in any of the folders, sorted; so a picture without partner shows up."""
    names = {
        path.stem
        for folder in folders
        for path in folder.iterdir()
        if path.suffix.lower() in (".jpg", ".jpeg", ".png") and not path.name.startswith(".")
    }
    return sorted(names)


def number_of(stem: str, what: str) -> int:
    """The digits of a file name as a number; UserError if there are none."""
    digits = "".join(filter(str.isdigit, stem))
    if not digits:
        raise UserError(f"{what} '{stem}' has no number in its name; its neighbours cannot be told. Is it of this set?")
    return int(digits)


def _number(element: ElementTree.Element, name: str, default: float | None = None) -> float:
    text = element.findtext(name)
    if text is None and default is not None:
        return default
    try:
        return float(text or "")
    except ValueError as error:
        raise LabelError(f"label file with <{name}> that is absent or no number") from error


def read_voc(path: Path, width: int, height: int) -> list[Box]:
    """A PASCAL VOC file; ``bndbox`` holds xmin, ymin, xmax, ymax, or KAIST's x, y, w, h. ``difficult`` is ignored.

    Raises:
        LabelError: no XML, a box without numbers, or a stated size that is not the picture's.
    """
    try:
        # The files come from the set's owner, and expat since 2.4.1 refuses entities that expand without end.
        root = ElementTree.parse(path).getroot()  # noqa: S314
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise LabelError("label file that is no XML") from error
    size = root.find("size")
    if size is not None:
        stated = (_number(size, "width", 0), _number(size, "height", 0))
        if all(stated) and stated != (width, height):
            raise LabelError("label file made for a picture of another size")
    boxes = []
    for item in root.iter("object"):
        box = item.find("bndbox")
        if box is None:
            raise LabelError("label file with an object without bndbox")
        if box.find("xmin") is not None:
            x1, y1, x2, y2 = (_number(box, name) for name in ("xmin", "ymin", "xmax", "ymax"))
        else:
            x1, y1, w, h = (_number(box, name) for name in ("x", "y", "w", "h"))
            x2, y2 = x1 + w, y1 + h
        name = (item.findtext("name") or "").strip().lower()
        difficult, occlusion = _number(item, "difficult", 0), _number(item, "occlusion", 0)
        boxes.append(Box(name, (x1, y1, x2, y2), bool(difficult), int(occlusion)))
    return boxes
