"""A made-up RGB-thermal set in the COCO layout, small enough to train on in a test: bright rectangles on a dark
street."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmkd_train.options import TrainOptions, load_options

CATEGORIES = [
    {"id": 1, "name": "person"},
    {"id": 2, "name": "car"},
    {"id": 3, "name": "bicycle"},
    {"id": 6, "name": "truck"},
]


def write_set(root: Path, name: str, pictures: int, seed: int, thermal_only: bool = False, side: int = 96) -> Path:
    """Write ``pictures`` pairs and their annotation file; returns its path."""
    rng = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for folder in ("pairs/rgb", "pairs/thermal"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for k in range(pictures):
        rgb = rng.integers(0, 60, (side, side, 3), np.uint8)
        thermal = rng.integers(0, 60, (side, side), np.uint8)
        for _ in range(2):
            category = int(rng.integers(1, 3))
            w, h = (12, 30) if category == 1 else (34, 18)
            x, y = (int(rng.integers(0, side - s)) for s in (w, h))
            rgb[y : y + h, x : x + w] = (200, 40, 40) if category == 1 else (40, 40, 220)
            thermal[y : y + h, x : x + w] = 230 if category == 1 else 140
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": k + 1,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
        file = f"{name}_{k:03d}.png"
        if not thermal_only:
            cv2.imwrite(str(root / "pairs/rgb" / file), rgb[..., ::-1])
        cv2.imwrite(str(root / "pairs/thermal" / file), thermal)
        images.append(
            {
                "id": k + 1,
                "file_name": None if thermal_only else f"pairs/rgb/{file}",
                "thermal_file_name": f"pairs/thermal/{file}",
                "width": side,
                "height": side,
                "source": "made_up",
                "night": bool(k % 2),
            }
        )
    path = root / "annotations" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return path


def write_training_sets(root: Path, config: str) -> None:
    """The splits that a training reads: twelve pairs, three thermal pictures alone, four pairs for validation; and its
    configuration."""
    for name, count, thermal_only in (("train", 12, False), ("train_thermal_only", 3, True), ("val", 4, False)):
        write_set(root, name, count, seed=count, thermal_only=thermal_only)
    (root / "config.yaml").write_text(config)


def training_options(root: Path, output: Path, *overrides: str) -> TrainOptions:
    """The configuration that ``write_training_sets`` left, with overrides."""
    return load_options(root / "config.yaml", [f"data.root={root}", f"output={output}", *overrides])


def change(path: Path, **edits: Any) -> Path:
    """Rewrite a set's JSON: ``images=f`` or ``annotations=f`` with f applied to the list in place."""
    content = json.loads(path.read_text())
    for key, edit in edits.items():
        edit(content[key])
    path.write_text(json.dumps(content))
    return path
