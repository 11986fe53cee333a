"""Synthetic scenes: exact, reproducible, and plausible enough to learn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmkd_train.data.synthetic import (
    CLASS_NAMES,
    DEMO_SCENE,
    SceneOptions,
    SyntheticFrame,
    SyntheticScene,
    training_sample,
)

PERSON, CAR, BICYCLE = (CLASS_NAMES.index(name) for name in ("person", "car", "bicycle"))
SMALL = SceneOptions(seed=4, width=320, height=256)


def assert_equal(a: SyntheticFrame, b: SyntheticFrame) -> None:
    for name in SyntheticFrame.__dataclass_fields__:
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


def test_a_frame_has_the_promised_shapes_and_types() -> None:
    frame = SyntheticScene(replace(SMALL, people=6, cars=3, bicycles=2)).frame(7)
    n = len(frame)
    assert n > 0
    assert frame.rgb.shape == (256, 320, 3) and frame.rgb.dtype == np.uint8
    assert frame.thermal.shape == (256, 320) and frame.thermal.dtype == np.uint8
    assert frame.boxes.shape == (n, 4) and frame.boxes.dtype == np.float32
    assert frame.labels.shape == (n,) and frame.labels.dtype == np.int64
    assert frame.track_ids.shape == (n,) and frame.track_ids.dtype == np.int64
    assert frame.visible_fraction.shape == (n,) and frame.visible_fraction.dtype == np.float32
    assert frame.stamp == pytest.approx(0.7)
    assert (np.diff(frame.track_ids) > 0).all() and (frame.track_ids > 0).all()
    assert (frame.boxes[:, :2] >= 0).all() and (frame.boxes[:, 2:] <= (320, 256)).all()
    assert (frame.boxes[:, 2:] > frame.boxes[:, :2]).all()
    assert set(frame.labels) <= {PERSON, CAR, BICYCLE}


@pytest.mark.parametrize("camera", ["static", "pan", "drive"])
def test_a_frame_depends_on_the_options_and_its_number_only(camera: str) -> None:
    options = replace(SMALL, camera=camera)
    one, other = SyntheticScene(options), SyntheticScene(options)
    forwards = [one.frame(i) for i in (0, 3, 9)]
    backwards = [other.frame(i) for i in (9, 3, 0)][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert_equal(a, b)
    assert not np.array_equal(forwards[0].rgb, forwards[1].rgb)
    assert not np.array_equal(SyntheticScene(replace(options, seed=5)).frame(0).rgb, forwards[0].rgb)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("camera", ["static", "drive"])
def test_boxes_are_the_bounds_of_the_masks(seed: int, camera: str) -> None:
    options = replace(SMALL, seed=seed, camera=camera, people=8, cars=4, bicycles=2)
    frame, whole, seen = SyntheticScene(options).frame_with_masks(10)
    assert len(frame) == len(whole) == len(seen) > 0
    assert seen.sum(0).max() <= 1  # a pixel shows one object
    for k in range(len(frame)):
        rows, columns = np.flatnonzero(whole[k].any(1)), np.flatnonzero(whole[k].any(0))
        bounds = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert tuple(frame.boxes[k]) == bounds
        assert not (seen[k] & ~whole[k]).any()
        share = seen[k].sum() / whole[k].sum()
        assert share >= options.min_visible_fraction
        assert 0.4 * options.min_visible_fraction <= frame.visible_fraction[k] <= share + 1e-3
        inside = bounds[0] > 1 and bounds[1] > 1 and bounds[2] < 319 and bounds[3] < 255
        if inside:
            assert frame.visible_fraction[k] == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("label", [PERSON, CAR, BICYCLE])
def test_the_box_is_where_the_picture_changes(label: int) -> None:
    """Against a second rendering without the object: radiometric counts change inside the box and hardly outside."""
    counts = {"people": 0, "cars": 0, "bicycles": 0, ("people", "cars", "bicycles")[label]: 1}
    checked = 0
    for seed in range(12):
        empty = SceneOptions(
            seed=seed,
            width=320,
            height=256,
            time_of_day="night",
            people=0,
            cars=0,
            bicycles=0,
            misalignment_px=0,
            thermal_bits=16,
        )
        frame = SyntheticScene(replace(empty, **counts)).frame(40)
        if len(frame) != 1 or frame.visible_fraction[0] < 0.99:
            continue
        background = SyntheticScene(empty).frame(40)
        changed = np.abs(frame.thermal.astype(int) - background.thermal) > 25  # 1 K
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        if not len(rows):  # as cold as its surroundings
            continue
        x0, y0, x1, y1 = frame.boxes[0]
        blur = 3
        warm_ground = 3 if label != CAR else 12  # below a running car
        assert columns[0] >= x0 - max(blur, warm_ground) and columns[-1] + 1 <= x1 + max(blur, warm_ground)
        assert rows[0] >= y0 - blur and rows[-1] + 1 <= y1 + max(blur, warm_ground)
        if label == PERSON:
            assert columns[0] <= x0 + blur and columns[-1] + 1 >= x1 - blur and rows[0] <= y0 + blur
        checked += 1
    assert checked >= 3


def test_ids_last_and_objects_come_in_from_the_edge_the_distance_or_behind_something() -> None:
    scene = SyntheticScene(DEMO_SCENE)
    labels: dict[int, int] = {}
    last: dict[int, tuple[int, np.ndarray]] = {}
    occluded = set()
    for i in range(0, 120, 2):
        frame = scene.frame(i)
        assert len(set(frame.track_ids)) == len(frame)
        for box, label, track, seen in zip(
            frame.boxes, frame.labels, frame.track_ids.tolist(), frame.visible_fraction, strict=True
        ):
            assert labels.setdefault(track, label) == label
            if track in last and last[track][0] == i - 2:  # 0.2 s: no jumps
                centre, before = (box[:2] + box[2:]) / 2, (last[track][1][:2] + last[track][1][2:]) / 2
                assert np.hypot(*(centre - before)) < 0.6 * max(box[2:] - box[:2]) + 12
            elif track not in last and i > 0:
                at_edge = (
                    box[0] <= 1 or box[1] <= 1 or box[2] >= DEMO_SCENE.width - 1 or box[3] >= DEMO_SCENE.height - 1
                )
                assert at_edge or box[3] - box[1] < 14 or seen < 0.9
            if seen < 0.6:
                occluded.add(track)
            last[track] = (i, box)
    counts = np.bincount(list(labels.values()), minlength=3)
    assert counts[PERSON] >= 6 and counts[CAR] >= 3 and counts[BICYCLE] >= 1
    assert len(occluded) >= 2


@pytest.mark.parametrize(
    ("people", "cars", "bicycles", "expected"),
    [(5, 0, 0, {PERSON}), (0, 4, 0, {CAR}), (0, 0, 3, {PERSON, BICYCLE}), (0, 0, 0, set())],
)
def test_only_what_was_asked_for_is_there(people: int, cars: int, bicycles: int, expected: set[int]) -> None:
    found: set[int] = set()
    for seed in range(4):
        scene = SyntheticScene(replace(SMALL, seed=seed, people=people, cars=cars, bicycles=bicycles))
        for i in (0, 30, 60):
            frame = scene.frame(i)
            found |= set(frame.labels.tolist())
            assert (frame.labels == CAR).sum() <= cars and (frame.labels == BICYCLE).sum() <= bicycles
            assert (frame.labels == PERSON).sum() <= people + bicycles
    assert found == expected


def test_night_is_darker_than_day_and_people_stay_warm() -> None:
    contrasts = []
    for seed in range(8):
        options = replace(SMALL, seed=seed, people=8, cars=0, bicycles=0, misalignment_px=0)
        day = SyntheticScene(replace(options, time_of_day="day")).frame(20)
        night, whole, _ = SyntheticScene(replace(options, time_of_day="night")).frame_with_masks(20)
        assert night.rgb.mean() < 0.75 * day.rgb.mean()
        everyone = whole.any(0)
        for box, mask, seen in zip(night.boxes.astype(int), whole, night.visible_fraction, strict=True):
            if box[3] - box[1] < 24 or seen < 0.9:
                continue
            x0, y0, x1, y1 = max(box[0] - 6, 0), max(box[1] - 6, 0), box[2] + 6, box[3] + 6
            around = ~everyone[y0:y1, x0:x1]
            window = night.thermal[y0:y1, x0:x1].astype(float)
            contrasts.append(window[mask[y0:y1, x0:x1]].mean() - window[around].mean())
    assert len(contrasts) >= 10
    assert min(contrasts) > 5 and np.mean(contrasts) > 25


def test_sizes_follow_the_perspective_of_real_recordings() -> None:
    heights: dict[int, list[float]] = {PERSON: [], CAR: [], BICYCLE: []}
    for seed in range(12):
        frame = SyntheticScene(SceneOptions(seed=seed, people=8, cars=6, bicycles=3)).frame(0)
        for box, label in zip(frame.boxes, frame.labels.tolist(), strict=True):
            heights[label].append(float(box[3] - box[1]))
    assert all(10 < np.median(values) < 130 for values in heights.values()), heights
    assert min(heights[PERSON]) >= 6


def test_sixteen_bit_counts_are_temperatures() -> None:
    options = replace(SMALL, seed=6, time_of_day="night", people=8, thermal_bits=16, misalignment_px=0)
    frame, _, seen = SyntheticScene(options).frame_with_masks(20)
    assert frame.thermal.dtype == np.uint16
    celsius = frame.thermal * 0.04 - 273.15
    assert -40 < celsius.min() and celsius.max() < 70
    person = seen[frame.labels == PERSON].any(0)
    assert 20 < np.percentile(celsius[person], 95) < 37
    rgb8 = SyntheticScene(replace(options, thermal_bits=8)).frame(20)
    assert np.array_equal(rgb8.rgb, frame.rgb) and np.array_equal(rgb8.boxes, frame.boxes)


def test_misalignment_is_small_constant_and_can_be_switched_off() -> None:
    aligned = SyntheticScene(replace(SMALL, misalignment_px=0)).thermal_from_rgb
    assert np.allclose(aligned, np.eye(2, 3))
    corners = np.array([[0, 0, 1], [319, 0, 1], [0, 255, 1], [319, 255, 1], [160, 128, 1.0]])
    shifts = []
    for seed in range(20):
        warp = SyntheticScene(
            replace(SMALL, seed=seed, misalignment_px=3, people=0, cars=0, bicycles=0)
        ).thermal_from_rgb
        shifts.append(np.abs(corners @ warp.T - corners[:, :2]).max())
    assert 0.5 < max(shifts) <= 3.0


def test_a_driving_camera_comes_nearer_and_never_reuses_an_id() -> None:
    scene = SyntheticScene(replace(SMALL, seed=2, camera="drive", people=6, cars=6, bicycles=2))
    owners: dict[int, int] = {}
    grown = []
    previous: dict[int, float] = {}
    for i in range(0, 400, 5):
        frame = scene.frame(i)
        heights = dict(zip(frame.track_ids.tolist(), (frame.boxes[:, 3] - frame.boxes[:, 1]).tolist(), strict=True))
        grown += [heights[t] >= previous[t] - 1 for t in heights.keys() & previous.keys()]
        for track, label in zip(frame.track_ids.tolist(), frame.labels.tolist(), strict=True):
            assert owners.setdefault(track, label) == label
        previous = heights
    assert len(owners) > 14 + 2  # the road ahead brings new objects
    assert np.mean(grown) > 0.7


def test_a_scene_goes_on_for_ever() -> None:
    scene = SyntheticScene(replace(SMALL, people=4, cars=3, bicycles=1))
    ids = [set(scene.frame(i).track_ids.tolist()) for i in (0, 50_000, 1_000_000)]
    assert all(ids)


def test_the_same_street_can_be_filled_anew() -> None:
    a = SyntheticScene(replace(SMALL, seed=1, street=9, people=0, cars=0, bicycles=0))
    b = SyntheticScene(replace(SMALL, seed=2, street=9), a)
    assert_equal(b.frame(3), SyntheticScene(replace(SMALL, seed=2, street=9)).frame(3))


def test_training_samples_are_reproducible_and_varied() -> None:
    first = [training_sample(np.random.default_rng(k), 192, 256, streets=4) for k in range(6)]
    again = [training_sample(np.random.default_rng(k), 192, 256, streets=4) for k in reversed(range(6))][::-1]
    for a, b in zip(first, again, strict=True):
        assert_equal(a, b)
        assert a.rgb.shape == (192, 256, 3)
    assert len({a.rgb.tobytes() for a in first}) == 6
    assert sum(len(a) for a in first) > 6


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": -1}, "seed"),
        ({"street": -1}, "street"),
        ({"width": 10}, "width"),
        ({"height": 100_000}, "height"),
        ({"fps": 0.0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"people": -1}, "people"),
        ({"cars": 1000}, "cars"),
        ({"bicycles": -2}, "bicycles"),
        ({"time_of_day": "noon"}, "time_of_day"),
        ({"camera": "drone"}, "camera"),
        ({"view": "satellite"}, "view"),
        ({"misalignment_px": -1.0}, "misalignment_px"),
        ({"thermal_bits": 12}, "thermal_bits"),
        ({"min_box_px": 0.0}, "min_box_px"),
        ({"min_visible_fraction": 1.5}, "min_visible_fraction"),
    ],
)
def test_bad_options_are_refused_with_a_sentence(change: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word) as caught:
        SceneOptions(**change)  # type: ignore[arg-type]
    assert str(caught.value).endswith(".") and ("," in str(caught.value) or ";" in str(caught.value))


def test_bad_calls_are_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="frame index"):
        SyntheticScene(SMALL).frame(-1)
    with pytest.raises(ValueError, match="streets"):
        training_sample(np.random.default_rng(0), 128, 128, streets=0)
    with pytest.raises(ValueError, match="width"):
        training_sample(np.random.default_rng(0), 128, 8)
