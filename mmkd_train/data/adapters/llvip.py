"""LLVIP (Jia et al., ICCVW 2021): street surveillance, mostly in the dark, 1280x1024, persons only.

    visible/{train,test}/010001.jpg   infrared/{train,test}/010001.jpg   Annotations/010001.xml

The first two digits of a name are the recording, in which frames are consecutive. Cars and two-wheelers are in view
but not labelled: ``PARTIAL_SOURCES`` says so to training and scoring. Two recordings may share a camera view.
"""

from __future__ import annotations

from pathlib import Path

from mmkd_train.data.adapters.layout import Adapter, Frame, number_of, read_voc, require, stems


def find(source: Path, labels: Path | None) -> list[Frame]:
    """Frames of both published splits; day or night is not stated per picture."""
    label_folder = labels or source / "Annotations"
    folders = [f"{kind}/{split}" for kind in ("visible", "infrared") for split in ("train", "test")]
    require(source, folders, "LLVIP")
    require(label_folder, (), "the folder of LLVIP's labels")
    return [
        Frame(
            split,
            stem[:2],
            number_of(stem, "the picture"),
            source / "visible" / split / f"{stem}.jpg",
            source / "infrared" / split / f"{stem}.jpg",
            label_folder / f"{stem}.xml",
        )
        for split in ("train", "test")
        for stem in stems(source / "visible" / split, source / "infrared" / split)
    ]


CATEGORIES = {"person": "person"}
ADAPTER = Adapter(find, read_voc, CATEGORIES)
