"""The measures by hand: miss rate, operating point, sizes, matching, confusion, the moved thermal picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import change, write_set
from numpy.typing import NDArray

from mmkd_ros.types import Detections, ImagePair
from mmkd_train.data.coco import CocoPairs, LabelRules, Sample
from mmkd_train.evaluation.curves import Answers, log_average_miss_rate, operating_point, precision_recall
from mmkd_train.evaluation.matching import confusion_matrix, match
from mmkd_train.evaluation.misregistration import evaluate_shifts
from mmkd_train.evaluation.running import run_detectors, run_modality, shift_thermal
from mmkd_train.evaluation.scoring import coco_scores, score
from mmkd_train.evaluation.sheet import worst_positions

CLASSES = ("person", "car")
ALL = np.ones(2, bool)


def answers(scores: list[float], hits: list[int], boxes: int, images: int) -> Answers:
    return Answers(np.array(scores, np.float64), np.array(hits, bool), boxes, images)


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """x1, y1, x2, y2, score, label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), CLASSES)


def sample(*rows: tuple[float, float, float, float, int, bool]) -> Sample:
    """x1, y1, x2, y2, label, ignore."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Sample(None, None, table[:, :4], table[:, 4].astype(np.int64), table[:, 5].astype(bool), ALL)


def made_up_set(tmp_path: Path, boxes: list[tuple[int, int, list[float], int]], pictures: int = 2) -> CocoPairs:
    """A set with exactly these (image, category 1 or 2, xywh, iscrowd)."""
    entries: list[dict[str, Any]] = [
        {"id": k + 1, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
        for k, (image, category, box, crowd) in enumerate(boxes)
    ]
    path = write_set(tmp_path, "a", pictures, 0, side=200)
    change(path, annotations=lambda old: old.__setitem__(slice(None), entries))
    return CocoPairs(path, tmp_path, LabelRules(CLASSES))


def test_log_average_miss_rate_by_hand() -> None:
    # 4 boxes, 8 images. Points (false per image, miss rate): (0, .75), (1/8, .75), (1/8, .5), (2/8, .5), (2/8, .25).
    # Below 1/8 lie .01 .018 .032 .056 .1; .178 lies below 2/8; .316 .562 1 lie past the end of the curve.
    curve = answers([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 0, 1], 4, 8)
    assert log_average_miss_rate(curve) == pytest.approx((0.75**5 * 0.5 * 0.25**3) ** (1 / 9))
    assert log_average_miss_rate(curve) == pytest.approx(0.49711, abs=1e-5)


def test_log_average_miss_rate_at_the_ends() -> None:
    assert log_average_miss_rate(answers([], [], 3, 5)) == pytest.approx(1.0)
    assert log_average_miss_rate(answers([0.9], [1], 1, 5)) == pytest.approx(0.0, abs=1e-9)
    assert log_average_miss_rate(answers([0.9], [0], 0, 5)) is None
    # The best answer is false, in the only image: no rate below 1 is reached, at 1 everything is found.
    assert log_average_miss_rate(answers([0.9, 0.8], [0, 1], 2, 1)) == pytest.approx(0.5 ** (1 / 9))


def test_equal_scores_cannot_be_told_apart_by_a_threshold() -> None:
    for hits in ([1, 0], [0, 1]):
        precision, recall = precision_recall(answers([0.9, 0.9], hits, 1, 1))
        assert precision.tolist() == [0.5] and recall.tolist() == [1.0]


def test_operating_point() -> None:
    curve = answers([0.9, 0.8, 0.5, 0.4], [1, 0, 1, 1], 4, 1)
    assert operating_point(curve, 0.5) == (0.5, 0.25)  # what scores 0.5 is not published: the node wants more
    assert operating_point(curve, 0.45) == (pytest.approx(2 / 3), 0.5)
    assert operating_point(curve, 0.95) == (None, 0.0)
    assert operating_point(answers([0.9], [0], 0, 1), 0.5) == (0.0, None)


def test_sizes_are_areas_in_pixels_of_the_picture(tmp_path: Path) -> None:
    dataset = made_up_set(
        tmp_path, [(1, 1, [0, 0, 30, 30], 0), (1, 1, [40, 0, 60, 60], 0), (2, 1, [0, 0, 120, 120], 0)]
    )
    metrics = score(dataset, {0: found((0, 0, 30, 30, 0.9, 0)), 1: found((0, 0, 120, 120, 0.8, 0))})
    for values in (metrics, metrics["per_class"]["person"]):
        assert [values[size]["mAP50"] for size in ("small", "medium", "large")] == pytest.approx([1.0, 0.0, 1.0])
    assert metrics["per_class"]["person"]["recall"] == pytest.approx(2 / 3)
    assert metrics["per_class"]["person"]["night"]["mAP50"] == pytest.approx(1.0)
    assert metrics["per_class"]["car"] is None


def test_ignore_regions_count_neither_way(tmp_path: Path) -> None:
    dataset = made_up_set(tmp_path, [(1, 1, [0, 0, 20, 40], 0), (1, 1, [100, 0, 80, 80], 1)])
    results = {
        0: found((0, 0, 20, 40, 0.9, 0), (110, 10, 130, 50, 0.8, 0), (140, 10, 160, 50, 0.7, 0)),
        1: Detections.empty(CLASSES),
    }
    person = coco_scores(dataset, results, [0, 1]).answers[0]
    assert person.hits.tolist() == [True] and person.boxes == 1 and person.images == 2
    assert confusion_matrix(dataset, results, 0.5).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert worst_positions(dataset, results, 0.5) == []


def test_matching_takes_the_best_answer_first_and_each_box_once() -> None:
    truth = sample((0, 0, 10, 10, 0, False), (30, 0, 40, 10, 1, False))
    result = match(
        truth, found((0, 0, 10, 9, 0.9, 0), (0, 0, 10, 10, 0.8, 0), (30, 0, 40, 10, 0.4, 1)), 0.5, ALL, by_class=True
    )
    assert result.box_of.tolist() == [0, -1, -1]  # the second is a duplicate, the third below the threshold
    assert result.false.tolist() == [False, True, False] and result.missed.tolist() == [False, True]
    assert result.errors == 2


def test_a_wrong_class_is_a_confusion_or_two_errors() -> None:
    truth, answer = sample((0, 0, 10, 10, 0, False)), found((0, 0, 10, 10, 0.9, 1))
    assert match(truth, answer, 0.5, ALL, by_class=False).box_of.tolist() == [0]
    assert match(truth, answer, 0.5, ALL, by_class=True).errors == 2


def test_matching_without_boxes_or_answers() -> None:
    assert match(sample(), found((0, 0, 9, 9, 0.9, 0)), 0.5, ALL, by_class=True).false.tolist() == [True]
    assert match(sample((0, 0, 9, 9, 0, False)), found(), 0.5, ALL, by_class=True).missed.tolist() == [True]
    person_only = np.array([True, False])
    assert match(sample(), found((0, 0, 9, 9, 0.9, 1)), 0.5, person_only, by_class=True).errors == 0


def test_confusion_by_hand(tmp_path: Path) -> None:
    dataset = made_up_set(
        tmp_path,
        [(1, 1, [0, 0, 20, 40], 0), (1, 2, [50, 0, 40, 20], 0), (2, 1, [0, 0, 20, 40], 0), (2, 2, [50, 0, 40, 20], 0)],
    )
    results = {
        0: found((0, 0, 20, 40, 0.9, 0), (50, 0, 90, 20, 0.8, 0)),  # right; a car called a person
        1: found((100, 100, 120, 140, 0.7, 1), (0, 0, 20, 40, 0.3, 0)),  # a car where nothing is; too low a score
    }
    assert confusion_matrix(dataset, results, 0.5).tolist() == [[1, 0, 1], [1, 0, 1], [0, 1, 0]]
    worst = worst_positions(dataset, results, 0.5)
    assert [(position, matching.errors) for position, matching in worst] == [(1, 3), (0, 2)]


def test_shift_moves_the_thermal_picture_and_repeats_the_edge() -> None:
    rgb = np.zeros((3, 4, 3), np.uint8)
    thermal = np.arange(12, dtype=np.uint16).reshape(3, 4)
    moved = shift_thermal(ImagePair(rgb, thermal, 0.0), right=1, down=-1)
    assert moved is not None and moved.thermal is not None and moved.thermal.dtype == np.uint16
    assert moved.thermal.tolist() == [[4, 4, 5, 6], [8, 8, 9, 10], [8, 8, 9, 10]]
    assert shift_thermal(ImagePair(rgb, None, 0.0), 1, 0) is None


def test_shifts_are_the_mean_over_four_directions(tmp_path: Path) -> None:
    dataset = made_up_set(tmp_path, [(1, 1, [0, 0, 40, 40], 0), (2, 1, [0, 0, 40, 40], 0)])
    original = dataset.pair(0).thermal
    assert original is not None

    def only_sees_the_right_edge(pair: ImagePair) -> Detections:
        thermal: NDArray[Any] | None = pair.thermal
        assert thermal is not None
        moved_left = np.array_equal(thermal[:, :-8], dataset_thermal(pair)[:, 8:])
        return found() if moved_left else found((0, 0, 40, 40, 0.9, 0))

    def dataset_thermal(pair: ImagePair) -> NDArray[Any]:
        thermal = dataset.pair(int(pair.stamp)).thermal
        assert thermal is not None
        return thermal

    in_place = run_modality([only_sees_the_right_edge], dataset, "both", progress=False)
    (table,) = evaluate_shifts([only_sees_the_right_edge], dataset, [0, 8], in_place, progress=False)
    assert table[0]["mAP50"] == pytest.approx(1.0) and table[8]["mAP50"] == pytest.approx(0.75)
    assert table[8]["per_class"] == {"person": pytest.approx(0.75), "car": None} and table[8]["pairs"] == 2


def test_detectors_alternate_and_take_turns(tmp_path: Path) -> None:
    dataset = made_up_set(tmp_path, [], pictures=3)
    calls: list[str] = []

    def named(name: str) -> Any:
        def detect(pair: ImagePair) -> Detections:
            calls.append(f"{name}{int(pair.stamp)}")
            return found()

        return detect

    runs = run_detectors([named("a"), named("b")], dataset, lambda pair: pair, "test", progress=False)
    assert calls == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert [sorted(run.results) for run in runs] == [[0, 1, 2], [0, 1, 2]]
