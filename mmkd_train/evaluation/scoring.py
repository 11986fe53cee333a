"""Detections of a set -> metrics: pycocotools' average precision by class, size, day and night, miss rate, and
precision and recall at the threshold that the node uses."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmkd_ros.inference import InferenceOptions
from mmkd_ros.types import Detections
from mmkd_train.data.coco import CocoPairs
from mmkd_train.evaluation.curves import Answers, log_average_miss_rate, operating_point

SCORE_THRESHOLD = 0.01  # low, so that the precision-recall curve has its tail
NODE_THRESHOLD = InferenceOptions().score_threshold
SIZES = ("small", "medium", "large")  # COCO's: area up to 32^2, up to 96^2, above; square pixels of the picture


@dataclass(frozen=True, slots=True, eq=False)
class CocoScores:
    """What pycocotools made of some pictures.

    Attributes:
        precision: (10 IoU, 101 recalls, C classes, 4 areas: all, small, medium, large) interpolated precision, -1
            where there is no box to find.
        answers: per class, matched at IoU 0.5.
    """

    precision: NDArray[np.float64]
    answers: tuple[Answers, ...]

    def mean(self, label: int | None = None, iou: int | None = None, area: int = 0) -> float | None:
        """Average precision over the boxes' classes (or of ``label``) and IoUs (or the one at index ``iou``)."""
        values = self.precision[..., area] if label is None else self.precision[:, :, label, area]
        values = values if iou is None else values[iou]
        scored = values[values > -1]
        return float(scored.mean()) if scored.size else None


def _xywh(box: NDArray[np.float32]) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]


def _indexed(annotations: list[dict[str, Any]], positions: Sequence[int], class_names: Sequence[str]) -> COCO:
    """Boxes or answers as pycocotools wants them; image ids are positions plus one, categories labels plus one."""
    for number, annotation in enumerate(annotations, 1):
        annotation.update(id=number, area=annotation["bbox"][2] * annotation["bbox"][3])
    coco = COCO()
    coco.dataset = {
        "images": [{"id": position + 1} for position in positions],
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(class_names)],
    }
    coco.createIndex()
    return coco


def coco_scores(dataset: CocoPairs, results: dict[int, Detections], positions: Sequence[int]) -> CocoScores:
    """Score the answers at some positions. Answers of classes that a picture does not label are left out."""
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    labelled = np.zeros(len(dataset.rules.class_names), np.int64)
    for position in positions:
        sample, answers = dataset.labels(position), results[position]
        labelled += sample.labelled
        for box, label, ignore in zip(sample.boxes, sample.labels, sample.ignore, strict=True):
            place = {"image_id": position + 1, "category_id": int(label) + 1, "bbox": _xywh(box)}
            truth.append({**place, "iscrowd": int(ignore)})
        for box, score_, label in zip(answers.boxes, answers.scores, answers.labels, strict=True):
            if sample.labelled[label]:
                place = {"image_id": position + 1, "category_id": int(label) + 1, "bbox": _xywh(box)}
                found.append({**place, "iscrowd": 0, "score": float(score_)})
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        names = dataset.rules.class_names
        scorer = COCOeval(_indexed(truth, positions, names), _indexed(found, positions, names), "bbox")
        scorer.evaluate()
        scorer.accumulate()
    answers_by_class = tuple(_answers(scorer, label, int(images)) for label, images in enumerate(labelled))
    return CocoScores(np.asarray(scorer.eval["precision"][..., -1]), answers_by_class)


def _answers(scorer: COCOeval, label: int, images: int) -> Answers:
    """One class's answers at IoU 0.5 out of pycocotools' matching over all sizes."""
    whole = scorer.params.areaRng[0]
    parts = [part for part in scorer.evalImgs if part and part["category_id"] == label + 1 and part["aRng"] == whole]
    counted = [~np.asarray(part["dtIgnore"][0], bool) for part in parts]
    scores = [np.asarray(part["dtScores"], np.float64)[kept] for part, kept in zip(parts, counted, strict=True)]
    hits = [np.asarray(part["dtMatches"][0] > 0)[kept] for part, kept in zip(parts, counted, strict=True)]
    all_scores = np.concatenate([np.zeros(0), *scores])
    order = np.argsort(-all_scores, kind="stable")
    boxes = sum(int((np.asarray(part["gtIgnore"]) == 0).sum()) for part in parts)
    return Answers(all_scores[order], np.concatenate([np.zeros(0, bool), *hits])[order], boxes, images)


def score(dataset: CocoPairs, results: dict[int, Detections], threshold: float = NODE_THRESHOLD) -> dict[str, Any]:
    """The metrics of answers that were already computed.

    Args:
        dataset: ground truth.
        results: position -> detections; positions without an entry are left out.
        threshold: precision and recall are those of answers that score more.

    Returns:
        {"mAP", "mAP50", "small", "medium", "large", "day", "night", "per_class", "pairs", "threshold"}. A size is
        {"mAP", "mAP50"}, a time of day {"mAP50", "pairs"}. A class is None without a box, else {"mAP", "mAP50",
        "miss_rate", "precision", "recall", "boxes", "small", "medium", "large", "day", "night"}, where a time of day
        is {"mAP50", "miss_rate"}. Fractions, or None where there is no box to find; "precision" also where nothing
        was answered.
    """
    positions = sorted(results)
    whole = coco_scores(dataset, results, positions)
    metrics: dict[str, Any] = {
        "mAP": whole.mean(),
        "mAP50": whole.mean(iou=0),
        **_by_size(whole, None),
        "pairs": len(positions),
        "threshold": threshold,
    }
    times: dict[str, CocoScores] = {}
    for name, night in (("day", False), ("night", True)):
        chosen = [position for position in positions if bool(dataset.images[position].get("night", False)) == night]
        times[name] = coco_scores(dataset, results, chosen)
        metrics[name] = {"mAP50": times[name].mean(iou=0), "pairs": len(chosen)}
    metrics["per_class"] = {
        name: _class_metrics(whole, times, label, threshold) if whole.answers[label].boxes else None
        for label, name in enumerate(dataset.rules.class_names)
    }
    return metrics


def _by_size(scores: CocoScores, label: int | None) -> dict[str, dict[str, float | None]]:
    return {
        name: {"mAP": scores.mean(label, None, area), "mAP50": scores.mean(label, 0, area)}
        for area, name in enumerate(SIZES, 1)
    }


def _class_metrics(whole: CocoScores, times: dict[str, CocoScores], label: int, threshold: float) -> dict[str, Any]:
    answers = whole.answers[label]
    precision, recall = operating_point(answers, threshold)
    return {
        "mAP": whole.mean(label),
        "mAP50": whole.mean(label, 0),
        "miss_rate": log_average_miss_rate(answers),
        "precision": precision,
        "recall": recall,
        "boxes": answers.boxes,
        **_by_size(whole, label),
        **{
            name: {"mAP50": part.mean(label, 0), "miss_rate": log_average_miss_rate(part.answers[label])}
            for name, part in times.items()
        },
    }
