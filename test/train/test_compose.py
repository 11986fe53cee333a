"""Pictures out of several: what is pasted is labelled and seen, what was there stays, four scenes keep their boxes."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import change, training_options, write_training_sets

from mmkd_train.batches import StepBatches
from mmkd_train.data.augment import AugmentOptions, random_view
from mmkd_train.data.coco import Sample
from mmkd_train.data.compose import Paster, mosaic
from mmkd_train.data.crops import ObjectCrop, read_object_crops
from mmkd_train.errors import UserError

CLASSES = ("person", "car")
CONFIG = """
train_size: [160, 192]
model: {backbone: mobilenetv3_small_050, class_names: [person, car], bifpn_channels: 16, bifpn_repeats: 1}
data: {pairs_per_batch: 4, thermal_only_per_batch: 1, synthetic_per_batch: 0, crops: crops.tar}
"""


def crop(name: str = "car", night: bool = False, value: int = 255, size: tuple[int, int] = (20, 30)) -> ObjectCrop:
    return ObjectCrop(np.full((*size, 3), value, np.uint8), np.full(size, value, np.uint8), name, night, 1)


def street(level: int = 120) -> Sample:
    """A grey picture with a black person."""
    rgb, thermal = np.full((120, 160, 3), level, np.uint8), np.full((120, 160), level, np.uint8)
    rgb[60:100, 70:90], thermal[60:100, 70:90] = 0, 0
    box = np.array([[70, 60, 90, 100]], np.float32)
    return Sample(rgb, thermal, box, np.array([0]), np.array([False]), np.array([True, True]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_pasted_is_labelled_and_seen_and_hides_nothing(seed: int) -> None:
    before = street()
    after = Paster([crop()], CLASSES)(before, 4.0, np.random.default_rng(seed))
    assert after.rgb is not None and after.thermal is not None
    np.testing.assert_array_equal(before.rgb, street().rgb)  # the kept picture is not touched
    np.testing.assert_array_equal(after.boxes[0], before.boxes[0])
    assert after.labels.tolist() == [0] + [1] * (len(after.boxes) - 1) and not after.ignore.any()
    for x1, y1, x2, y2 in after.boxes[1:].astype(int):
        assert 0 <= x1 < x2 <= 160 and 0 <= y1 < y2 <= 120
        middle = (y1 + y2) // 2, (x1 + x2) // 2
        assert after.rgb[middle].min() > 120 and after.thermal[middle] > 120
    person = after.rgb[62:98, 72:88, 0]
    assert (person == 0).mean() > 0.6  # a tenth may be covered by each of several


def test_a_crop_comes_as_often_as_asked_and_only_by_its_time_of_day() -> None:
    rng = np.random.default_rng(0)
    paster = Paster([crop(night=False), crop("person", night=True), crop("unicorn")], CLASSES)
    by_day = [paster(street(), 1.0, rng).labels[1:] for _ in range(300)]
    assert np.mean([len(labels) for labels in by_day]) == pytest.approx(1.0, abs=0.2)
    assert set(np.concatenate(by_day)) == {1}
    assert set(np.concatenate([paster(street(20), 1.0, rng).labels[1:] for _ in range(50)])) == {0}


def test_only_labelled_classes_and_whole_pairs_get_objects() -> None:
    rng, paster = np.random.default_rng(0), Paster([crop()], CLASSES)
    persons_only = replace(street(), labelled=np.array([True, False]))
    thermal_only = replace(street(), rgb=None)
    for sample in (persons_only, thermal_only):
        assert paster(sample, 5.0, rng) is sample


def test_seams_without_objects_are_pasted_too() -> None:
    """In a picture of stripes some of the change lies outside every box."""
    stripes = street()
    stripes.rgb[:, ::4] = 200  # type: ignore[index]
    after = Paster([crop()], CLASSES)(stripes, 3.0, np.random.default_rng(1))
    changed = (after.rgb != stripes.rgb).any(axis=-1)
    for x1, y1, x2, y2 in after.boxes.astype(int):
        changed[y1:y2, x1:x2] = False
    assert len(after.boxes) > 1 and changed.sum() > 20


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_mosaic_keeps_the_boxes_on_their_objects(seed: int) -> None:
    rng, options = np.random.default_rng(seed), AugmentOptions(zoom_min=0.5, zoom_max=1.0)
    frame = mosaic(lambda _, h, w: random_view(street(), h, w, options, rng, frame=(160, 192)), 160, 192, rng)
    assert frame.rgb is not None and frame.thermal is not None and frame.size == (160, 192)
    assert frame.rgb.shape == (160, 192, 3) and len(frame.boxes) == len(frame.labels) == len(frame.ignore) <= 4
    black = frame.thermal < 30
    assert black.sum() == pytest.approx((frame.boxes[:, 2:] - frame.boxes[:, :2]).prod(axis=1).sum(), rel=0.3, abs=60)
    for x1, y1, x2, y2 in frame.boxes[~frame.ignore].astype(int):
        assert black[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].mean() > 0.8


def test_a_mosaic_of_a_missing_modality_is_refused() -> None:
    with pytest.raises(ValueError, match="both modalities"):
        mosaic(lambda _, h, w: replace(street(), rgb=None), 64, 64, np.random.default_rng(0))


def write_archive(path: Path, names: dict[str, tuple[int, int]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, size in names.items():
            data = cv2.imencode(".jpg", np.full((*size, 3), 255, np.uint8))[1].tobytes()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_crops_are_read_at_their_own_size(tmp_path: Path) -> None:
    names = {"a/car/night/00012_3_rgb.jpg": (20, 30), "a/car/night/00012_3_thermal.jpg": (20, 30), "a/readme": (8, 8)}
    (found,) = read_object_crops(write_archive(tmp_path / "crops.tar", names))
    assert (found.rgb.shape, found.thermal.shape) == ((20, 30, 3), (20, 30))
    assert (found.name, found.night, found.frame) == ("car", True, 12)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"car/day/1_1_rgb.jpg": (20, 30), "car/day/1_1_thermal.jpg": (20, 31)}, "differ in size"),
        ({"car/day/1_1_rgb.jpg": (20, 30)}, "holds no pair"),
        ({"car/day/x_1_rgb.jpg": (20, 30), "car/day/x_1_thermal.jpg": (20, 30)}, "Cannot read the crops"),
    ],
)
def test_archives_that_are_none(tmp_path: Path, names: dict[str, tuple[int, int]], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        list(read_object_crops(write_archive(tmp_path / "crops.tar", names)))
    with pytest.raises(UserError, match="Cannot read the crops"):
        list(read_object_crops(tmp_path / "none.tar"))


def test_a_run_pastes_and_stitches_and_repeats_itself(tmp_path: Path) -> None:
    write_training_sets(tmp_path, CONFIG)
    change(tmp_path / "annotations/train.json", images=lambda images: images[0].update(source="llvip"))
    both = {f"car/day/1_{n}_{kind}.jpg": (20, 30) for n in range(3) for kind in ("rgb", "thermal")}
    both |= {name.replace("day", "night"): size for name, size in both.items()}
    write_archive(tmp_path / "crops.tar", both)
    plain = StepBatches(training_options(tmp_path, tmp_path / "run"))
    made = [
        StepBatches(training_options(tmp_path, tmp_path / "run", "augment.mosaic=0.7", "augment.paste=1.5"))
        for _ in range(2)
    ]
    counts = [[sum(map(len, batches[step].boxes[:4])) for step in range(12)] for batches in (plain, *made)]
    assert counts[1] == counts[2] and sum(counts[1]) > 1.5 * sum(counts[0])
    assert made[0]._whole == list(range(1, 12))  # the first pair has persons labelled only


@pytest.mark.parametrize("bad", [{"mosaic": 1.2}, {"paste": -1.0}])
def test_bad_options(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        AugmentOptions(**bad)
