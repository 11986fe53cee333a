"""`inspect`: counts that can be checked by hand, shifts that are known, and a sheet that shows what it should."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up import change, write_set
from numpy.typing import NDArray

from mmkd_train.__main__ import main
from mmkd_train.data.adapters import CLASSES
from mmkd_train.data.coco import CocoPairs, LabelRules, Sample
from mmkd_train.inspect_set import Shift, describe_labels, describe_pictures, estimate_shift
from mmkd_train.inspect_sheet import Entry, draw_sheet, edge_overlay


def street(seed: int, height: int = 256, width: int = 320) -> NDArray[np.uint8]:
    """(height, width) rectangles and lines of random brightness."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width), 90, np.uint8)
    for _ in range(40):
        x, y, w, h = (int(v) for v in rng.integers((0, 0, 8, 8), (width, height, 60, 60)))
        cv2.rectangle(image, (x, y), (x + w, y + h), int(rng.integers(0, 255)), -1)
    return image


def in_other_band(image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """The same edges with brightness reversed, compressed and noisy, as a thermal camera may see them."""
    noise = np.random.default_rng(seed).normal(0, 4, image.shape)
    return (200 - 0.5 * image + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (9, -4), (-14, 11)])
def test_a_known_shift_is_found_in_the_pictures_own_pixels(dx: int, dy: int) -> None:
    wide = street(0, 600, 720)
    rgb = np.repeat(wide[44:556, 40:680, None], 3, axis=2)
    # Thermal shows the scene further left and up by (dx, dy): it has to move right and down by as much.
    thermal = in_other_band(wide[44 + dy : 556 + dy, 40 + dx : 680 + dx], 1)
    shift = estimate_shift(rgb, thermal)
    assert shift.clear
    assert abs(shift.dx - dx) <= 2 and abs(shift.dy - dy) <= 2  # a field pixel is two of these


def test_unrelated_pictures_give_no_clear_shift() -> None:
    shifts = [estimate_shift(np.repeat(street(k)[..., None], 3, axis=2), street(50 + k)) for k in range(8)]
    assert not any(shift.clear for shift in shifts)
    flat = estimate_shift(np.zeros((64, 80, 3), np.uint8), np.zeros((64, 80), np.uint8))
    assert not flat.clear


def test_misalignment_in_words() -> None:
    shifted = [Shift(8.0, -1.0, 9.0)] * 9 + [Shift(-30.0, 30.0, 1.0), None]
    text = "\n".join(describe_pictures(shifted, Counter(uint8=10, uint16=1), 640.0))
    assert "a clear estimate in 9 of 10 pairs" in text  # the unclear one moves nothing
    assert "right by +8.0 pixels (median), +8.0 to +8.0" in text and "down by -1.0" in text
    assert "SHIFTED by 1.2%" in text and "MIXED" in text
    text = "\n".join(describe_pictures([Shift(30.0, 0.0, 1.0)] * 4, Counter(uint8=4), 640.0))
    assert "in 0 of 4 pairs" in text and "Too few clear estimates" in text
    assert "SHIFTED" not in text and "MIXED" not in text


def test_counts(tmp_path: Path) -> None:
    path = write_set(tmp_path, "a", 3, 0, side=208)  # a network input of 320x416 enlarges 208 by 320/208

    def boxes(annotations: list[dict[str, object]]) -> None:
        del annotations[3:]
        annotations[0].update(image_id=1, category_id=1, bbox=[0, 0, 13, 13])  # side 20 in the network
        annotations[1].update(image_id=1, category_id=2, bbox=[0, 0, 26, 104])  # side 80
        annotations[2].update(image_id=2, category_id=2, bbox=[0, 0, 0, 9])

    change(path, annotations=boxes, images=lambda images: images[2].pop("night"))
    lines = describe_labels(CocoPairs(path, tmp_path, LabelRules.for_classes(CLASSES)), 320, 416)
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "3 pictures, 2 without a box, 0 thermal only" in text
    for line in ("day 1 pictures 33%", "night 1 pictures 33%", "not stated 1 pictures", "made_up 3 pictures 100%"):
        assert line in text
    assert "person 1 boxes 50%" in text and "car 1 boxes 50%" in text and "truck 0 boxes 0%" in text
    assert "16-32 1 boxes" in text and "64-128 1 boxes" in text and "32-64 0 boxes" in text
    assert "1 x box of zero area or outside the image" in text


def test_edges_coincide_in_white_and_part_in_red_and_cyan() -> None:
    image = np.zeros((60, 80), np.uint8)
    image[20:40, 20:40] = 200
    rgb = np.repeat(image[..., None], 3, axis=2)
    together = edge_overlay(rgb, image)
    assert (together[30, 20] > 200).all() and (together[30, 30] == 0).all()
    apart = edge_overlay(rgb, np.roll(image, 12, axis=1))
    assert apart[30, 20, 2] > 200 and (apart[30, 20, :2] == 0).all()  # blue, green, red
    assert apart[30, 32, 2] == 0 and (apart[30, 32, :2] > 200).all()
    assert not edge_overlay(None, image)[..., 2].any() and not edge_overlay(rgb, None)[..., 0].any()


def test_the_sheet_shows_the_boxes_in_all_three_columns() -> None:
    grey = np.full((128, 160), 60, np.uint8)
    boxes = np.array([[20, 30, 60, 90]], np.float32)
    labels, no, all_classes = np.zeros(1, np.int64), np.zeros(1, bool), np.ones(6, bool)
    both = Sample(np.repeat(grey[..., None], 3, axis=2), grey, boxes, labels, no, all_classes)
    lone = Sample(None, grey, boxes, labels, ~no, all_classes)
    sheet = draw_sheet([Entry(both, "both"), Entry(lone, "thermal only"), Entry(both, "third")], CLASSES)
    assert sheet.shape == (30 + 2 * (20 + 256 + 4), 2 * (3 * 320 + 8) + 12, 3)
    y = 30 + 20 + 2 * 60
    for column in range(3):
        left = column * 324
        assert sheet[y, left + 40].tolist() == [80, 220, 255]  # the colour of persons at the box's left side, twice 20
        assert sheet[y, 980 + left + 40].tolist() == [150, 150, 150]  # ignored
    assert sheet[y, 200].tolist() == [60, 60, 60] and sheet[y, 980 + 200].tolist() == [0, 0, 0]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_set(tmp_path, "a", 5, 0)
    thermal = tmp_path / "pairs/thermal/a_000.png"
    cv2.imwrite(str(thermal), np.full((96, 96), 3000, np.uint16))
    options = ["--root", str(tmp_path), "--output", str(tmp_path / "out")]
    command = ["inspect", "--annotations", str(path), *options]
    assert main([*command, "--pictures", "2"]) == 0
    text = capsys.readouterr().out
    assert "MIXED" in text and "4 x uint8" in text and "1 x uint16" in text and "sheet.jpg: 2 pictures" in text
    sheet = cv2.imread(str(tmp_path / "out/sheet.jpg"))
    assert sheet is not None and sheet.shape[0] == 30 + 20 + 256 + 4

    assert main([*command, "--pictures", "0"]) == 2 and "need 1 <= pictures" in capsys.readouterr().err
    change(path, images=lambda images: images[1].update(width=50))
    assert main(command) == 0 and "WRONG SIZES: 1 pictures" in capsys.readouterr().out
    change(path, images=lambda images: images[1].update(width=0))
    assert main(command) == 2 and "states no width and height" in capsys.readouterr().err
    thermal.write_bytes(b"no picture")
    change(path, images=lambda images: images[1].update(width=96))
    assert main(command) == 2 and "cannot be decoded" in capsys.readouterr().err
    change(path, images=lambda images: images.clear())
    assert main(command) == 2 and "lists no image" in capsys.readouterr().err


def test_recorded_pairs_are_aligned(shared_data: Path) -> None:
    dataset = CocoPairs(shared_data / "annotations/val.json", shared_data, LabelRules.for_classes(CLASSES))
    shifts = []
    for position in range(0, len(dataset), 6):
        sample = dataset[position]
        if sample.rgb is not None and sample.thermal is not None:
            shifts.append(estimate_shift(sample.rgb, sample.thermal))
    clear = [shift for shift in shifts if shift.clear]
    assert len(clear) >= 0.7 * len(shifts)
    assert max(max(abs(shift.dx), abs(shift.dy)) for shift in clear) <= 8
