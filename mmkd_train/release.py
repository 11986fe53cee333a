"""Turn a run's weights into the file that ships: convolutions in float16, metrics on the test split in the metadata.

In: a detector file of ``train``. Out: the same network at half the size, evaluated *as written*, and the model card's
table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

import torch

from mmkd_ros.inference import InferenceSession, WeightsError
from mmkd_ros.inference.weights import load_weights, save_weights
from mmkd_ros.types import Modality
from mmkd_train.data.coco import CocoPairs, LabelRules
from mmkd_train.errors import UserError
from mmkd_train.evaluate import SCORE_THRESHOLD, evaluate

HELP = "Write the shipped weights: float16 convolutions, test metrics in the metadata, and the model card's table."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--weights", type=Path, required=True, help="detector.safetensors of a training run")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO JSON of the test split")
    parser.add_argument("--root", type=Path, required=True, help="folder that the file names are relative to")
    parser.add_argument("--data", required=True, help="one sentence: what the weights were trained on, and its terms")
    parser.add_argument("--output", type=Path, default=Path("models/mmkd_student.safetensors"))
    parser.add_argument("--device", default="auto")


def model_card_rows(metrics: dict[str, dict[str, Any]]) -> str:
    """A Markdown table of mAP50 (and mAP), one row per modality."""
    classes = list(next(iter(metrics.values()))["per_class"])
    lines = [
        f"| cameras | mAP50 | mAP | {' | '.join(classes)} | day | night |",
        f"|---|{'---|' * (len(classes) + 4)}",
    ]

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    for modality, row in metrics.items():
        per_class = [None if row["per_class"][name] is None else row["per_class"][name]["mAP50"] for name in classes]
        values = [row["mAP50"], row["mAP"], *per_class, row["day"]["mAP50"], row["night"]["mAP50"]]
        lines.append(f"| {modality} | {' | '.join(cell(value) for value in values)} |")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """Write, evaluate what was written, and write again with the metrics."""
    try:
        tensors, metadata = load_weights(args.weights)
        halved = {
            name: tensor.half() if tensor.ndim > 1 and tensor.dtype == torch.float32 else tensor
            for name, tensor in tensors.items()
        }
        metadata.update(data=args.data, metrics={})
        save_weights(args.output, halved, metadata)
        session = InferenceSession(args.output, args.device, score_threshold=SCORE_THRESHOLD)
    except (WeightsError, ValueError) as error:
        raise UserError(str(error)) from error
    dataset = CocoPairs(args.annotations, args.root, LabelRules.for_classes(session.class_names))
    session.warm_up()
    metrics = {modality: evaluate(session, dataset, modality) for modality in get_args(Modality)}
    for row in metrics.values():
        del row["ms_per_pair"]  # belongs to a machine, not to the weights
    metadata["metrics"] = {args.annotations.stem: metrics}
    digest = save_weights(args.output, halved, metadata)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB, sha256 of the tensors {digest}")
    print(model_card_rows(metrics))
    print(json.dumps(metadata["config"]))
    return 0
