"""Augmentation: both pictures and the boxes move together; randomness is the generator's alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd_train.data.augment import AugmentOptions, augment, disturb, random_view, resize_sample, shrink
from mmkd_train.data.coco import Sample

GEOMETRY = AugmentOptions(
    photometric=0, darken=0, blur=0, noise=0, drop_rgb=0, drop_thermal=0, thermal_shift=0, thermal_scale=0
)


def one_object() -> Sample:
    """A white rectangle at its box, in both pictures."""
    rgb, thermal = np.zeros((240, 320, 3), np.uint8), np.zeros((240, 320), np.uint8)
    rgb[100:160, 120:200] = 255
    thermal[100:160, 120:200] = 255
    box = np.array([[120, 100, 200, 160]], np.float32)
    return Sample(rgb, thermal, box, np.array([1]), np.array([False]), np.array([True, True]))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_boxes_follow_the_pixels_of_both_pictures(seed: int) -> None:
    view = augment(one_object(), 128, 160, GEOMETRY, np.random.default_rng(seed))
    assert view.rgb is not None and view.thermal is not None
    assert view.rgb.shape == (128, 160, 3) and view.thermal.shape == (128, 160)
    for picture in (view.rgb[..., 0], view.thermal):
        rows, columns = np.nonzero(picture > 200)
        if not len(view.boxes):
            assert rows.size < 200
            continue
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(view.boxes[0], found, atol=2.0)


def test_letterbox_equals_what_inference_does() -> None:
    from mmkd_ros.inference.preprocess import letterbox

    sample = one_object()
    assert sample.rgb is not None
    expected, scale = letterbox(sample.rgb, 128, 160)
    view = resize_sample(sample, 128, 160, 0.0, 0.0, scale)
    assert view.rgb is not None
    np.testing.assert_array_equal(view.rgb, expected)
    np.testing.assert_allclose(view.boxes, sample.boxes * scale)


def test_same_generator_same_view_and_options_matter() -> None:
    views = [augment(one_object(), 64, 96, AugmentOptions(), np.random.default_rng(3)) for _ in range(2)]
    for a, b in zip(views[:1], views[1:], strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        for name in ("rgb", "thermal"):
            first, second = getattr(a, name), getattr(b, name)
            assert (first is None) == (second is None)
            if first is not None:
                np.testing.assert_array_equal(first, second)


def test_modality_dropout_has_its_rates_and_never_drops_both() -> None:
    options = replace(GEOMETRY, drop_rgb=0.3, drop_thermal=0.2)
    rng = np.random.default_rng(0)
    views = [augment(one_object(), 32, 32, options, rng) for _ in range(600)]
    missing_rgb = np.mean([view.rgb is None for view in views])
    missing_thermal = np.mean([view.thermal is None for view in views])
    assert missing_rgb == pytest.approx(0.3, abs=0.06) and missing_thermal == pytest.approx(0.2, abs=0.06)
    assert not any(view.rgb is None and view.thermal is None for view in views)


def test_objects_cut_by_the_border_are_ignored_not_taught() -> None:
    sample = replace(one_object(), boxes=np.array([[-60.0, 100.0, 20.0, 160.0]], np.float32))
    view = resize_sample(sample, 240, 320, 0.0, 0.0, 1.0)
    assert view.ignore.tolist() == [True]
    np.testing.assert_allclose(view.boxes, [[0, 100, 20, 160]])


@pytest.mark.parametrize(
    "bad", [{"flip": 1.5}, {"drop_rgb": 0.6, "drop_thermal": 0.6}, {"zoom_min": 2.0, "zoom_max": 1.0}]
)
def test_bad_options(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        AugmentOptions(**bad)  # type: ignore[arg-type]


def test_shrinking_halves_pictures_and_boxes() -> None:
    large = random_view(one_object(), 128, 160, GEOMETRY, np.random.default_rng(5))
    small = shrink(large, 2)
    assert small.size == (64, 80) and shrink(large, 1) is large
    np.testing.assert_allclose(small.boxes * 2, large.boxes)
    rows, columns = np.nonzero(small.thermal > 200)
    np.testing.assert_allclose(small.boxes[0], [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=2.0)


def test_a_scale_error_moves_the_edge_of_the_thermal_picture_and_not_its_centre() -> None:
    sample = one_object()
    off = disturb(sample, replace(GEOMETRY, thermal_scale=0.2), np.random.default_rng(2))
    assert off.thermal is not None and sample.thermal is not None and off.rgb is not None
    np.testing.assert_array_equal(off.rgb, sample.rgb)
    np.testing.assert_array_equal(off.boxes, sample.boxes)
    assert off.thermal[120, 160] == 255 and np.count_nonzero(off.thermal != sample.thermal) > 500
    columns = np.nonzero(off.thermal[120] > 127)[0]
    assert abs((columns.min() + columns.max()) / 2 - 160) < 2
