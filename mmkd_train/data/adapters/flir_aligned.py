"""FLIR ADAS "aligned" (Zhang et al., 2020): the 2018 FLIR ADAS pairs whose RGB picture was warped onto the thermal one.

    align/ JPEGImages/FLIR_00002_RGB.jpg, FLIR_00002_PreviewData.jpeg     Annotations/FLIR_00002_PreviewData.xml
           align_train.txt, align_validation.txt: one name per line, with or without _PreviewData

Boxes were drawn on thermal. "bicycle" includes motorcycles; other vehicles (trucks, buses) are not labelled. The
published validation list is our test split.
"""

from __future__ import annotations

from pathlib import Path

from mmkd_train.data.adapters.layout import Adapter, Frame, number_of, read_voc, require
from mmkd_train.errors import UserError

_LISTS = {"train": "align_train.txt", "test": "align_validation.txt"}


def find(source: Path, labels: Path | None) -> list[Frame]:
    """Frames of both lists; a sequence is a name prefix (``FLIR``, ``FLIR_video``), sampled at about 2 frames/s."""
    label_folder = labels or source / "Annotations"
    require(source, ("JPEGImages", *_LISTS.values()), "FLIR ADAS aligned")
    require(label_folder, (), "the folder of FLIR's labels")
    frames = []
    for split, file in _LISTS.items():
        for line in (source / file).read_text().splitlines():
            stem = line.strip().removesuffix("_PreviewData").removesuffix("_RGB")
            if not stem:
                continue
            pictures = source / "JPEGImages"
            frames.append(
                Frame(
                    split,
                    stem.rstrip("0123456789").rstrip("_"),
                    number_of(stem, "the entry"),
                    pictures / f"{stem}_RGB.jpg",
                    pictures / f"{stem}_PreviewData.jpeg",
                    label_folder / f"{stem}_PreviewData.xml",
                )
            )
    if not frames:
        raise UserError(f"{' and '.join(_LISTS.values())} in {source} list no picture; restore them.")
    return frames


# "dog" has no class here.
CATEGORIES = {"person": "person", "car": "car", "bicycle": "bicycle"}
ADAPTER = Adapter(find, read_voc, CATEGORIES, block=200, guard=40)
