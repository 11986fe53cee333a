"""COCO mAP of a detector on an RGB-thermal set: per class, by day and night, with both cameras or one of them
missing."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from mmkd_ros.inference import InferenceSession, WeightsError
from mmkd_ros.types import Detections, ImagePair, Modality
from mmkd_train.data.coco import CocoPairs, LabelRules
from mmkd_train.errors import UserError

HELP = "mAP and mAP50 of a weights file on a COCO-format RGB-thermal set."
SCORE_THRESHOLD = 0.01  # low, so that the precision-recall curve has its tail


def restrict(pair: ImagePair, modality: Modality) -> ImagePair | None:
    """The pair as seen with ``modality`` alone; None when it has no such image."""
    rgb = pair.rgb if modality in ("both", "rgb") else None
    thermal = pair.thermal if modality in ("both", "thermal") else None
    return None if rgb is None and thermal is None else ImagePair(rgb, thermal, pair.stamp)


def _coco(
    dataset: CocoPairs, results: dict[int, Detections], positions: Sequence[int]
) -> tuple[COCO, list[dict[str, Any]]]:
    """Ground truth and answers of some positions in pycocotools' terms; ids are positions and labels plus one."""
    truth: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for position in positions:
        sample = dataset.labels(position)
        for box, label, ignore in zip(sample.boxes, sample.labels, sample.ignore, strict=True):
            x1, y1, x2, y2 = (float(value) for value in box)
            entry = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": int(ignore)}
            truth.append({**entry, "id": len(truth) + 1, "image_id": position + 1, "category_id": int(label) + 1})
        found = results[position]
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            if sample.labelled[label]:
                x1, y1, x2, y2 = (float(value) for value in box)
                answers.append(
                    {
                        "image_id": position + 1,
                        "category_id": int(label) + 1,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "score": float(score),
                    }
                )
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": position + 1} for position in positions],
        "annotations": truth,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(dataset.rules.class_names)],
    }
    coco.createIndex()
    return coco, answers


def _precision(
    dataset: CocoPairs, results: dict[int, Detections], positions: Sequence[int]
) -> NDArray[np.float64] | None:
    """(10 IoU, 101 recalls, C) interpolated precision, -1 where a class has no box; None when there is nothing to
    score."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco, answers = _coco(dataset, results, positions)
        if not coco.dataset["annotations"]:
            return None
        if not answers:
            present = {
                annotation["category_id"] for annotation in coco.dataset["annotations"] if not annotation["iscrowd"]
            }
            nothing = np.full((10, 101, len(dataset.rules.class_names)), -1.0)
            nothing[:, :, [category - 1 for category in present]] = 0.0
            return nothing
        scorer = COCOeval(coco, coco.loadRes(answers), "bbox")
        scorer.evaluate()
        scorer.accumulate()
    return np.asarray(scorer.eval["precision"][:, :, :, 0, -1])


def _mean(values: NDArray[np.float64]) -> float | None:
    scored = values[values > -1]
    return float(scored.mean()) if scored.size else None


def score(dataset: CocoPairs, results: dict[int, Detections]) -> dict[str, Any]:
    """The metrics of answers that were already computed.

    Args:
        dataset: ground truth.
        results: position -> detections; positions without an entry are left out.

    Returns:
        {"mAP", "mAP50", "per_class": {name: {"mAP", "mAP50"}}, "day": {"mAP50"}, "night": {"mAP50"}, "pairs"};
        fractions, or None where there is no box to find.
    """
    positions = sorted(results)
    precision = _precision(dataset, results, positions)
    metrics: dict[str, Any] = {
        "mAP": None if precision is None else _mean(precision),
        "mAP50": None if precision is None else _mean(precision[0]),
        "per_class": {},
        "pairs": len(positions),
    }
    for index, name in enumerate(dataset.rules.class_names):
        values = None if precision is None else precision[..., index]
        scored = values is not None and _mean(values) is not None
        metrics["per_class"][name] = (
            {"mAP": _mean(values), "mAP50": _mean(values[0])} if scored and values is not None else None
        )
    for name, night in (("day", False), ("night", True)):
        chosen = [position for position in positions if bool(dataset.images[position].get("night", False)) == night]
        part = _precision(dataset, results, chosen) if chosen else None
        metrics[name] = {"mAP50": None if part is None else _mean(part[0])}
    return metrics


def evaluate(
    detect: Callable[[ImagePair], Detections], dataset: CocoPairs, modality: Modality = "both", progress: bool = True
) -> dict[str, Any]:
    """Run a detector over a set and score it.

    Args:
        detect: e.g. an :class:`InferenceSession` with a low score threshold.
        dataset: pictures and ground truth.
        modality: what the detector gets to see.

    Returns:
        As :func:`score`, with "ms_per_pair": the median time of one call in milliseconds.
    """
    results: dict[int, Detections] = {}
    seconds = []
    for position in tqdm(range(len(dataset)), desc=f"evaluate {modality}", disable=not progress, mininterval=1):
        pair = restrict(dataset.pair(position), modality)
        if pair is None:
            continue
        started = time.perf_counter()
        results[position] = detect(pair)
        seconds.append(time.perf_counter() - started)
    if not results:
        raise UserError(f"no picture of the set has what modality '{modality}' needs; choose another --modality.")
    return {**score(dataset, results), "ms_per_pair": float(np.median(seconds)) * 1e3}


def format_table(rows: dict[str, dict[str, Any]]) -> str:
    """A text table, one row per modality."""

    def cell(value: float | None) -> str:
        return "    -" if value is None else f"{value:5.3f}"

    classes = list(next(iter(rows.values()))["per_class"])
    lines = [f"{'':8s}   mAP mAP50   day night " + " ".join(f"{name[:9]:>9s}" for name in classes) + "  ms/pair"]
    for name, row in rows.items():
        per_class = " ".join(
            "    " + cell(None if row["per_class"][c] is None else row["per_class"][c]["mAP50"]) for c in classes
        )
        numbers = " ".join(
            cell(value) for value in (row["mAP"], row["mAP50"], row["day"]["mAP50"], row["night"]["mAP50"])
        )
        lines.append(f"{name:8s} {numbers} {per_class} {row['ms_per_pair']:8.1f}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument(
        "--annotations", type=Path, required=True, help="COCO JSON with thermal_file_name in its images"
    )
    parser.add_argument("--root", type=Path, required=True, help="folder that holds pairs/rgb and pairs/thermal")
    parser.add_argument("--modality", choices=("both", "rgb", "thermal"), default="both")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the metrics here")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write the JSON."""
    try:
        session = InferenceSession(args.weights, args.device, score_threshold=SCORE_THRESHOLD)
    except (WeightsError, ValueError) as error:
        raise UserError(str(error)) from error
    dataset = CocoPairs(args.annotations, args.root, LabelRules.for_classes(session.class_names))
    for flaw, count in dataset.flaws.items():
        print(f"{args.annotations.name}: {count} x {flaw}")
    session.warm_up()
    metrics = evaluate(session, dataset, args.modality)
    print(format_table({args.modality: metrics}))
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(metrics, indent=2) + "\n")
    return 0
