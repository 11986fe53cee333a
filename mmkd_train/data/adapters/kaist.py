"""KAIST Multispectral Pedestrian (Hwang et al., CVPR 2015): 12 drives, 640x512, 20 frames/s, persons only.

    images/set00/V000/{visible,lwir}/I00000.jpg
    annotations-xml-new/set00/V000/I00000.xml, or annotations/set00/V000/I00000.txt ("% bbGt version=3")

Sets 00-05 are the published training part, 06-11 the test part; 00-02 and 06-08 are day, the others night. An object
is a "person" that is not heavily occluded; "people" (a group), "person?" (undecided) and "cyclist" (a box around rider
and bicycle) are regions to ignore, as in the owner's protocol.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmkd_train.data.adapters.layout import Adapter, Box, Frame, LabelError, number_of, read_voc, require, stems
from mmkd_train.errors import UserError

_TRAIN = ("set00", "set01", "set02", "set03", "set04", "set05")
_DAY = ("set00", "set01", "set02", "set06", "set07", "set08")
_SETS = (*_TRAIN, "set06", "set07", "set08", "set09", "set10", "set11")
_LABELS = ("annotations-xml-new", "annotations")
_HEAVY = 2  # occlusion: 0 none, 1 partial, 2 heavy


def find(source: Path, labels: Path | None) -> list[Frame]:
    """Frames of the drives that are there; the sequence is ``set00/V000``."""
    require(source, ("images",), "KAIST")
    usual = next((source / name for name in _LABELS if (source / name).is_dir()), source / _LABELS[0])
    label_folder = labels or usual
    require(label_folder, (), f"the folder of KAIST's labels ({' or '.join(_LABELS)})")
    drives = sorted(path for name in _SETS for path in (source / "images" / name).glob("V*") if path.is_dir())
    if not drives:
        raise UserError(f"{source / 'images'} has no drive (set00/V000 ...); give the folder that holds images/.")
    frames = []
    for drive in drives:
        require(drive, ("visible", "lwir"), "a drive of KAIST")
        part, sequence = drive.parent.name, f"{drive.parent.name}/{drive.name}"
        for stem in stems(drive / "visible", drive / "lwir"):
            xml = label_folder / sequence / f"{stem}.xml"
            frames.append(
                Frame(
                    "train" if part in _TRAIN else "test",
                    sequence,
                    number_of(stem, "the picture"),
                    drive / "visible" / f"{stem}.jpg",
                    drive / "lwir" / f"{stem}.jpg",
                    xml if xml.is_file() else xml.with_suffix(".txt"),
                    part not in _DAY,
                )
            )
    return frames


def _read_bbgt(path: Path) -> list[Box]:
    """Lines of ``label left top width height occlusion, 4 x visible part, ignore, angle`` under one header line."""
    try:
        header, *lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise LabelError("label file that is empty or no text") from error
    if not header.startswith("% bbGt version=3"):
        raise LabelError("label file without the header '% bbGt version=3'")
    boxes = []
    for line in filter(str.strip, lines):
        name, *fields = line.split()
        try:
            x, y, w, h, occlusion, _, _, _, _, ignore, _ = (float(value) for value in fields)
        except ValueError as error:
            raise LabelError("label file with a line that has not 12 fields of numbers") from error
        boxes.append(Box(name.lower(), (x, y, x + w, y + h), bool(ignore), int(occlusion)))
    return boxes


def read(path: Path, width: int, height: int) -> list[Box]:
    """Boxes of one frame; see the module on what is ignored. A file that holds only its header has no object."""
    boxes = read_voc(path, width, height) if path.suffix == ".xml" else _read_bbgt(path)
    return [replace(box, ignore=box.ignore or box.name != "person" or box.occlusion >= _HEAVY) for box in boxes]


CATEGORIES = {"person": "person", "people": "person", "person?": "person", "cyclist": "person"}
ADAPTER = Adapter(find, read, CATEGORIES)
