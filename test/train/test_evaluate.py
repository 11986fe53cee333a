"""Metrics: perfect answers score 1, absent ones 0, classes without a box are null, and the command writes its
contract."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up import change, write_set

from mmkd_ros.inference.weights import save_detector
from mmkd_ros.network import Detector, DetectorConfig
from mmkd_ros.types import Detections, ImagePair
from mmkd_train.__main__ import main
from mmkd_train.data.coco import CocoPairs, LabelRules
from mmkd_train.evaluate import evaluate

CLASSES = ("person", "car", "bicycle")
RULES = LabelRules(CLASSES, partial={"persons_only": ("person",)})


def oracle(dataset: CocoPairs, pair: ImagePair) -> Detections:
    sample = dataset[int(pair.stamp)]
    return Detections(sample.boxes, np.ones(len(sample.labels), np.float32), sample.labels, CLASSES, pair.stamp)


def test_perfect_answers(tmp_path: Path) -> None:
    dataset = CocoPairs(write_set(tmp_path, "a", 6, 0), tmp_path, RULES)
    metrics = evaluate(lambda pair: oracle(dataset, pair), dataset, progress=False)
    assert metrics["mAP"] == pytest.approx(1.0) and metrics["mAP50"] == pytest.approx(1.0)
    assert metrics["day"]["mAP50"] == pytest.approx(1.0) and metrics["night"]["mAP50"] == pytest.approx(1.0)
    assert metrics["per_class"]["person"]["mAP50"] == pytest.approx(1.0)
    assert metrics["per_class"]["bicycle"] is None
    assert metrics["pairs"] == 6 and metrics["ms_per_pair"] > 0


def test_no_answers_and_half_of_the_answers(tmp_path: Path) -> None:
    dataset = CocoPairs(write_set(tmp_path, "a", 6, 0), tmp_path, RULES)
    nothing = evaluate(lambda pair: Detections.empty(CLASSES), dataset, progress=False)
    assert nothing["mAP50"] == 0.0 and nothing["per_class"]["bicycle"] is None

    def persons(pair: ImagePair) -> Detections:
        full = oracle(dataset, pair)
        keep = full.labels == 0
        return Detections(full.boxes[keep], full.scores[keep], full.labels[keep], CLASSES)

    half = evaluate(persons, dataset, progress=False)
    assert half["mAP50"] == pytest.approx(0.5)
    assert half["per_class"]["person"]["mAP50"] == pytest.approx(1.0) and half["per_class"]["car"]["mAP50"] == 0.0


def test_answers_of_unlabelled_classes_are_not_scored(tmp_path: Path) -> None:
    path = write_set(tmp_path, "a", 4, 0)

    def persons_only(images: list[dict[str, object]]) -> None:
        for image in images:
            image["source"] = "persons_only"

    change(
        path,
        images=persons_only,
        annotations=lambda boxes: boxes.__setitem__(slice(None), [b for b in boxes if b["category_id"] == 1]),
    )
    dataset = CocoPairs(path, tmp_path, RULES)

    def with_extra_cars(pair: ImagePair) -> Detections:
        found = oracle(dataset, pair)
        return Detections(
            np.concatenate((np.array([[0, 0, 30, 30]], np.float32), found.boxes)),
            np.ones(len(found) + 1, np.float32),
            np.concatenate((np.array([1]), found.labels)),
            CLASSES,
        )

    assert evaluate(with_extra_cars, dataset, progress=False)["mAP50"] == pytest.approx(1.0)


def test_command_line_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = write_set(tmp_path, "a", 2, 0)
    config = DetectorConfig(
        backbone="mobilenetv3_small_100", input_size=(64, 64), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
    )
    save_detector(tmp_path / "w.safetensors", Detector(config), {})
    common = [
        "evaluate",
        "--weights",
        str(tmp_path / "w.safetensors"),
        "--annotations",
        str(annotations),
        "--root",
        str(tmp_path),
    ]
    for modality in ("both", "rgb", "thermal"):
        out = tmp_path / f"{modality}.json"
        assert main([*common, "--modality", modality, "--device", "cpu", "--json", str(out)]) == 0
        metrics = json.loads(out.read_text())
        assert {"mAP", "mAP50", "per_class", "day", "night", "ms_per_pair", "pairs"} <= set(metrics)
        assert set(metrics["per_class"]) == set(CLASSES) and metrics["per_class"]["bicycle"] is None
        assert metrics["pairs"] == 2
    assert "mAP50" in capsys.readouterr().out
    assert main([*common[:2], str(tmp_path / "none.safetensors"), *common[3:]]) == 2
    assert "does not exist" in capsys.readouterr().err
