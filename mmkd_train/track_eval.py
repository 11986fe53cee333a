"""`track-eval`: measure trackers side by side on the same detections, as MOTChallenge does, and time them."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmkd_train.errors import UserError
from mmkd_train.tracking_eval.degradation import LEVELS, degrade
from mmkd_train.tracking_eval.metrics import INSTALL, TrackScore, score
from mmkd_train.tracking_eval.scenes import SCENES, rendered, scene_truth
from mmkd_train.tracking_eval.sequences import MIN_SCORE, Sequence, crowd, read_mot, strong
from mmkd_train.tracking_eval.soak import soak
from mmkd_train.tracking_eval.trackers import CONTESTANTS, Contestant, track

HELP = "Compare trackers on the same detections: HOTA, DetA, AssA, MOTA, IDF1, id switches, CPU milliseconds per frame."

_TUD = Path("../shared/data/mot/TUD-Campus")
_TUD_HZ = 25.0
_RENDERED_HZ = 10.0  # scenes of higher rates would take minutes to render
_CROWD_FRAMES, _CROWD_WARM = 130, 100  # galleries of 100 vectors are full when the timing begins
_COLUMNS = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDsw", "ms")
_NAME_WIDTH = 42

Result = tuple[TrackScore, float]


def degraded_scenes(levels: list[str], seconds: float, seed: int) -> dict[str, list[Sequence]]:
    """The synthetic scenes, their true boxes degraded: {level: one sequence per scene}."""
    truths = [scene_truth(options, max(1, round(seconds * options.fps))) for options in SCENES]
    return {
        level: [degrade(truth, LEVELS[level], seed + number) for number, truth in enumerate(truths)] for level in levels
    }


def rendered_scenes(weights: Path, appearance: Path, seconds: float) -> list[Sequence]:
    """The synthetic scenes of up to 10 Hz, rendered, as our detector sees them.

    Raises:
        UserError: weights that cannot be used.
    """
    from mmkd_ros.inference.errors import WeightsError
    from mmkd_ros.inference.session import InferenceSession  # torch, which the other sets do without
    from mmkd_ros.tracking.appearance import AppearanceEncoder

    try:
        session = InferenceSession(weights, score_threshold=MIN_SCORE)
        encoder = AppearanceEncoder(appearance)
    except (WeightsError, ValueError) as error:
        raise UserError(str(error)) from error
    scenes = [options for options in SCENES if options.fps <= _RENDERED_HZ]
    return [
        rendered(options, max(1, round(seconds * options.fps)), session, encoder.encode)
        for options in tqdm(scenes, desc="rendered scenes")
    ]


def measure(contestant: Contestant, sequences: list[Sequence]) -> Result:
    """Scores over all sequences, and the median CPU milliseconds of an update."""
    pairs, seconds = [], []
    for sequence in sequences:
        frames, spent = track(contestant, sequence)
        pairs.append((list(zip(sequence.ids, sequence.boxes, strict=True)), frames))
        seconds += spent
    return score(pairs), 1000 * statistics.median(seconds)


def compare(sequences: list[Sequence]) -> dict[str, Result | None]:
    """All contestants on the same detections: {name: scores and milliseconds, None where not installed}. Those that
    want appearance are left out where there is none."""
    seen = all(sequence.vectors is not None for sequence in sequences)
    return {
        each.name: measure(each, sequences) if each.installed else None
        for each in tqdm(CONTESTANTS, desc="trackers", mininterval=1, delay=2, leave=False)
        if seen or not each.appearance
    }


def time_crowd(objects: int) -> dict[str, float | None]:
    """Median CPU milliseconds of an update with that many objects: {name: ms, None where not installed}."""
    sequence = crowd(objects, _CROWD_FRAMES)
    result: dict[str, float | None] = {}
    for each in CONTESTANTS:
        spent = track(each, sequence)[1] if each.installed else []
        result[each.name] = 1000 * statistics.median(spent[_CROWD_WARM:]) if spent else None
    return result


def score_table(results: dict[str, Result | None]) -> str:
    """One row per tracker."""
    lines = [f"{'':{_NAME_WIDTH}}" + "".join(f"{name:>8}" for name in _COLUMNS)]
    for name, result in results.items():
        if result is None:
            lines.append(f"{name:{_NAME_WIDTH}}  not installed: {INSTALL}")
            continue
        s, ms = result
        figures = "".join(f"{value:8.1f}" for value in (s.hota, s.deta, s.assa, s.mota, s.idf1))
        lines.append(f"{name:{_NAME_WIDTH}}{figures}{s.switches:8d}{ms:8.2f}")
    return "\n".join(lines)


def speed_table(timings: dict[int, dict[str, float | None]]) -> str:
    """CPU milliseconds, and how many times those of the default tracker with appearance, of every tracker and crowd."""
    reference = "mmkd_ros, defaults, appearance"
    lines = [f"{'CPU ms per update':{_NAME_WIDTH}}" + "".join(f"{f'{n} objects':>20}" for n in timings)]
    for each in CONTESTANTS:
        if not each.installed:
            lines.append(f"{each.name:{_NAME_WIDTH}}  not installed: {INSTALL}")
            continue
        cells = ""
        for row in timings.values():
            ms, base = row[each.name], row[reference]
            cells += f"{ms:11.2f} ({ms / base:5.1f}x)" if ms is not None and base else f"{'':>20}"
        lines.append(f"{each.name:{_NAME_WIDTH}}{cells}")
    return "\n".join(lines)


def _within(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    """An argument's type: a number within limits."""

    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be {low:g} to {high:g}, got {text}")
        return value

    return number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--levels", nargs="*", choices=LEVELS, default=list(LEVELS), help="degradations of the synthetic scenes"
    )
    parser.add_argument(
        "--seconds", type=_within(float, 0.1, 3600), default=12.0, help="length of every synthetic scene"
    )
    parser.add_argument("--seed", type=_within(int, 0, 2**31), default=0, help="of the degradation")
    parser.add_argument("--mot", type=Path, help=f"folder with det/det.txt and gt/gt.txt; {_TUD} where it is there")
    parser.add_argument(
        "--mot-fps", type=_within(float, 0.1, 1000), default=_TUD_HZ, help="frame rate of that recording"
    )
    parser.add_argument("--detector", type=Path, help="weights; renders the scenes of up to 10 Hz and detects in them")
    parser.add_argument(
        "--appearance",
        type=Path,
        default=Path("models/mmkd_appearance.safetensors"),
        help="weights of the appearance network, used with --detector",
    )
    parser.add_argument(
        "--min-scores",
        type=_within(float, 0, 1),
        nargs="+",
        default=[0.5, MIN_SCORE],
        help="score from which on a detection is given to the trackers, a table each; not for --mot, whose scores "
        "may be any numbers",
    )
    parser.add_argument(
        "--crowd", type=_within(int, 1, 500), nargs="*", default=[32, 100], help="numbers of objects to time"
    )
    parser.add_argument(
        "--soak",
        type=_within(int, 10, 10**9),
        help="measure nothing else, but track so many frames in which objects come and go, and weigh the memory",
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")


def run(args: argparse.Namespace) -> int:
    """Measure and print the tables."""
    if args.soak is not None:
        print(f"{'frames':>12}{'tracker KiB':>14}{'process MiB':>14}{'tracks':>8}{'ids':>10}")
        for mark in soak(args.soak):
            memory = f"{mark.tracker_bytes / 1024:14.1f}{mark.process_mib:14.1f}"
            print(f"{mark.frames:12d}{memory}{mark.tracks:8d}{mark.ids:10d}", flush=True)
        return 0
    report: dict[str, Any] = {"scores": {}, "ms": {}}
    if args.mot is not None or _TUD.is_dir():
        folder = args.mot or _TUD
        _report(report, f"{folder.name}, public detections", [read_mot(folder, args.mot_fps)])
    else:
        print(f"{_TUD.name} is left out: no folder {_TUD}; give one by --mot.\n")
    sets: dict[str, list[Sequence]] = {}
    if args.levels:
        scenes = degraded_scenes(args.levels, args.seconds, args.seed)
        sets |= {f"synthetic scenes, {level}": sequences for level, sequences in scenes.items()}
    if args.detector is not None:
        title = f"rendered scenes, detector {args.detector.name}"
        sets[title] = rendered_scenes(args.detector, args.appearance, args.seconds)
    for title, sequences in sets.items():
        for least in args.min_scores:
            _report(report, f"{title}, scores from {least:g}", [strong(each, least) for each in sequences])
    if args.crowd:
        timings = {objects: time_crowd(objects) for objects in args.crowd}
        report["ms"] = {str(objects): row for objects, row in timings.items()}
        print(speed_table(timings))
    if args.json is not None:
        try:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"Cannot write {args.json}: {error}.") from error
    return 0


def _report(report: dict[str, Any], title: str, sequences: list[Sequence]) -> None:
    """Compare, print the table and put the figures into the report."""
    objects = sum(len({int(i) for ids in sequence.ids for i in ids}) for sequence in sequences)
    boxes = sum(len(ids) for sequence in sequences for ids in sequence.ids)
    frames = sum(len(sequence.ids) for sequence in sequences)
    print(f"{title}: {len(sequences)} sequence(s), {frames} frames, {objects} objects, {boxes} boxes")
    results = compare(sequences)
    print(score_table(results), end="\n\n", flush=True)
    report["scores"][title] = {
        name: None if result is None else {**asdict(result[0]), "ms": result[1]} for name, result in results.items()
    }
