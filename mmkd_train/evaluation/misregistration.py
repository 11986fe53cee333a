"""How much accuracy is lost when the thermal camera is out of place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from mmkd_ros.types import Detections
from mmkd_train.data.coco import CocoPairs
from mmkd_train.errors import UserError
from mmkd_train.evaluation.running import Detect, Run, run_detectors, shift_thermal
from mmkd_train.evaluation.scoring import coco_scores

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # right, left, down, up


def evaluate_shifts(
    detectors: Sequence[Detect],
    dataset: CocoPairs,
    shifts: Sequence[int],
    in_place: Sequence[Run],
    progress: bool = True,
) -> list[dict[int, dict[str, Any]]]:
    """mAP50 with the thermal picture moved right, left, down and up; the boxes stay where RGB shows them.

    Args:
        detectors: to compare.
        dataset: pairs; those with one picture are left out.
        shifts: pixels of the original pictures.
        in_place: the detectors' runs with both cameras, which are the answers for shift 0.

    Returns:
        Per detector {shift: {"mAP50", "per_class": {name: mAP50}, "pairs"}}, each the mean over the directions.

    Raises:
        UserError: no pair has both pictures.
    """
    tables: list[dict[int, dict[str, Any]]] = [{} for _ in detectors]
    for pixels in shifts:
        scored: list[list[dict[str, Any]]] = [[] for _ in detectors]
        for right, down in DIRECTIONS if pixels else DIRECTIONS[:1]:
            view = partial(shift_thermal, right=right * pixels, down=down * pixels)
            label = f"shift {pixels} px"
            runs = run_detectors(detectors, dataset, view, label, progress) if pixels else in_place
            for scores, run in zip(scored, runs, strict=True):
                whole = {position: found for position, found in run.results.items() if found.modality == "both"}
                if not whole:
                    raise UserError("no pair of the set has both pictures, so none can be shifted; leave out --shifts.")
                scores.append(_scores(dataset, whole))
        for table, scores in zip(tables, scored, strict=True):
            table[pixels] = {
                "mAP50": _mean([part["mAP50"] for part in scores]),
                "per_class": {
                    name: _mean([part["per_class"][name] for part in scores]) for name in dataset.rules.class_names
                },
                "pairs": scores[0]["pairs"],
            }
    return tables


def _scores(dataset: CocoPairs, results: dict[int, Detections]) -> dict[str, Any]:
    scores = coco_scores(dataset, results, sorted(results))
    per_class = {name: scores.mean(label, 0) for label, name in enumerate(dataset.rules.class_names)}
    return {"mAP50": scores.mean(iou=0), "per_class": per_class, "pairs": len(results)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
