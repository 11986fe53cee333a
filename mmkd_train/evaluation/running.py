"""Runs detectors over a set: whole pairs, one camera alone, or a thermal image that is out of place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from mmkd_ros.inference import InferenceError
from mmkd_ros.types import Detections, ImagePair, Modality
from mmkd_train.data.coco import CocoPairs
from mmkd_train.errors import UserError
from mmkd_train.progress import steps

Detect = Callable[[ImagePair], Detections]
View = Callable[[ImagePair], ImagePair | None]


@dataclass(frozen=True, slots=True)
class Run:
    """What one detector answered.

    Attributes:
        results: position in the set -> detections; positions that the view left out are missing.
        seconds: of each call.
    """

    results: dict[int, Detections] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def ms_per_pair(self) -> float:
        """Median time of one call in milliseconds."""
        return float(np.median(self.seconds)) * 1e3


def restrict(pair: ImagePair, modality: Modality) -> ImagePair | None:
    """The pair as seen with ``modality`` alone; None when it has no such image."""
    rgb = pair.rgb if modality in ("both", "rgb") else None
    thermal = pair.thermal if modality in ("both", "thermal") else None
    return None if rgb is None and thermal is None else ImagePair(rgb, thermal, pair.stamp)


def shift_thermal(pair: ImagePair, right: int, down: int) -> ImagePair | None:
    """The pair with its thermal picture moved by whole pixels, the edge repeated; None when one picture is missing."""
    if pair.rgb is None or pair.thermal is None:
        return None
    height, width = pair.thermal.shape
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return ImagePair(pair.rgb, pair.thermal[np.ix_(rows, columns)], pair.stamp)


def run_detectors(
    detectors: Sequence[Detect], dataset: CocoPairs, view: View, label: str, progress: bool = True
) -> list[Run]:
    """Show every pair to every detector.

    The detectors alternate pair by pair, so that a machine that slows down slows all of them, and take turns in being
    the first, which finds cold caches.

    Args:
        detectors: e.g. :class:`InferenceSession` objects.
        dataset: the pictures.
        view: makes of a pair what the detectors see; None leaves it out.
        label: of the progress bar, which appears after a few seconds only.

    Returns:
        One run per detector, all with the same positions; empty when the view leaves every pair out.

    Raises:
        UserError: a picture that cannot be read, or a network that fails on one.
    """
    runs = [Run() for _ in detectors]
    turns = list(enumerate(detectors))
    positions = range(len(dataset))
    for position in steps(positions, label, unit="pair") if progress else positions:
        pair = view(dataset.pair(position))
        if pair is None:
            continue
        first = position % len(turns)
        for index, detect in turns[first:] + turns[:first]:
            started = time.perf_counter()
            try:
                found = detect(pair)
            except InferenceError as error:
                entry = dataset.images[position]
                raise UserError(f"image id {entry.get('id')} ({picture_name(entry)}): {error}") from error
            runs[index].seconds.append(time.perf_counter() - started)
            runs[index].results[position] = found
    return runs


def run_modality(detectors: Sequence[Detect], dataset: CocoPairs, modality: Modality, progress: bool) -> list[Run]:
    """As :func:`run_detectors` with what ``modality`` shows."""
    return run_detectors(detectors, dataset, partial(restrict, modality=modality), modality, progress)


def picture_name(entry: dict[str, object]) -> str:
    """File name of an image entry, of its thermal picture when it has no RGB."""
    return str(entry.get("file_name") or entry.get("thermal_file_name"))
