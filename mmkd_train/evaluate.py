"""Accuracy of detectors on an RGB-thermal set, with both cameras and with one of them missing.

In: weights files and a COCO-format set. Out: tables (COCO mAP by class, size, day and night, log-average miss rate,
precision and recall at the node's threshold, loss under misregistration), a JSON file, and a folder of pictures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from mmkd_ros.inference import InferenceSession, WeightsError
from mmkd_ros.inference.backends import BACKENDS
from mmkd_ros.types import Modality
from mmkd_train.arguments import add_input_size
from mmkd_train.data.coco import CocoPairs, LabelRules
from mmkd_train.errors import UserError
from mmkd_train.evaluation.matching import classes_with_boxes
from mmkd_train.evaluation.misregistration import evaluate_shifts
from mmkd_train.evaluation.report import write_report
from mmkd_train.evaluation.running import Detect, Run, restrict, run_modality
from mmkd_train.evaluation.scoring import NODE_THRESHOLD, SCORE_THRESHOLD, score
from mmkd_train.evaluation.tables import format_classes, format_shifts, format_table
from mmkd_train.progress import clock

__all__ = ["SCORE_THRESHOLD", "evaluate", "format_table", "restrict", "score"]

HELP = "mAP, miss rate and errors of weights files on a COCO-format RGB-thermal set, with both cameras and each alone."
MODALITIES: tuple[Modality, ...] = get_args(Modality)


def evaluate(
    detect: Detect,
    dataset: CocoPairs,
    modality: Modality = "both",
    progress: bool = True,
    threshold: float = NODE_THRESHOLD,
) -> dict[str, Any]:
    """Run a detector over a set and score it.

    Args:
        detect: e.g. an :class:`InferenceSession` with a low score threshold.
        dataset: pictures and ground truth.
        modality: what the detector gets to see.
        threshold: where precision and recall are read.

    Returns:
        As :func:`score`, with "ms_per_pair": the median time of one call in milliseconds.

    Raises:
        UserError: no picture of this modality, or one that cannot be read.
    """
    (found,) = run_modality([detect], dataset, modality, progress)
    if not found.results:
        raise UserError(f"no picture of the set has what modality '{modality}' needs; choose another --modality.")
    return _metrics(dataset, found, threshold)


def _metrics(dataset: CocoPairs, found: Run, threshold: float) -> dict[str, Any]:
    return {**score(dataset, found.results, threshold), "ms_per_pair": found.ms_per_pair}


def weights_names(paths: Sequence[Path]) -> list[str]:
    """A short name per file: its stem, with its folder's name where stems are equal.

    Raises:
        UserError: a file given twice, or equal names still.
    """
    for names in ([path.stem for path in paths], [f"{path.resolve().parent.name}_{path.stem}" for path in paths]):
        if len(set(names)) == len(names):
            return names
    raise UserError("two of the --weights have the same file and folder name; give each file once, or rename one.")


def open_sessions(
    paths: Sequence[Path],
    device: str,
    backend: str = "torch",
    input_size: tuple[int, int] = (0, 0),
    half: Literal["auto", "on", "off"] = "auto",
) -> list[InferenceSession]:
    """The detectors, with a low score threshold; the other options are those of :class:`InferenceSession`.

    Raises:
        UserError: a file that cannot be used, or detectors of unequal classes.
    """
    try:
        sessions = [
            InferenceSession(path, device, backend, input_size, score_threshold=SCORE_THRESHOLD, half=half)
            for path in paths
        ]
    except (WeightsError, ValueError) as error:
        raise UserError(str(error)) from error
    for path, session in zip(paths, sessions, strict=True):
        if session.class_names != sessions[0].class_names:
            raise UserError(
                f"{path} finds {', '.join(session.class_names)} but {paths[0]} finds "
                f"{', '.join(sessions[0].class_names)}; evaluate them one by one."
            )
    return sessions


def open_set(annotations: Path, root: Path, class_names: tuple[str, ...]) -> CocoPairs:
    """The set; prints what of it is left out.

    Raises:
        UserError: it cannot be read, or has no box of any of the classes.
    """
    dataset = CocoPairs(annotations, root, LabelRules.for_classes(class_names))
    for flaw, count in dataset.flaws.items():
        print(f"{annotations.name}: {count} x {flaw}")
    present = classes_with_boxes(dataset)
    if not present.any():
        raise UserError(
            f"{annotations} has no box of {', '.join(class_names)}, which the weights find; "
            "choose another set, or name its categories like the classes."
        )
    for name, known in zip(class_names, present, strict=True):
        if not known:
            print(f"{annotations.name}: no box of '{name}', answers of that class are not scored")
    return dataset


def compare(metrics: Sequence[dict[str, Any]]) -> None:
    """Add to each weights file's metrics of one modality what they are beside the first's: "kept" is mAP50 / mAP50 of
    the first, "speed" ms of the first / ms. None where there is nothing to divide by."""
    first = metrics[0]
    for row in metrics:
        row["kept"] = row["mAP50"] / first["mAP50"] if first["mAP50"] and row["mAP50"] is not None else None
        row["speed"] = first["ms_per_pair"] / row["ms_per_pair"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        nargs="+",
        help="files to evaluate; of several, the columns 'kept' (mAP50) and 'speed' are relative to the first",
    )
    parser.add_argument(
        "--annotations", type=Path, required=True, help="COCO JSON with thermal_file_name in its images"
    )
    parser.add_argument("--root", type=Path, required=True, help="folder that holds pairs/rgb and pairs/thermal")
    parser.add_argument("--modality", choices=("all", *MODALITIES), default="all")
    parser.add_argument(
        "--threshold",
        type=float,
        default=NODE_THRESHOLD,
        help="score for precision, recall, confusion and worst pictures; the node's default is %(default)s",
    )
    parser.add_argument(
        "--shifts",
        type=int,
        nargs="+",
        metavar="PX",
        default=[],
        help="also evaluate with the thermal picture moved by so many pixels, mean of right, left, down and up; slow",
    )
    parser.add_argument("--report", type=Path, metavar="DIR", help="write plots, confusion and worst pictures here")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--backend", choices=BACKENDS, default="torch", help="engine; an exported model needs another")
    parser.add_argument(
        "--half", choices=("auto", "on", "off"), default="auto", help="16-bit arithmetic, as the node's parameter"
    )
    add_input_size(parser, "the network")
    parser.add_argument(
        "--json", type=Path, help="write the metrics here: those of the first row, all under 'rows', and 'shifts'"
    )


def _check(args: argparse.Namespace) -> None:
    if not SCORE_THRESHOLD <= args.threshold < 1.0:
        raise UserError(f"--threshold must be in [{SCORE_THRESHOLD}, 1), got {args.threshold}.")
    if any(pixels < 0 for pixels in args.shifts):
        raise UserError(f"--shifts must not be negative, got {min(args.shifts)}; every shift is tried in 4 directions.")
    if args.shifts and args.modality not in ("all", "both"):
        raise UserError(f"--shifts need both cameras; leave out --modality {args.modality}.")


def measure(
    detectors: Sequence[Detect], dataset: CocoPairs, modalities: Sequence[Modality], threshold: float
) -> tuple[dict[Modality, list[Run]], dict[Modality, list[dict[str, Any]]]]:
    """Runs and metrics by modality, each a list with one entry per detector; several detectors are compared.

    Raises:
        UserError: no picture of any of the modalities; one without pictures beside others is said and left out.
    """
    runs: dict[Modality, list[Run]] = {}
    for modality in modalities:
        found = run_modality(detectors, dataset, modality, progress=True)
        if found[0].results:
            runs[modality] = found
        else:
            print(f"no picture for modality '{modality}', left out")
    if not runs:
        raise UserError(f"the set has no picture for modality {', '.join(modalities)}; choose another --modality.")
    with clock("scoring"):
        metrics = {modality: [_metrics(dataset, one, threshold) for one in found] for modality, found in runs.items()}
        if len(detectors) > 1:
            for rows in metrics.values():
                compare(rows)
    return runs, metrics


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the tables, write JSON and report."""
    _check(args)
    names = weights_names(args.weights)
    sessions = open_sessions(args.weights, args.device, args.backend, tuple(args.input_size), args.half)
    dataset = open_set(args.annotations, args.root, sessions[0].class_names)
    for session in sessions:
        session.warm_up()
    modalities = MODALITIES if args.modality == "all" else (args.modality,)
    runs, metrics = measure(sessions, dataset, modalities, args.threshold)
    table = {
        f"{name} {modality}" if len(names) > 1 else modality: row
        for modality, rows in metrics.items()
        for name, row in zip(names, rows, strict=True)
    }
    print(f"\n{len(dataset)} pictures; mAP50 in all columns but mAP, ms:\n{format_table(table)}")
    print(f"\nPrecision and recall at score > {args.threshold:g}, IoU 0.5; MR: log-average miss rate, low is good:")
    print(format_classes(table))
    shifts: dict[str, dict[int, dict[str, Any]]] = {}
    if args.shifts:
        moved = evaluate_shifts(sessions, dataset, sorted(set(args.shifts)), runs["both"])
        shifts = dict(zip(names, moved, strict=True))
        print("\nThermal picture moved, mean mAP50 of right, left, down and up:\n" + format_shifts(shifts))
    if args.report is not None:
        for index, name in enumerate(names):
            folder = args.report / name if len(names) > 1 else args.report
            results = {modality: found[index].results for modality, found in runs.items()}
            with clock(f"writing {folder}"):
                confusion = write_report(folder, dataset, results, args.threshold)
            print(f"\nConfusion of {name}\n\n{confusion}\n\nwrote {folder}")
    if args.json is not None:
        by_name = {name: {modality: metrics[modality][k] for modality in metrics} for k, name in enumerate(names)}
        first = next(iter(table.values()))
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({**first, "rows": by_name, "shifts": shifts}, indent=2) + "\n")
    return 0
