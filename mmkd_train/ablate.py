"""An ablation: rows of option changes times seeds, all trained on the same schedule, scored on the same pictures.

In: a YAML file with the fields of :class:`AblationOptions`. Out: ``<output>/table.md``, ``<output>/results.json`` and
one training folder per row and seed. What is there already is not trained or scored again, so a killed ablation goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import dacite
import torch
import yaml
from tqdm import tqdm

from mmkd_ros.inference import InferenceSession, WeightsError
from mmkd_ros.types import Modality
from mmkd_train.data.coco import CocoPairs, LabelRules
from mmkd_train.errors import UserError
from mmkd_train.evaluate import SCORE_THRESHOLD, evaluate
from mmkd_train.options import TrainOptions, load_options

HELP = "Train and score rows of options with several seeds; prints mean and spread, retention and the gap closed."
TEACHER_ROW = "teacher"


@dataclass(frozen=True, slots=True)
class AblationOptions:
    """What is compared.

    Raises:
        ValueError: no row, no seed, or a row called 'teacher', which is added by itself.
    """

    config: str
    """Training configuration of all rows."""
    rows: dict[str, list[str]]
    """Name -> overrides; the first row is the baseline of 'gap closed', ``teacher.weights=`` a row without teacher."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    annotations: str = "annotations/test.json"
    """COCO JSON that decides, relative to data.root; never one that a choice was made on."""
    output: str = "runs/ablation"

    def __post_init__(self) -> None:
        if not self.rows or not self.seeds or TEACHER_ROW in self.rows:
            raise ValueError(f"an ablation needs rows and seeds, and no row called '{TEACHER_ROW}'.")


@dataclass(frozen=True, slots=True)
class Run:
    """One training of the ablation."""

    row: str
    seed: int
    options: TrainOptions
    arguments: list[str]

    @property
    def folder(self) -> Path:
        """Where it trains."""
        return Path(self.options.output)

    @property
    def weights(self) -> Path:
        """Its result."""
        return self.folder / "detector.safetensors"


def load_ablation(path: Path) -> AblationOptions:
    """Read the YAML file.

    Raises:
        UserError: it cannot be read or says something unknown.
    """
    try:
        values = yaml.safe_load(path.read_text()) or {}
        return dacite.from_dict(AblationOptions, values, dacite.Config(strict=True))
    except (OSError, yaml.YAMLError, dacite.DaciteError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error


def plan(options: AblationOptions, overrides: Sequence[str]) -> list[Run]:
    """All trainings, seed by seed so that early results cover every row.

    Raises:
        UserError: a row whose options cannot be built; nothing has been trained then.
    """
    runs = []
    for seed in options.seeds:
        for row, changes in options.rows.items():
            slug = re.sub(r"[^a-z0-9]+", "_", row.lower()).strip("_")
            own = [*overrides, *changes, f"seed={seed}", f"output={Path(options.output) / slug / f'seed{seed}'}"]
            runs.append(Run(row, seed, load_options(Path(options.config), own), [options.config, *own]))
    if len({run.folder for run in runs}) < len(runs):
        raise UserError("two rows of the ablation have the same name but for signs; rename one.")
    return runs


def execute(run: Run, threads: int) -> None:
    """Train one run in a process of its own; its output goes to ``train.log`` in its folder.

    Raises:
        UserError: it was trained with other options before, or fails.
    """
    wanted = json.loads(json.dumps(run.options.to_dict()))
    record = run.folder / "options.json"
    if record.is_file() and json.loads(record.read_text()) != wanted:
        raise UserError(f"{run.folder} was trained with other options; remove it or give another output.")
    if run.weights.is_file():
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    command = "distill" if run.options.teacher.weights else "train"
    arguments = [sys.executable, "-m", "mmkd_train", command, *run.arguments]
    if (run.folder / "checkpoint.pt").is_file():
        arguments.append("--resume")
    with (run.folder / "train.log").open("a") as log:
        done = subprocess.run(  # noqa: S603 - this interpreter, with options that were parsed
            arguments, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
        )
    if done.returncode:
        raise UserError(f"row '{run.row}', seed {run.seed} failed; see {run.folder / 'train.log'}.")


def score_file(weights: Path, annotations: Path, root: Path, record: Path) -> dict[str, Any]:
    """Metrics of a weights file with both cameras and with each alone; read from ``record`` when that is of this file.

    Raises:
        UserError: the file cannot be used.
    """
    try:
        session = InferenceSession(weights, score_threshold=SCORE_THRESHOLD)
    except WeightsError as error:
        raise UserError(str(error)) from error
    key = f"{session.weights_sha256} {annotations}"
    if record.is_file():
        kept: dict[str, Any] = json.loads(record.read_text())
        if kept.get("key") == key:
            return kept
    dataset = CocoPairs(annotations, root, LabelRules.for_classes(session.class_names))
    metrics: dict[str, Any] = {"key": key}
    for modality in get_args(Modality):
        metrics[modality] = evaluate(session, dataset, modality, progress=False)
    record.write_text(json.dumps(metrics) + "\n")
    return metrics


def summarize(scores: dict[str, list[dict[str, Any]]], baseline: str) -> dict[str, dict[str, Any]]:
    """Mean and sample standard deviation over the seeds, and what distillation is about.

    Args:
        scores: row -> metrics of each seed, as :func:`score_file` gives them; perhaps with TEACHER_ROW.
        baseline: the row of the student alone.

    Returns:
        row -> {"both" | "rgb" | "thermal" | "night" | class name: (mean, deviation or None)} in mAP50, and with a
        teacher "retention" = row / teacher and "gap_closed" = (row - baseline) / (teacher - baseline).
    """
    summary: dict[str, dict[str, Any]] = {}
    for row, each in scores.items():
        columns = {name: [metrics[name]["mAP50"] for metrics in each] for name in get_args(Modality)}
        columns["night"] = [metrics["both"]["night"]["mAP50"] for metrics in each]
        for name in each[0]["both"]["per_class"]:
            found = [metrics["both"]["per_class"][name] for metrics in each]
            columns[name] = [None if value is None else value["mAP50"] for value in found]
        summary[row] = {name: _mean_and_deviation(values) for name, values in columns.items()}
    if TEACHER_ROW in summary and baseline in summary:
        top, bottom = summary[TEACHER_ROW]["both"][0], summary[baseline]["both"][0]
        for row, values in summary.items():
            if row != TEACHER_ROW and None not in (top, bottom, values["both"][0]):
                values["retention"] = values["both"][0] / top if top else None
                values["gap_closed"] = (values["both"][0] - bottom) / (top - bottom) if top > bottom else None
    return summary


def _mean_and_deviation(values: list[float | None]) -> tuple[float | None, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None


def format_markdown(summary: dict[str, dict[str, Any]]) -> str:
    """The table, mAP50 in points (100 x), mean ± deviation."""

    def cell(value: tuple[float | None, float | None]) -> str:
        mean, deviation = value
        if mean is None:
            return "-"
        return f"{100 * mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.0f} %"

    columns = [name for name in next(iter(summary.values())) if name not in ("retention", "gap_closed")]
    lines = ["| row | " + " | ".join(columns) + " | retention | gap closed |", "|---" * (len(columns) + 3) + "|"]
    for row, values in summary.items():
        cells = [cell(values[name]) for name in columns]
        cells += [share(values.get("retention")), share(values.get("gap_closed"))]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("config", type=Path, help="YAML file with the fields of mmkd_train.ablate.AblationOptions")
    parser.add_argument("overrides", nargs="*", help="section.name=value of the training options, for all rows")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time; the cores are shared among them")


def run(args: argparse.Namespace) -> int:
    """Train, score, print, write; every configuration is checked before the first training."""
    options = load_ablation(args.config)
    runs = plan(options, args.overrides)
    threads = max(1, len(os.sched_getaffinity(0)) // args.jobs)
    with ThreadPoolExecutor(args.jobs) as pool:
        waiting = [pool.submit(execute, one, threads) for one in runs]
        try:
            for future in tqdm(waiting, desc="trainings"):
                future.result()
        except UserError:
            pool.shutdown(cancel_futures=True)
            raise
    torch.set_num_threads(threads)
    output, root = Path(options.output), Path(runs[0].options.data.root)
    annotations = root / options.annotations
    scores: dict[str, list[dict[str, Any]]] = {}
    for one in tqdm(runs, desc="scores"):
        metrics = score_file(one.weights, annotations, root, one.folder / "scores.json")
        scores.setdefault(one.row, []).append(metrics)
    teachers = {one.options.teacher.weights for one in runs} - {""}
    if len(teachers) == 1:
        scores[TEACHER_ROW] = [score_file(Path(teachers.pop()), annotations, root, output / "teacher_scores.json")]
    summary = summarize(scores, next(iter(options.rows)))
    table = format_markdown(summary)
    (output / "results.json").write_text(json.dumps({"summary": summary, "scores": scores}, indent=1) + "\n")
    (output / "table.md").write_text(table + "\n")
    print(f"mAP50 on {options.annotations}, mean and standard deviation over seeds {options.seeds}\n{table}")
    return 0
