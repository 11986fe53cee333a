"""M3FD detection part (Liu et al., CVPR 2022): 4200 pairs, most of 1024x768, day, overcast and night.

    Vis/00000.png   Ir/00000.png   Annotation/00000.xml

The owner publishes no splits, and frames of one scene have neighbouring numbers, so random splits leak: test and
validation are blocks of numbers here, with a gap around them. Figures are not comparable to papers on random splits.
"""

from __future__ import annotations

from pathlib import Path

from mmkd_train.data.adapters.layout import Adapter, Frame, number_of, read_voc, require, stems


def find(source: Path, labels: Path | None) -> list[Frame]:
    """All frames as one sequence without a split; day or night is not stated."""
    label_folder = labels or source / "Annotation"
    require(source, ("Vis", "Ir"), "M3FD")
    require(label_folder, (), "the folder of M3FD's labels")
    return [
        Frame(
            "",
            "m3fd",
            number_of(stem, "the picture"),
            source / "Vis" / f"{stem}.png",
            source / "Ir" / f"{stem}.png",
            label_folder / f"{stem}.xml",
        )
        for stem in stems(source / "Vis", source / "Ir")
    ]


# "lamp" (a street lamp) has no class here.
CATEGORIES = {"people": "person", "car": "car", "bus": "bus", "motorcycle": "motorcycle", "truck": "truck"}
ADAPTER = Adapter(find, read_voc, CATEGORIES, block=100, guard=10)
