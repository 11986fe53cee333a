"""The data set reader: what it finds, what it leaves out and counts, what it refuses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up import change, write_set

from mmkd_train.data.coco import CocoPairs, LabelRules
from mmkd_train.errors import UserError

RULES = LabelRules(("person", "car"), merge={"truck": "car"}, partial={"persons_only": ("person",)})


def test_a_sample_has_both_pictures_and_its_boxes(tmp_path: Path) -> None:
    dataset = CocoPairs(write_set(tmp_path, "a", 3, 0), tmp_path, RULES)
    sample = dataset[1]
    assert len(dataset) == 3 and sample.size == (96, 96)
    assert sample.rgb is not None and sample.thermal is not None
    assert sample.boxes.shape == (2, 4) and sample.boxes.dtype == np.float32
    x1, y1, x2, y2 = sample.boxes[1].astype(int)
    red, blue = sample.rgb[y1:y2, x1:x2, 0].mean(), sample.rgb[y1:y2, x1:x2, 2].mean()
    assert (red > blue) == (sample.labels[1] == 0)  # persons are red, cars blue: channels are in RGB order
    assert dataset.pair(1).modality == "both"


def test_names_relative_to_the_picture_folders(tmp_path: Path) -> None:
    path = write_set(tmp_path, "a", 2, 0)

    def shorten(images: list[dict[str, object]]) -> None:
        for image in images:
            image["file_name"] = Path(str(image["file_name"])).name
            del image["thermal_file_name"]  # then the thermal picture has the RGB's name

    dataset = CocoPairs(change(path, images=shorten), tmp_path, RULES)
    assert dataset[0].thermal is not None and dataset[0].thermal.ndim == 2


def test_thermal_only_pictures(tmp_path: Path) -> None:
    sample = CocoPairs(write_set(tmp_path, "t", 1, 0, thermal_only=True), tmp_path, RULES)[0]
    assert sample.rgb is None and sample.thermal is not None


def test_merged_partial_and_crowd_labels(tmp_path: Path) -> None:
    path = write_set(tmp_path, "a", 1, 0)

    def edit(annotations: list[dict[str, object]]) -> None:
        annotations[0]["category_id"] = 6
        annotations[1]["iscrowd"] = 1

    change(path, annotations=edit, images=lambda images: images[0].update(source="persons_only"))
    sample = CocoPairs(path, tmp_path, RULES)[0]
    assert sample.labels[0] == 1  # a truck is a car
    assert sample.ignore.tolist() == [False, True]
    assert sample.labelled.tolist() == [True, False]


@pytest.mark.parametrize(
    ("edit", "flaw"),
    [
        ({"bbox": [5, 5, 0, 10]}, "box of zero area or outside the image"),
        ({"bbox": [500, 5, 10, 10]}, "box of zero area or outside the image"),
        ({"bbox": [float("nan"), 5, 10, 10]}, "box with NaN or infinity"),
        ({"category_id": 77}, "unknown category"),
        ({"category_id": 3}, "category 'bicycle' left out"),
    ],
)
def test_flawed_boxes_are_left_out_and_counted(tmp_path: Path, edit: dict[str, object], flaw: str) -> None:
    path = change(write_set(tmp_path, "a", 1, 0), annotations=lambda annotations: annotations[0].update(edit))
    dataset = CocoPairs(path, tmp_path, RULES)
    assert dict(dataset.flaws) == {flaw: 1}
    assert len(dataset[0].boxes) == 1


def test_pictures_are_kept_up_to_the_budget(tmp_path: Path) -> None:
    path = write_set(tmp_path, "a", 3, 0)
    dataset = CocoPairs(path, tmp_path, RULES, cache_bytes=2 * 96 * 96 * 4)
    first = [dataset[position].rgb for position in range(3)]
    again = [dataset[position].rgb for position in range(3)]
    assert [a is b for a, b in zip(first, again, strict=True)] == [True, True, False]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True) if a is not None and b is not None)


def test_a_picture_with_boxes_needs_a_size(tmp_path: Path) -> None:
    path = change(write_set(tmp_path, "a", 1, 0), images=lambda images: images[0].pop("width"))
    with pytest.raises(UserError, match="image 1 has boxes but no width"):
        CocoPairs(path, tmp_path, RULES)


def test_unusable_sets_are_refused_by_name(tmp_path: Path) -> None:
    path = write_set(tmp_path, "a", 1, 0)
    (tmp_path / "pairs/thermal/a_000.png").rename(tmp_path / "kept.png")
    with pytest.raises(UserError, match="thermal_file_name 'pairs/thermal/a_000.png'"):
        CocoPairs(path, tmp_path, RULES)
    cv2.imwrite(str(tmp_path / "pairs/thermal/a_000.png"), np.zeros((50, 96), np.uint8))
    with pytest.raises(UserError, match="96x50, its RGB partner 96x96"):
        CocoPairs(path, tmp_path, RULES)[0]
    (tmp_path / "pairs/thermal/a_000.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be decoded"):
        CocoPairs(path, tmp_path, RULES)[0]
    with pytest.raises(UserError, match="not a COCO annotation file"):
        CocoPairs(tmp_path / "none.json", tmp_path, RULES)
    with pytest.raises(UserError, match="lists no image"):
        CocoPairs(change(path, images=lambda images: images.clear()), tmp_path, RULES)
