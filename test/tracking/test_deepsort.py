"""Life of a track, bad input, time, and what holds for every sequence."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmkd_ros.tracking import DeepSort, StampError, TrackerOptions
from mmkd_ros.tracking.screening import worth_a_look
from mmkd_ros.types import Detections, Tracks

NAMES = ("person", "car")
PERSON = (100.0, 100.0, 140.0, 200.0)
# The life of a track as published, and seen in this frame only.
STRICT = TrackerOptions(n_init=3, max_age_s=1.0, coast_s=0.0)


def found(
    boxes: list[tuple[float, ...]] | NDArray[np.float32],
    stamp: float,
    labels: list[int] | None = None,
    scores: list[float] | None = None,
    names: tuple[str, ...] = NAMES,
) -> Detections:
    array = np.asarray(boxes, np.float32).reshape(-1, 4)
    return Detections(
        array,
        np.asarray(scores if scores is not None else [0.9] * len(array), np.float32),
        np.asarray(labels if labels is not None else [0] * len(array), np.int64),
        names,
        stamp,
    )


def feed(tracker: DeepSort, boxes: list[list[tuple[float, ...]]], start: float = 0.0, dt: float = 1 / 30) -> Tracks:
    """One update per list of boxes; returns what the last gave."""
    for i, here in enumerate(boxes):
        tracks = tracker.update(found(here, start + i * dt))
    return tracks


def snapshot(tracker: DeepSort) -> list[NDArray[np.generic]]:
    table = tracker._table
    return [np.array(getattr(table, name)) for name in table._FIELDS]


def test_a_track_is_confirmed_by_the_third_detection_and_dies_after_max_age() -> None:
    tracker = DeepSort(STRICT)
    assert len(feed(tracker, [[PERSON]])) == 0
    assert len(feed(tracker, [[PERSON]], 1 / 30)) == 0
    tracks = feed(tracker, [[PERSON]], 2 / 30)
    assert tracks.ids.tolist() == [1]
    assert tracks.boxes[0] == pytest.approx(PERSON, abs=0.01)
    assert tracks.ages[0] == pytest.approx(2 / 30) and tracks.missed.tolist() == [0]
    assert tracks.class_names == NAMES and tracks.stamp == pytest.approx(2 / 30)
    # thirty frames without it are exactly one second: still remembered
    feed(tracker, [[]] * 29, 3 / 30)
    assert feed(tracker, [[PERSON]], 32 / 30).ids.tolist() == [1]
    feed(tracker, [[]] * 30, 33 / 30)
    assert len(tracker._table) == 1
    feed(tracker, [[]], 63 / 30)
    assert len(tracker._table) == 0
    assert feed(tracker, [[PERSON]] * 3, 64 / 30).ids.tolist() == [2]


def test_a_tentative_track_dies_at_its_first_miss() -> None:
    tracker = DeepSort(STRICT)
    feed(tracker, [[PERSON], [PERSON], []])
    assert len(tracker._table) == 0


def test_no_detection_at_all_is_a_frame_like_any_other() -> None:
    tracker = DeepSort()
    tracks = tracker.update(Detections.empty(NAMES, 1.0))
    assert len(tracks) == 0 and tracker.stamp == 1.0
    assert len(tracker.update(Detections.empty((), 2.0), np.zeros((0, 8), np.float32))) == 0


def test_velocity_is_in_pixels_per_second_whatever_the_rate() -> None:
    for rate in (5.0, 30.0, 100.0):
        tracker = DeepSort(TrackerOptions(nominal_rate_hz=rate))
        for i in range(60):
            x = 100 + 50 * i / rate
            tracks = tracker.update(found([(x, 100, x + 40, 200)], i / rate))
        assert tracks.velocities[0] == pytest.approx((50, 0), abs=2)


def test_dropped_frames_do_not_break_a_moving_track() -> None:
    tracker = DeepSort(TrackerOptions(nominal_rate_hz=30.0))
    rng = np.random.default_rng(0)
    ids = set()
    for i in np.flatnonzero(rng.random(300) < 0.5):  # half of the frames never arrive
        x = 100 + 4.0 * i
        ids |= set(tracker.update(found([(x, 100, x + 40, 200)], i / 30)).ids.tolist())
    assert ids == {1}


def test_coasting_puts_out_unseen_tracks_where_they_should_be() -> None:
    tracker = DeepSort(TrackerOptions(coast_s=0.2))
    for i in range(30):
        tracker.update(found([(100 + 3 * i, 100, 140 + 3 * i, 200)], i / 30))
    for k in range(1, 10):
        tracks = tracker.update(found([], (29 + k) / 30))
        if k <= 6:
            assert tracks.ids.tolist() == [1]
            assert tracks.missed[0] == pytest.approx(k / 30)
            assert tracks.boxes[0, 0] == pytest.approx(100 + 3 * (29 + k), abs=3)
        else:
            assert len(tracks) == 0


def test_a_track_coasts_for_a_share_of_the_time_that_it_was_followed() -> None:
    for frames, coasted in ((6, 1), (11, 3), (31, 10), (61, 10)):
        tracker = DeepSort(TrackerOptions(coast_s=1 / 3, coast_share=1 / 3))
        feed(tracker, [[PERSON]] * frames)
        shown = [len(feed(tracker, [[]], (frames + k) / 30)) for k in range(12)]
        assert shown == [1] * coasted + [0] * (12 - coasted)


@pytest.mark.parametrize("max_age_s", [2.0, 0.5])
def test_where_what_is_lost_has_gone_nothing_coasts_and_where_it_comes_back_it_does(max_age_s: float) -> None:
    places = [(100.0 + 60 * i, 100, 140.0 + 60 * i, 200) for i in range(5)]
    for back, coasted in ((False, 0), (True, 1)):
        tracker = DeepSort(TrackerOptions(coast_return=0.5, max_age_s=max_age_s))
        time = 0.0
        for place in places:  # each is seen for 1 s, unseen for 1.2 s but for a moment, and gone for good
            feed(tracker, [[place]] * 21, time, 0.05)
            feed(tracker, [[]] * 4 + [[place] if back else []] * 2 + [[]] * 18, time + 1.05, 0.05)
            time += 3.0
        feed(tracker, [[PERSON]] * 21, time, 0.05)
        assert len(feed(tracker, [[]], time + 1.05)) == coasted
        tracker.reset()  # another recording
        feed(tracker, [[PERSON]] * 21, 0.0, 0.05)
        assert len(feed(tracker, [[]], 1.05)) == 1
    always = DeepSort(TrackerOptions(coast_return=0.0))
    for place in places:
        feed(always, [[place]] * 21 + [[]] * 24, place[0], 0.05)
    assert len(feed(always, [[PERSON]] * 21 + [[]], 1000.0, 0.05)) == 1


def test_one_that_comes_back_is_known_by_its_looks_though_another_was_seen_later() -> None:
    looks = np.array([[1.0, 0.0], [0.8, 0.6]], np.float32)  # alike enough that either would do
    before, behind = PERSON, (110.0, 100.0, 150.0, 200.0)
    for age_cost, identity in ((0.3, 2), (0.0, 1)):
        tracker = DeepSort(TrackerOptions(age_cost=age_cost))
        for i in range(10):
            tracker.update(found([before, behind], i / 10), looks)
        for i in range(10, 13):
            tracker.update(found([before], i / 10), looks[:1])
        tracks = tracker.update(found([(105.0, 100.0, 145.0, 200.0)], 1.3), looks[1:])
        assert tracks.ids[tracks.missed == 0].tolist() == [identity]


def test_of_two_that_overlap_alike_the_one_of_equal_height_is_taken() -> None:
    beside = (PERSON[0] + 14, PERSON[1], PERSON[2] + 14, PERSON[3])  # IoU 0.48, heights 1
    upper_half = (*PERSON[:3], 150.0)  # IoU 0.5, heights 0.5
    for weight, taken in ((1.0, beside), (0.0, upper_half)):
        tracker = DeepSort(TrackerOptions(height_weight=weight))
        feed(tracker, [[PERSON]] * 4)
        tracks = tracker.update(found([beside, upper_half], 0.2))
        assert tracks.ids.tolist() == [1] and tracks.boxes[0].tolist() == list(taken)
    # the limit is that of the plain overlap: what is left of an object half hidden is still this object
    tracker = DeepSort(replace(STRICT, height_weight=1.0, motion_cosine_distance=0.0))
    feed(tracker, [[PERSON]] * 4)
    assert tracker.update(found([upper_half], 0.2)).ids.tolist() == [1]


def test_what_jumped_is_found_again_by_motion() -> None:
    """At 5 Hz a person walks on by most of the box's width: too little overlap, but well within the gate."""
    for distance, ids in ((0.5, [1]), (0.0, [])):
        tracker = DeepSort(replace(STRICT, motion_cosine_distance=distance))
        feed(tracker, [[PERSON]] * 3, dt=0.2)
        moved = (PERSON[0] + 25, PERSON[1], PERSON[2] + 25, PERSON[3])
        assert tracker.update(found([moved], 0.6)).ids.tolist() == ids
        assert len(tracker) == (1 if ids else 2)
    # what does not touch the predicted box is another object, as is what looks otherwise
    looks = np.eye(2, 8, dtype=np.float32)
    for boxes, seen in (((PERSON[0] + 41, PERSON[1], PERSON[2] + 41, PERSON[3]), looks[:1]), (moved, looks[1:])):
        tracker = DeepSort(STRICT)
        for i in range(3):
            tracker.update(found([PERSON], i / 5), looks[:1])
        assert len(tracker.update(found([boxes], 0.6), seen)) == 0
    # looks that say neither yes nor no do not object
    doubtful = np.array([[0.6, 0.8]], np.float32) @ looks
    tracker = DeepSort(STRICT)
    for i in range(3):
        tracker.update(found([PERSON], i / 5), looks[:1])
    assert tracker.update(found([moved], 0.6), doubtful).ids.tolist() == [1]


def test_a_person_never_becomes_a_car() -> None:
    tracker = DeepSort(STRICT)
    feed(tracker, [[PERSON]] * 3)
    tracks = tracker.update(found([PERSON], 0.1, labels=[1]))
    assert len(tracks) == 0
    for i in range(2, 4):
        tracks = tracker.update(found([PERSON], 0.05 + 0.05 * i, labels=[1]))
    assert tracks.ids.tolist() == [2] and tracks.labels.tolist() == [1]


def test_without_class_awareness_the_majority_names_the_track() -> None:
    tracker = DeepSort(replace(STRICT, class_aware=False))
    labels = [0, 1, 0, 1, 1]
    got = [tracker.update(found([PERSON], i / 30, labels=[label])).labels.tolist() for i, label in enumerate(labels)]
    assert got == [[], [], [0], [0], [1]]


def test_appearance_tells_crossing_objects_apart() -> None:
    """Two of a kind meet, vanish together and come back swapped in place: only appearance can know."""
    looks = np.eye(2, 16, dtype=np.float32)
    tracker = DeepSort()
    for i in range(20):
        boxes = [(100.0 + i, 100, 140.0 + i, 200), (160.0 - i, 100, 200.0 - i, 200)]
        tracks = tracker.update(found(boxes, i / 30), looks)
    assert tracks.ids.tolist() == [1, 2]
    for i in range(20, 23):
        tracker.update(found([], i / 30), np.zeros((0, 16), np.float32))
    # both turned round in hiding
    boxes = [(116.0, 100, 156.0, 200), (144.0, 100, 184.0, 200)]
    tracks = tracker.update(found(boxes, 23 / 30), looks)
    first = tracks.boxes[tracks.ids.tolist().index(1)]
    assert first[0] == pytest.approx(116, abs=12) and set(tracks.ids.tolist()) == {1, 2}


def test_appearance_is_matched_near_the_predicted_box_only() -> None:
    """A detection inside the motion gate that does not overlap is another object, however alike it looks."""
    looks = np.eye(1, 16, dtype=np.float32)
    for min_overlap, ids in ((0.0, [1]), (0.05, [])):
        tracker = DeepSort(TrackerOptions(min_overlap=min_overlap))
        for i in range(4):
            tracker.update(found([PERSON], i / 30), looks)
        tracker.update(found([], 0.5), looks[:0])
        beside = (PERSON[0] + 41, PERSON[1], PERSON[2] + 41, PERSON[3])
        assert tracker.update(found([beside], 0.6), looks).ids.tolist() == ids


def test_motion_decides_between_equal_looks() -> None:
    """Two tracks with one look: by appearance alone the pairing is a toss, with motion it is the near one."""
    looks = np.ones((2, 16), np.float32)
    boxes = [(100.0, 100.0, 140.0, 200.0), (116.0, 100.0, 156.0, 200.0)]
    rng = np.random.default_rng(0)
    tracker = DeepSort(TrackerOptions(motion_weight=0.5))
    for i in range(30):
        noisy = (looks + rng.normal(0, 0.1, looks.shape)).astype(np.float32)
        tracks = tracker.update(found(boxes, i / 30), noisy)
        if i >= 2:
            assert tracks.ids.tolist() == [1, 2]
            assert tracks.boxes[:, 0] == pytest.approx([100, 116], abs=1)


def test_a_zero_row_means_unknown_and_the_track_goes_by_overlap() -> None:
    looks = np.eye(1, 16, dtype=np.float32)
    tracker = DeepSort(STRICT)
    for i in range(4):
        tracker.update(found([PERSON], i / 30), looks)
    for i in range(4, 8):
        tracks = tracker.update(found([PERSON], i / 30), np.zeros((1, 16), np.float32))
        assert tracks.ids.tolist() == [1]
    assert tracker.dropped["appearance_unknown"] == 4
    # unknown after a gap: appearance cannot object, so overlap decides
    tracker.update(found([], 8 / 30))
    tracker.update(found([], 9 / 30))
    assert tracker.update(found([PERSON], 10 / 30), np.zeros((1, 16), np.float32)).ids.tolist() == [1]
    # another look after a gap: appearance objects
    tracker.update(found([], 11 / 30))
    tracker.update(found([], 12 / 30))
    assert len(tracker.update(found([PERSON], 13 / 30), -looks)) == 0


def test_tracks_without_any_vector_get_their_gallery_when_one_comes() -> None:
    looks = np.eye(1, 16, dtype=np.float32)
    tracker = DeepSort()
    feed(tracker, [[PERSON]] * 5)
    assert tracker._table.slots.tolist() == [-1]
    tracker.update(found([PERSON], 1.0), looks)
    assert tracker._table.slots.tolist() == [0]
    assert tracker.update(found([PERSON], 1.1), looks).ids.tolist() == [1]


@pytest.mark.parametrize("stamp", [0.5, 0.4, -1e9, float("nan"), float("inf"), float("-inf")])
def test_a_stamp_that_is_not_later_changes_nothing(stamp: float) -> None:
    tracker = DeepSort()
    feed(tracker, [[PERSON]] * 3)
    tracker.update(found([PERSON], 0.5))
    before, dropped = snapshot(tracker), dict(tracker.dropped)
    with pytest.raises(StampError, match="stamp"):
        tracker.update(found([PERSON, (float("nan"), 0, 1, 1)], stamp))
    assert all(np.array_equal(a, b) for a, b in zip(before, snapshot(tracker), strict=True))
    assert tracker.stamp == 0.5 and tracker.dropped == dropped
    assert tracker.update(found([PERSON], 0.6)).ids.tolist() == [1]


def test_a_jump_back_is_told_from_a_late_message() -> None:
    tracker = DeepSort(TrackerOptions(backward_jump_s=0.5))
    assert not tracker.is_backward_jump(-1e9)
    tracker.update(found([PERSON], 100.0))
    assert not tracker.is_backward_jump(100.0)
    assert not tracker.is_backward_jump(99.6)
    assert not tracker.is_backward_jump(200.0)
    assert tracker.is_backward_jump(99.4)
    tracker.reset()
    assert not tracker.is_backward_jump(0.0)


def test_reset_forgets_everything_but_the_ids() -> None:
    tracker = DeepSort()
    looks = np.eye(1, 16, dtype=np.float32)
    for i in range(3):
        tracker.update(found([PERSON], 100 + i / 30), looks)
    tracker.reset()
    assert tracker.stamp is None and len(tracker._table) == 0
    for i in range(3):  # another clock, another length of vectors, other classes
        tracks = tracker.update(found([PERSON], i / 30, names=("dog",)), looks[:, :4])
    assert tracks.ids.tolist() == [2] and tracks.class_names == ("dog",)
    assert sum(tracker.dropped.values()) == 0


def test_a_pause_longer_than_max_age_ends_all_tracks() -> None:
    tracker = DeepSort()
    feed(tracker, [[PERSON]] * 3)
    tracker.update(found([PERSON], 1e15))
    assert tracker._table.ids.tolist() == [2]
    assert np.isfinite(tracker._table.means).all() and np.isfinite(tracker._table.covariances).all()


def test_two_trackers_count_their_own_ids() -> None:
    first, second = DeepSort(), DeepSort()
    assert feed(first, [[PERSON]] * 3).ids.tolist() == feed(second, [[PERSON]] * 3).ids.tolist() == [1]


def test_bad_detections_are_left_out_and_counted() -> None:
    nan, inf = float("nan"), float("inf")
    boxes = [
        PERSON,
        (nan, 0, 10, 10),
        (0, 0, inf, 10),
        (-inf, -inf, inf, inf),
        (10, 10, 5, 20),
        (10, 10, 20, 10),
        (0, 0, 1e9, 10),
        PERSON,
        PERSON,
        PERSON,
        PERSON,
        PERSON,
    ]
    scores = [0.9] * 7 + [nan, 1.5, -0.1, 0.9, 0.9]
    labels = [0] * 10 + [2, -1]
    tracker = DeepSort()
    for i in range(3):
        tracks = tracker.update(found(boxes, i / 30, labels, scores))
    assert tracks.ids.tolist() == [1]
    assert {reason: n for reason, n in tracker.dropped.items() if n} == {"box": 18, "score": 9, "label": 6}


def test_bad_vectors_are_left_out_and_their_detections_tracked() -> None:
    tracker = DeepSort()
    looks = np.eye(1, 16, dtype=np.float32)
    bad = [
        np.full((1, 16), np.nan, np.float32),
        np.full((1, 16), np.inf, np.float32),
        np.full((1, 16), 1e300),
        np.ones((1, 15), np.float32),
        np.ones((2, 16), np.float32),
        np.ones(16, np.float32),
        np.ones((1, 0), np.float32),
        np.zeros((1, 16), np.float32),
    ]
    for i, vectors in enumerate([looks, looks, looks, *bad, looks]):
        tracks = tracker.update(found([PERSON], i / 30), vectors)
    assert tracks.ids.tolist() == [1]
    assert tracker.dropped["appearance_value"] == 3
    assert tracker.dropped["appearance_shape"] == 4
    assert tracker.dropped["appearance_unknown"] == 1
    assert np.isfinite(tracker._galleries._vectors).all()


def test_vectors_need_not_be_of_length_one() -> None:
    looks = np.eye(2, 8, dtype=np.float32)
    boxes = [PERSON, (300.0, 100.0, 340.0, 200.0)]
    plain, scaled = DeepSort(), DeepSort()
    for i in range(6):
        a = plain.update(found(boxes, i / 30), looks)
        b = scaled.update(found(boxes, i / 30), looks * np.float32(1e20))
    assert a.ids.tolist() == b.ids.tolist() == [1, 2] and np.array_equal(a.boxes, b.boxes)


def test_only_the_best_detections_of_a_flood_are_tracked() -> None:
    tracker = DeepSort(TrackerOptions(max_detections=3, n_init=1))
    boxes = [(50.0 * i, 0.0, 50.0 * i + 40, 80.0) for i in range(8)]
    scores = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.5]
    for i in range(2):
        tracks = tracker.update(found(boxes, i / 30, scores=scores))
    assert tracks.boxes[:, 0].round().tolist() == [50, 150, 250]
    assert tracker.dropped["excess"] == 10


def test_low_scores_are_passed_over_without_being_bad() -> None:
    tracker = DeepSort(TrackerOptions(min_score=0.5, birth_score=0.0))
    for i in range(3):
        tracks = tracker.update(found([PERSON, (300, 0, 340, 90)], i / 30, scores=[0.5, 0.4]))
    assert tracks.ids.tolist() == [1] and sum(tracker.dropped.values()) == 0


def test_the_list_of_classes_may_grow_but_not_change() -> None:
    tracker = DeepSort()
    feed(tracker, [[PERSON]] * 3)
    tracks = tracker.update(found([PERSON, (300, 0, 340, 90)], 1.0, labels=[0, 2], names=(*NAMES, "bicycle")))
    assert tracks.class_names == (*NAMES, "bicycle") and tracks.ids.tolist() == [1]
    assert tracker.update(Detections.empty((), 1.1)).class_names == (*NAMES, "bicycle")
    before = snapshot(tracker)
    with pytest.raises(ValueError, match="reset"):
        tracker.update(found([PERSON], 1.2, names=("car", "person")))
    assert all(np.array_equal(a, b) for a, b in zip(before, snapshot(tracker), strict=True))
    assert tracker.stamp == 1.1


def test_memory_does_not_grow_with_time() -> None:
    rng = np.random.default_rng(0)
    tracker = DeepSort(TrackerOptions(gallery_size=20))
    sizes = []
    for i in range(600):
        n = 12 + int(rng.integers(0, 4))
        corner = rng.uniform(0, 2000, (n, 2))  # nearly every detection starts a track
        boxes = np.concatenate((corner, corner + rng.uniform(20, 200, (n, 2))), axis=1)
        tracker.update(found(boxes.astype(np.float32), i / 30), rng.normal(size=(n, 8)).astype(np.float32))
        sizes.append((tracker._galleries.nbytes, len(tracker._table)))
    assert max(sizes[300:])[0] == max(sizes[:300])[0]
    assert max(n for _, n in sizes) < 200
    assert tracker._galleries.count(tracker._table.slots).max() <= 20


def test_options_describe_themselves() -> None:
    for option in fields(TrackerOptions):
        assert option.metadata["description"].endswith(".")
        if isinstance(option.default, str):
            assert option.default in option.metadata["choices"]
        elif not isinstance(option.default, bool):
            assert option.metadata["min"] <= option.default <= option.metadata["max"]


@pytest.mark.parametrize(
    "bad",
    [
        {"max_iou_distance": 1.5},
        {"n_init": 0},
        {"n_init": 2.0},
        {"n_init": True},
        {"max_age_s": float("nan")},
        {"max_age_s": "1"},
        {"class_aware": 1},
        {"gallery_size": 0},
        {"output_box": "mean"},
        {"state": 1},
    ],
)
def test_options_without_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        TrackerOptions(**bad)  # type: ignore[arg-type]


def test_a_track_starts_only_from_a_well_scored_detection() -> None:
    tracker = DeepSort(TrackerOptions(strong_score=0.0, birth_score=0.6, n_init=2))
    got = [tracker.update(found([PERSON], i / 30, scores=[0.59])).ids.tolist() for i in range(3)]
    assert got == [[], [], []] and len(tracker._table) == 0
    # born at 0.6; what confirms and continues it may be weaker
    got = [tracker.update(found([PERSON], 1 + i / 30, scores=[s])).ids.tolist() for i, s in enumerate((0.6, 0.3))]
    assert got == [[], [1]]


def test_weak_detections_continue_confirmed_tracks_and_nothing_else() -> None:
    tracker = DeepSort(TrackerOptions(strong_score=0.5, birth_score=0.0, n_init=2))
    looks = np.eye(1, 8, dtype=np.float32)
    tracker.update(found([PERSON], 0.0, scores=[0.9]), looks)
    tracker.update(found([PERSON], 0.1, scores=[0.4]), looks)  # does not confirm: the tentative track dies
    assert len(tracker._table) == 0
    for i in range(2):
        tracker.update(found([PERSON], 0.2 + i / 10, scores=[0.9]), looks)
    # unlike looks do not matter, and do not enter the gallery
    tracks = tracker.update(found([PERSON], 0.4, scores=[0.4]), -looks)
    assert tracks.ids.tolist() == [2] and tracks.scores[0] == pytest.approx(0.4)
    assert tracker._galleries.count(tracker._table.slots).tolist() == [2]
    # less than half of it: another object, or the background
    beside = (PERSON[0] + 15, PERSON[1], PERSON[2] + 15, PERSON[3])
    assert len(tracker.update(found([beside], 0.5, scores=[0.4]), looks)) == 0
    # seen two frames ago: a weak detection there is no proof that it is back
    assert len(tracker.update(found([PERSON], 0.6, scores=[0.4]), looks)) == 0


def test_a_strong_detection_goes_before_a_weak_one() -> None:
    """The weak box lies better, but the strong one is asked first; the weak one left over starts nothing."""
    tracker = DeepSort(TrackerOptions(strong_score=0.5, output_box="detection"))
    feed(tracker, [[PERSON]] * 4)
    shifted = (PERSON[0] + 8, PERSON[1], PERSON[2] + 8, PERSON[3])
    tracks = tracker.update(found([PERSON, shifted], 0.2, scores=[0.4, 0.9]))
    assert tracks.ids.tolist() == [1] and tracks.boxes[0].tolist() == list(shifted)
    assert len(tracker._table) == 1


@pytest.mark.parametrize("state", ["aspect", "size"])
def test_the_box_put_out_is_the_filters_or_the_detections(state: str) -> None:
    last = (104.0, 90.0, 150.0, 205.0)
    boxes = {}
    for output_box in ("filtered", "detection"):
        tracker = DeepSort(TrackerOptions(output_box=output_box, state=state, coast_s=1.0, coast_share=1.0))
        boxes[output_box] = feed(tracker, [[PERSON]] * 4 + [[last]]).boxes[0]
        # one that coasts has no detection: the filter predicts
        coasting = tracker.update(found([], 0.2)).boxes[0]
        assert coasting == pytest.approx(tracker._filter.boxes(tracker._table.means)[0], abs=1e-3)
    assert boxes["detection"].tolist() == list(last)
    between = (boxes["filtered"] - PERSON) / (np.array(last) - PERSON)
    assert ((between > 0.1) & (between < 0.9)).all()


def test_a_well_scored_box_is_trusted_more() -> None:
    shifted = (PERSON[0] + 10, PERSON[1], PERSON[2] + 10, PERSON[3])
    moved = {}
    for by_score in (False, True):
        for score in (0.1, 0.9):
            tracker = DeepSort(TrackerOptions(noise_by_score=by_score, output_box="filtered"))
            feed(tracker, [[PERSON]] * 5)
            moved[by_score, score] = float(tracker.update(found([shifted], 0.2, scores=[score])).boxes[0, 0])
    assert moved[False, 0.1] == moved[False, 0.9]
    assert moved[True, 0.9] - moved[True, 0.1] > 1


def test_the_moving_average_follows_a_slow_change_of_looks() -> None:
    """Looks turn by 3 degrees a frame; after 60 frames the first look is forgotten, where a gallery still has it."""
    first = np.array([[1.0, 0.0]], np.float32)
    kept = {}
    for momentum in (0.0, 0.9):
        tracker = DeepSort(TrackerOptions(appearance_momentum=momentum))
        for i in range(60):
            angle = np.radians(3 * i)
            tracks = tracker.update(found([PERSON], i / 30), np.array([[np.cos(angle), np.sin(angle)]], np.float32))
        assert tracks.ids.tolist() == [1]
        slots = tracker._table.slots
        kept[momentum] = tracker._galleries.distances(slots, first, np.array([0]), np.array([0]))[0]
    assert kept[0.0] == pytest.approx(0, abs=1e-6) and kept[0.9] > 1.5


def test_published_options_say_every_difference() -> None:
    options = TrackerOptions.published(25.0)
    assert options.max_age_s == pytest.approx(30 / 25) and options.nominal_rate_hz == 25
    assert (options.strong_score, options.birth_score, options.output_box) == (0, 0, "filtered")


anything = st.floats(width=32)
near = st.floats(-200, 2200, width=32)
side = st.floats(-5, 400, width=32)


@st.composite
def wild_frames(draw: st.DrawFn) -> list[tuple[float, NDArray[np.float32], list[float], list[int], bool]]:
    """Frames of sane and insane detections at uneven times."""
    frames = []
    stamp = draw(st.sampled_from([0.0, 1.7e9, -50.0]))
    for _ in range(draw(st.integers(1, 12))):
        stamp += draw(st.one_of(st.sampled_from([1 / 30, 0.1]), st.floats(1e-3, 1e6)))
        rows = []
        for _ in range(draw(st.integers(0, 5))):
            if draw(st.integers(0, 4)):
                x, y, w, h = draw(near), draw(near), draw(side), draw(side)
                rows.append([x, y, x + w, y + h])
            else:
                rows.append([draw(anything) for _ in range(4)])
        with np.errstate(over="ignore"):
            boxes = np.asarray(rows, np.float32).reshape(-1, 4)
        scores = [draw(st.one_of(st.floats(0, 1), anything)) for _ in rows]
        labels = [draw(st.integers(-1, 2)) for _ in rows]
        frames.append((stamp, boxes, scores, labels, draw(st.booleans())))
    return frames


@settings(deadline=None)
@given(wild_frames(), st.booleans(), st.integers(1, 3), st.sampled_from([0.0, 0.5]), st.booleans())
def test_whatever_comes_in_ids_are_unique_and_states_finite(
    frames: list[tuple[float, NDArray[np.float32], list[float], list[int], bool]],
    class_aware: bool,
    n_init: int,
    coast_s: float,
    new: bool,
) -> None:
    other = TrackerOptions(
        state="size", noise_by_score=True, appearance_momentum=0.5, strong_score=0.5, output_box="detection"
    )
    options = other if new else TrackerOptions()
    tracker = DeepSort(replace(options, class_aware=class_aware, n_init=n_init, coast_s=coast_s))
    rng = np.random.default_rng(len(frames))
    ever: set[int] = set()
    alive: set[int] = set()
    for stamp, boxes, scores, labels, with_vectors in frames:
        vectors = rng.normal(size=(len(boxes), 4)).astype(np.float32) if with_vectors else None
        with np.errstate(over="ignore"):
            detections = found(boxes, stamp, labels, scores)
        tracks = tracker.update(detections, vectors)
        table = tracker._table
        assert np.isfinite(table.means).all() and np.isfinite(table.covariances).all()
        assert len(set(table.ids.tolist())) == len(table)
        born = set(table.ids.tolist()) - alive
        assert not born & ever, "an id was given twice"
        alive = set(table.ids.tolist())
        ever |= alive
        used = table.slots[table.slots >= 0]
        assert len(set(used.tolist())) == len(used) == int(tracker._galleries._taken.sum())
        assert (stamp - table.seen <= tracker.options.max_age_s + 1e-5).all()
        assert set(tracks.ids.tolist()) <= set(table.ids[table.confirmed].tolist())
        assert np.isfinite(tracks.boxes).all() and (tracks.boxes[:, 2:] >= tracks.boxes[:, :2]).all()
        assert np.isfinite(tracks.velocities).all()
        assert ((tracks.labels >= 0) & (tracks.labels < len(NAMES))).all()
        assert (tracks.missed <= coast_s + 1e-5).all() and (tracks.ages >= 0).all()


def test_only_what_is_matched_by_looks_is_looked_at() -> None:
    options = TrackerOptions(strong_score=0.5, max_detections=2)
    scores = np.array([0.9, 0.4, np.nan, 80.0, 0.6, 0.7, -1.0], np.float32)
    assert np.flatnonzero(worth_a_look(scores, options)).tolist() == [0, 5]
    assert np.flatnonzero(worth_a_look(scores, replace(options, max_detections=9))).tolist() == [0, 4, 5]
    tracker = DeepSort(TrackerOptions(strong_score=0.5))
    tracker.update(found([PERSON, PERSON], 0.0, scores=[0.9, 0.4]), np.zeros((2, 8), np.float32))
    assert tracker.dropped["appearance_unknown"] == 1  # that of the weak one is not missed
