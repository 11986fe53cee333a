"""``synthesize`` writes a COCO-format set like the real pairs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import pytest

from mmkd_train.data import synthetic
from mmkd_train.errors import UserError


def synthesize(output: Path, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    synthetic.add_arguments(parser)
    return synthetic.run(parser.parse_args(["--output", str(output), *arguments]))


def test_it_writes_pairs_and_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert synthesize(tmp_path, "--scenes", "2", "--frames-per-scene", "2", "--seed", "7", "--size", "128x160") == 0
    assert "4 pairs" in capsys.readouterr().out
    data = json.loads((tmp_path / "annotations" / "synthetic.json").read_text(encoding="utf-8"))
    assert [category["name"] for category in data["categories"]] == list(synthetic.CLASS_NAMES)
    assert len(data["images"]) == 4 and data["annotations"]
    assert len({image["group"] for image in data["images"]}) == 2
    for image in data["images"]:
        assert image["source"] == "synthetic" and isinstance(image["night"], bool)
        for key, channels in (("file_name", 3), ("thermal_file_name", 1)):
            picture = cv2.imread(str(tmp_path / image[key]), cv2.IMREAD_UNCHANGED)
            assert picture.shape[:2] == (image["height"], image["width"]) == (128, 160)
            assert (picture.shape[2] if picture.ndim == 3 else 1) == channels
    ids = [annotation["id"] for annotation in data["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    for annotation in data["annotations"]:
        x, y, w, h = annotation["bbox"]
        width, height = sizes[annotation["image_id"]]
        assert w > 0 and h >= 8 and x >= 0 and y >= 0 and x + w <= width and y + h <= height
        assert annotation["area"] == w * h and annotation["iscrowd"] == 0 and annotation["track_id"] > 0


def test_colours_are_not_swapped(tmp_path: Path) -> None:
    synthesize(
        tmp_path, "--scenes", "1", "--seed", "3", "--size", "128x160", "--camera", "static", "--time-of-day", "day"
    )
    data = json.loads((tmp_path / "annotations" / "synthetic.json").read_text(encoding="utf-8"))
    stored = cv2.imread(str(tmp_path / data["images"][0]["file_name"]))[:, :, ::-1]
    options = synthetic.SceneOptions(seed=3, width=160, height=128, time_of_day="day", min_box_px=8.0)
    rendered = synthetic.SyntheticScene(options).frame(0).rgb
    assert abs(stored.astype(int) - rendered).mean() < 8


def test_wrong_arguments_are_refused_with_a_sentence(tmp_path: Path) -> None:
    for arguments, word in (
        (("--scenes", "0"), "scenes"),
        (("--size", "big"), "size"),
        (("--size", "8x8"), "pixels"),
        (("--name", "a/b"), "name"),
        (("--seed", "-3", "--size", "128x160"), "seed"),
        (("--min-box", "0", "--size", "128x160"), "min_box_px"),
    ):
        with pytest.raises(UserError, match=word):
            synthesize(tmp_path / "out", *arguments)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "synthetic.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="exists already"):
        synthesize(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write"):
        synthesize(tmp_path / "file", "--size", "128x160")
