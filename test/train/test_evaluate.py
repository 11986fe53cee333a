"""The command: perfect answers score 1, absent ones 0, classes without a box are null; one file or several, shifts,
report and JSON; bad input is refused with a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up import change, write_set

from mmkd_ros.inference.weights import save_detector
from mmkd_ros.network import Detector, DetectorConfig
from mmkd_ros.types import Detections, ImagePair
from mmkd_train.__main__ import main
from mmkd_train.data.coco import CocoPairs, LabelRules
from mmkd_train.errors import UserError
from mmkd_train.evaluate import compare, evaluate, weights_names

CLASSES = ("person", "car", "bicycle")
RULES = LabelRules(CLASSES, partial={"persons_only": ("person",)})


def oracle(dataset: CocoPairs, pair: ImagePair) -> Detections:
    sample = dataset[int(pair.stamp)]
    return Detections(sample.boxes, np.ones(len(sample.labels), np.float32), sample.labels, CLASSES, pair.stamp)


def write_weights(path: Path, class_names: tuple[str, ...] = CLASSES) -> str:
    config = DetectorConfig(
        backbone="mobilenetv3_small_100",
        class_names=class_names,
        input_size=(64, 64),
        bifpn_channels=16,
        bifpn_repeats=1,
        head_repeats=1,
    )
    save_detector(path, Detector(config), {})
    return str(path)


def test_perfect_answers(tmp_path: Path) -> None:
    dataset = CocoPairs(write_set(tmp_path, "a", 6, 0), tmp_path, RULES)
    metrics = evaluate(lambda pair: oracle(dataset, pair), dataset, progress=False)
    assert metrics["mAP"] == pytest.approx(1.0) and metrics["mAP50"] == pytest.approx(1.0)
    assert metrics["day"] == {"mAP50": pytest.approx(1.0), "pairs": 3}
    assert metrics["night"] == {"mAP50": pytest.approx(1.0), "pairs": 3}
    person = metrics["per_class"]["person"]
    assert person["mAP50"] == pytest.approx(1.0)
    assert person["precision"] == 1.0 and person["recall"] == 1.0
    assert person["miss_rate"] == pytest.approx(0.0, abs=1e-9)
    assert metrics["per_class"]["bicycle"] is None
    assert metrics["pairs"] == 6 and metrics["ms_per_pair"] > 0


def test_no_answers_and_half_of_the_answers(tmp_path: Path) -> None:
    dataset = CocoPairs(write_set(tmp_path, "a", 6, 0), tmp_path, RULES)
    nothing = evaluate(lambda pair: Detections.empty(CLASSES), dataset, progress=False)
    assert nothing["mAP50"] == 0.0 and nothing["per_class"]["bicycle"] is None
    person = nothing["per_class"]["person"]
    assert person["precision"] is None and person["recall"] == 0.0 and person["miss_rate"] == pytest.approx(1.0)

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


def test_one_weights_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = write_set(tmp_path, "a", 2, 0)
    weights = write_weights(tmp_path / "w.safetensors")
    common = ["evaluate", "--annotations", str(annotations), "--root", str(tmp_path), "--device", "cpu"]
    out = tmp_path / "metrics.json"
    assert main([*common, "--weights", weights, "--shifts", "4", "0", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    for row in ("both", "rgb", "thermal", "w   0 px", "w   4 px"):
        assert f"\n{row}" in printed
    assert "no box of 'bicycle'" in printed and "kept" not in printed
    metrics = json.loads(out.read_text())
    assert set(metrics["rows"]["w"]) == {"both", "rgb", "thermal"}
    assert set(metrics["shifts"]["w"]) == {"0", "4"} and metrics["shifts"]["w"]["0"]["mAP50"] == metrics["mAP50"]
    for row in (metrics, *metrics["rows"]["w"].values()):
        assert {"mAP", "mAP50", "per_class", "day", "night", "ms_per_pair", "pairs"} <= set(row)
        assert set(row["per_class"]) == set(CLASSES) and row["per_class"]["bicycle"] is None
        assert row["pairs"] == 2

    assert main([*common, "--weights", weights, "--modality", "thermal", "--json", str(out)]) == 0
    only = json.loads(out.read_text())
    assert set(only["rows"]["w"]) == {"thermal"} and only["mAP50"] == metrics["rows"]["w"]["thermal"]["mAP50"]


def test_several_weights_files_and_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = write_set(tmp_path, "a", 2, 0)
    weights = [write_weights(tmp_path / f"{name}.safetensors") for name in ("teacher", "student")]
    out, report = tmp_path / "metrics.json", tmp_path / "report"
    paths = ["--annotations", str(annotations), "--root", str(tmp_path), "--json", str(out), "--report", str(report)]
    assert main(["evaluate", "--weights", *weights, *paths, "--device", "cpu", "--threshold", "0.02"]) == 0
    printed = capsys.readouterr().out
    assert "\nteacher both" in printed and "\nstudent thermal" in printed and "nothing (false)" in printed
    rows = json.loads(out.read_text())["rows"]
    for modality in ("both", "rgb", "thermal"):
        teacher, student = rows["teacher"][modality], rows["student"][modality]
        assert teacher["speed"] == 1.0 and student["speed"] == teacher["ms_per_pair"] / student["ms_per_pair"]
    for name in ("teacher", "student"):
        for file in ("precision_recall.png", "confusion.png", "worst_both.jpg", "worst_rgb.jpg", "worst_thermal.jpg"):
            picture = cv2.imread(str(report / name / file))
            assert picture is not None and picture.std() > 5


def test_a_set_without_rgb_has_no_rgb_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = write_set(tmp_path, "a", 2, 0, thermal_only=True)
    weights = write_weights(tmp_path / "w.safetensors")
    common = ["evaluate", "--annotations", str(annotations), "--root", str(tmp_path), "--weights", weights]
    assert main([*common, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "no picture for modality 'rgb'" in printed and "\nthermal" in printed and "\nrgb" not in printed
    assert main([*common, "--device", "cpu", "--modality", "rgb"]) == 2
    assert main([*common, "--device", "cpu", "--shifts", "4"]) == 2
    assert "leave out --shifts" in capsys.readouterr().err


def test_comparison() -> None:
    teacher, student, lost = ({"mAP50": m, "ms_per_pair": t} for m, t in ((0.8, 300.0), (0.6, 100.0), (None, 150.0)))
    compare([teacher, student, lost])
    assert teacher["kept"] == 1.0 and teacher["speed"] == 1.0
    assert student["kept"] == pytest.approx(0.75) and student["speed"] == pytest.approx(3.0)
    assert lost["kept"] is None and lost["speed"] == pytest.approx(2.0)


def test_names_of_weights() -> None:
    assert weights_names([Path("a/x.safetensors"), Path("b/y.safetensors")]) == ["x", "y"]
    assert weights_names([Path("a/x.safetensors"), Path("b/x.safetensors")]) == ["a_x", "b_x"]
    with pytest.raises(UserError, match="each file once"):
        weights_names([Path("a/x.safetensors"), Path("a/x.safetensors")])


def test_bad_input_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = write_set(tmp_path, "a", 2, 0)
    weights = write_weights(tmp_path / "w.safetensors")
    animals = write_weights(tmp_path / "animals.safetensors", ("cat", "dog"))
    empty = write_set(tmp_path, "empty", 0, 0)
    damaged = write_set(tmp_path, "damaged", 1, 0)
    (tmp_path / "pairs/rgb/damaged_000.png").write_bytes(b"no picture")
    broken = tmp_path / "broken.json"
    broken.write_text("{")

    def refused(weights: list[str], annotations: Path, *more: str) -> str:
        files = ["--weights", *weights, "--annotations", str(annotations), "--root", str(tmp_path)]
        assert main(["evaluate", *files, "--device", "cpu", *more]) == 2
        return capsys.readouterr().err

    assert "does not exist" in refused([str(tmp_path / "none.safetensors")], annotations)
    assert "has no box of cat, dog" in refused([animals], annotations)
    assert "one by one" in refused([weights, animals], annotations)
    assert "lists no image" in refused([weights], empty)
    assert "damaged_000.png cannot be decoded" in refused([weights], damaged)
    assert "is not a COCO annotation file" in refused([weights], broken)
    assert "--threshold" in refused([weights], annotations, "--threshold", "1.5")
    assert "--shifts must not be negative" in refused([weights], annotations, "--shifts", "-4")
    assert "--shifts need both cameras" in refused([weights], annotations, "--shifts", "4", "--modality", "rgb")
