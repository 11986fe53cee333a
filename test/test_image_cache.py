"""Which images a result was made from."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mmkd_ros.image_cache import ImageCache

SECOND = 1_000_000_000


@dataclass(frozen=True)
class Image:
    stamp_ns: int
    frame_id: str = "camera"


@pytest.fixture
def cache() -> ImageCache[Image]:
    return ImageCache(4, 0.05)


def test_the_rgb_image_of_the_very_stamp_and_the_nearest_thermal_one(cache: ImageCache[Image]) -> None:
    for i in range(4):
        cache.keep("rgb", Image(i * SECOND))
        cache.keep("thermal", Image(i * SECOND + 30_000_000))
    assert cache.find(2 * SECOND, "camera") == (Image(2 * SECOND), Image(2 * SECOND + 30_000_000))
    assert cache.find(2 * SECOND + 1, "camera") == (None, None)


def test_a_thermal_image_beyond_the_slop_is_left_out(cache: ImageCache[Image]) -> None:
    cache.keep("rgb", Image(SECOND))
    assert cache.find(SECOND, "camera") == (Image(SECOND), None)
    cache.keep("thermal", Image(SECOND - 50_000_001))
    assert cache.find(SECOND, "camera") == (Image(SECOND), None)
    cache.keep("thermal", Image(SECOND + 50_000_000))
    assert cache.find(SECOND, "camera") == (Image(SECOND), Image(SECOND + 50_000_000))


def test_thermal_alone_only_when_the_boxes_must_be_in_its_pixels(cache: ImageCache[Image]) -> None:
    cache.keep("thermal", Image(5 * SECOND, "thermal"))
    assert cache.find(5 * SECOND, "thermal") == (None, Image(5 * SECOND, "thermal"))
    assert cache.find(5 * SECOND, "rgb") == (None, None)
    # Both cameras in one frame: an RGB image was lost on its way, and the boxes are in its pixels.
    cache.keep("rgb", Image(5 * SECOND - 100_000_000, "thermal"))
    assert cache.find(5 * SECOND, "thermal") == (None, None)


def test_the_oldest_images_go_first(cache: ImageCache[Image]) -> None:
    for i in range(10):
        cache.keep("rgb", Image(i))
    assert cache.find(5, "camera") == (None, None)
    assert cache.find(6, "camera") == (Image(6), None)
