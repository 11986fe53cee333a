"""Curves of one class over the score threshold, and what is read off them: pure functions of scores and hits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Nine rates of false positives per image, evenly spaced in log space (Dollar et al., PAMI 2012, section 3).
FALSE_PER_IMAGE = np.logspace(-2.0, 0.0, 9)
_LEAST_MISS_RATE = 1e-10  # keeps the logarithm of "none missed" finite


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """All answers of one class, matched at one IoU; what fell into ignore regions is left out.

    Attributes:
        scores: (N,) float64, descending.
        hits: (N,) bool, True where the answer found a box.
        boxes: number of boxes to find.
        images: number of images in which the class is labelled.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    boxes: int
    images: int


def counts_by_threshold(
    answers: Answers,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct scores (M,) descending, and the right and false answers (M,) that score at least as much."""
    scores = answers.scores
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, np.int64)
    right, false = (np.cumsum(kind, dtype=np.int64)[ends] for kind in (answers.hits, ~answers.hits))
    return scores[ends], right, false


def precision_recall(answers: Answers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall (M,) at each distinct score, descending; recall is 0 when there is no box."""
    _, right, false = counts_by_threshold(answers)
    return right / np.maximum(right + false, 1), right / max(answers.boxes, 1)


def operating_point(answers: Answers, threshold: float) -> tuple[float | None, float | None]:
    """(precision, recall) of the answers that score more than ``threshold``; None where there is nothing to divide
    by."""
    kept = answers.hits[answers.scores > threshold]
    right = int(kept.sum())
    return (right / len(kept) if len(kept) else None), (right / answers.boxes if answers.boxes else None)


def log_average_miss_rate(answers: Answers) -> float | None:
    """Geometric mean of the miss rate at nine rates of false positives per image; lower is better.

    Source: Dollar, Wojek, Schiele, Perona, "Pedestrian detection: an evaluation of the state of the art", PAMI 2012,
    section 3. The miss rate at a rate is that of the lowest threshold which does not exceed it: 1 where even the best
    answer exceeds it, the least miss rate where the curve ends before it. "None missed" counts as 1e-10 and pulls the
    mean close to 0, so read it with care where a class has a handful of boxes.

    Returns:
        0..1, None without a box.
    """
    if not answers.boxes:
        return None
    _, right, false = counts_by_threshold(answers)
    missed = np.append(1.0, 1.0 - right / answers.boxes)
    reached = np.searchsorted(np.append(0.0, false / answers.images), FALSE_PER_IMAGE, side="right") - 1
    return float(np.exp(np.log(np.maximum(missed[reached], _LEAST_MISS_RATE)).mean()))
