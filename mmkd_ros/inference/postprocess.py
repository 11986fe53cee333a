"""Network output -> boxes in numpy and OpenCV: the likely anchors, their softmax, per-class non-maximum suppression."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

CANDIDATES = 1000  # boxes kept per image before suppression


class Candidates(NamedTuple):
    """Boxes of one image in network pixels."""

    boxes: NDArray[np.float32]
    """(N, 4) xyxy."""
    scores: NDArray[np.float32]
    """(N,)."""
    labels: NDArray[np.int64]
    """(N,)."""


def likely_anchors(
    logits: NDArray[np.float32], score_threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Anchors and classes whose softmax is above the threshold, at most the best CANDIDATES.

    A probability p > t leaves less than 1 - t to the background, so that its logit exceeds the background's by
    log(t / (1 - t)): the softmax is taken of the few anchors that pass this.

    Args:
        logits: (A, C + 1), background last.
        score_threshold: t, in [0, 1).

    Returns:
        rows (N,) int64 of the logits, scores (N,) float32, labels (N,) int64.

    Raises:
        FloatingPointError: a logit is not a number.
    """
    classes = logits.shape[1] - 1
    best = logits[:, 0]
    for label in range(1, classes):  # column by column: a reduction over so short an axis is slow
        best = np.maximum(best, logits[:, label])
    with np.errstate(invalid="ignore"):  # inf - inf
        margin = best - logits[:, classes]
    if not (margin < math.inf).all():  # NaN compares false
        raise FloatingPointError("the network answered NaN")
    # The slack covers rounding; the softmax decides.
    least = math.log(score_threshold / (1.0 - score_threshold)) - 1e-3 if score_threshold > 0 else -math.inf
    anchors = np.flatnonzero(margin > least)
    chosen = logits[anchors]
    exponentials = np.exp(chosen - chosen.max(axis=1, keepdims=True))
    probabilities = (exponentials / exponentials.sum(axis=1, keepdims=True))[:, :classes]
    rows, labels = np.nonzero(probabilities > score_threshold)
    scores = probabilities[rows, labels]
    if len(scores) > CANDIDATES:
        top = np.argpartition(-scores, CANDIDATES)[:CANDIDATES]
        rows, labels, scores = rows[top], labels[top], scores[top]
    return anchors[rows], scores, labels


def suppress(candidates: Candidates, iou: float, max_detections: int) -> Candidates:
    """The survivors of :func:`nms`, at most ``max_detections``, by descending score.

    Raises:
        FloatingPointError: a box is not finite.
    """
    if not np.isfinite(candidates.boxes).all():
        raise FloatingPointError("the network answered NaN")
    keep = nms(*candidates, iou)[:max_detections]
    return Candidates(candidates.boxes[keep], candidates.scores[keep], candidates.labels[keep])


def nms(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64], iou: float
) -> NDArray[np.int64]:
    """Greedy per-class suppression.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        labels: (N,); boxes of different labels never suppress each other.
        iou: a box is dropped when it overlaps a better one by more than this.

    Returns:
        (K,) indices of the survivors by descending score.
    """
    if len(scores) == 0:
        return np.zeros(0, np.int64)
    corners = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1).astype(np.float64)
    opencv: Any = cv2.dnn  # takes arrays; its type stubs know sequences only
    if hasattr(opencv, "NMSBoxesBatched"):
        kept = opencv.NMSBoxesBatched(corners, scores.astype(np.float32), labels.astype(np.int32), 0.0, iou)
    else:  # OpenCV 4.5, of Ubuntu 22.04: boxes of different labels are moved to places of their own
        corners[:, :2] += labels[:, None] * (np.ptp(boxes) + 1.0)
        kept = opencv.NMSBoxes(corners.tolist(), scores.tolist(), 0.0, iou)
    kept = np.asarray(kept, np.int64).reshape(-1)
    return kept[np.argsort(-scores[kept], kind="stable")]
