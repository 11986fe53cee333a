"""The overlay picture: what is drawn where."""

from __future__ import annotations

import numpy as np
import pytest

from mmkd_ros.drawing import (
    DrawnObject,
    Overlay,
    Scene,
    caption,
    class_colour,
    contact_sheet,
    thermal_to_bgr,
    trail_colour,
)

GREY = np.full((120, 160, 3), 90, np.uint8)
COLD = np.zeros((60, 80), np.uint8)
PERSON = DrawnObject((40.0, 40.0, 80.0, 100.0), "person", 0.824, "3")


def draw(scene: Scene, height: int = 480) -> tuple[Overlay, np.ndarray]:
    overlay = Overlay(height)
    overlay.advance(scene)
    return overlay, overlay.render(scene)


def test_a_label_names_class_identity_and_score() -> None:
    assert PERSON.label == "person 3 0.82"
    assert DrawnObject((0, 0, 1, 1), "car", 0.5).label == "car 0.50"


def test_boxes_are_drawn_in_both_panes_at_their_place() -> None:
    _, picture = draw(Scene(GREY, COLD, [PERSON]))
    caption = picture.shape[0] - 480
    assert picture.shape[1] == 640 + 4 + 640
    for left in (0, 644):
        pane = picture[caption:, left : left + 640]
        for x, y in ((160, 300), (320, 300), (240, 400)):  # left, right and lower edge, at four times the size
            np.testing.assert_array_equal(pane[y, x], class_colour("person"))
        assert (pane[300, 240] == pane[300, 500]).all()  # the inside stays free
        label = pane[146:158, 164:220].reshape(-1, 3)
        assert (label == class_colour("person")).all(axis=1).mean() > 0.4  # filled, above the box


def test_nothing_is_drawn_into_the_source_images() -> None:
    rgb, thermal = GREY.copy(), COLD.copy()
    draw(Scene(rgb, thermal, [PERSON]))
    assert (rgb == GREY).all() and (thermal == COLD).all()


def test_the_badge_names_the_cameras_that_the_detector_used() -> None:
    orange, green = (40, 140, 235), (96, 160, 60)
    for used, colour in (("", green), ("both", green), ("thermal", orange), ("anything", green)):
        _, picture = draw(Scene(GREY, COLD, [], used=used))
        assert (picture[:-480, :150] == colour).all(axis=2).sum() > 300
    _, picture = draw(Scene(GREY, None, []))
    assert (picture[:-480, :150] == orange).all(axis=2).sum() > 300


def test_the_caption_tells_the_latency_where_it_is_one() -> None:
    assert caption(12.345, 3, 0.0652) == "12.35 s    3 tracked    latency 65 ms"
    for no_latency in (None, -0.01, 1e6, float("nan")):
        assert caption(1.0, 0, no_latency) == "1.00 s    0 tracked"


def test_boxes_have_the_colour_of_their_class_and_trails_that_of_their_track() -> None:
    assert len({class_colour(name) for name in ("person", "car", "bicycle", "motorcycle", "bus", "truck")}) == 6
    assert class_colour("tram") == class_colour("tram")
    assert trail_colour("1") != trail_colour("2")
    assert trail_colour("9" * 5000) and trail_colour("a-b")


def test_red_stays_red() -> None:
    red = np.zeros((120, 160, 3), np.uint8)
    red[..., 0] = 200
    _, picture = draw(Scene(red, COLD))
    assert picture[-10, 10].tolist() == [0, 0, 200]


def test_hot_is_brighter_than_cold_in_8_and_16_bit() -> None:
    for thermal in (np.array([[0, 255]], np.uint8), np.array([[29_000, 31_000]], np.uint16)):
        cold, hot = thermal_to_bgr(thermal)[0].astype(int).sum(axis=1)
        assert hot > cold + 200


@pytest.mark.parametrize("scene", [Scene(GREY, None, [PERSON]), Scene(None, np.repeat(COLD, 2, 1), [PERSON])])
def test_a_missing_image_leaves_an_empty_pane_of_the_same_size(scene: Scene) -> None:
    overlay = Overlay(240)
    both = overlay.render(Scene(GREY, COLD, []))
    assert overlay.render(scene).shape == both.shape


def test_a_trail_follows_the_feet_fades_and_ends() -> None:
    overlay = Overlay(480, trail_seconds=1.0)
    for step in range(11):
        x = 10.0 * step
        scene = Scene(GREY, None, [DrawnObject((x, 20.0, x + 20.0, 60.0), "person", 0.9, "1")], stamp=step / 10)
        overlay.advance(scene)
    picture = overlay.render(scene)
    feet = picture[-480 + 240]  # 60 of 120 rows
    distance = np.abs(feet.astype(int) - 90).sum(axis=1)
    fresh, old, never = distance[4 * 95], distance[4 * 25], distance[4 * 150]
    assert fresh > old > never == 0
    later = Scene(GREY, None, [DrawnObject((100.0, 20.0, 120.0, 60.0), "person", 0.9, "1")], stamp=9.0)
    overlay.advance(later)
    assert (overlay.render(later)[-480 + 240, 4 * 25] == 90).all()


def test_trails_start_anew_when_time_goes_back() -> None:
    overlay = Overlay(240)
    for stamp in (5.0, 5.1, 1.0):
        overlay.advance(Scene(GREY, None, [PERSON], stamp=stamp))
    assert [len(trail) for trail in overlay._trails.values()] == [1]


@pytest.mark.parametrize("box", [(-1e12, -5.0, 1e12, 1e9), (150.0, 110.0, 170.0, 130.0), (0.0, 0.0, 0.0, 0.0)])
def test_boxes_beyond_the_image_are_cut(box: tuple[float, float, float, float]) -> None:
    overlay = Overlay(240)
    for step in range(2):
        scene = Scene(GREY, COLD, [DrawnObject(box, "car", 1.0, "7")], stamp=step / 10)
        overlay.advance(scene)
        assert overlay.render(scene).dtype == np.uint8


def test_crowded_labels_do_not_cover_each_other() -> None:
    crowd = [
        DrawnObject((40.0 + 4 * i, 60.0, 52.0 + 4 * i, 90.0), name, 0.5, str(i))
        for i, name in enumerate(("person", "car", "bicycle"))
    ]
    _, picture = draw(Scene(GREY, None, crowd))
    pane = picture[-480:, :640]
    for drawn in crowd:  # each label's own colour is there in a filled area
        assert (pane == class_colour(drawn.name)).all(axis=2).sum() > 1000


def test_objects_of_an_earlier_frame_are_drawn_without_labels() -> None:
    _, fresh = draw(Scene(GREY, COLD, [PERSON]))
    _, faded = draw(Scene(GREY, COLD, [PERSON], faded=True))
    assert not (faded == class_colour("person")).all(axis=2).any()
    assert (faded != fresh).any()


def test_a_contact_sheet_holds_every_picture() -> None:
    pictures = [np.full((10, 20, 3), 50 * n, np.uint8) for n in range(1, 4)]
    sheet = contact_sheet(pictures, columns=2, margin=2)
    assert sheet.shape == (2 * 12 + 2, 2 * 22 + 2, 3)
    assert [sheet[2, 2, 0], sheet[2, 24, 0], sheet[14, 2, 0]] == [50, 100, 150]
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([])


def test_a_scene_without_images_and_a_tiny_overlay_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        Scene(None, None)
    with pytest.raises(ValueError, match="at least 64 pixels"):
        Overlay(10)
