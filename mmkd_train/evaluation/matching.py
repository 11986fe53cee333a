"""Which answer of a picture found which box at the node's threshold: right, false and missed ones, and the confusion
of classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

from mmkd_ros.types import Detections
from mmkd_train.data.coco import CocoPairs, Sample

MATCH_IOU = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """One picture.

    Attributes:
        box_of: (N,) int64, for each answer the index of the box that it found, -1 for none.
        false: (N,) bool, answers that count and found no box.
        missed: (G,) bool, boxes that count and were not found.
    """

    box_of: NDArray[np.int64]
    false: NDArray[np.bool_]
    missed: NDArray[np.bool_]

    @property
    def errors(self) -> int:
        """False answers plus missed boxes."""
        return int(self.false.sum() + self.missed.sum())


def classes_with_boxes(dataset: CocoPairs) -> NDArray[np.bool_]:
    """(C,) bool, the classes of which the set has a box; about the others it says nothing."""
    present = np.zeros(len(dataset.rules.class_names), bool)
    for position in range(len(dataset)):
        sample = dataset.labels(position)
        present[sample.labels[~sample.ignore]] = True
    return present


def match(sample: Sample, found: Detections, threshold: float, classes: NDArray[np.bool_], by_class: bool) -> Matching:
    """Greedy: the best answer first, each takes the free box that it overlaps most, from IoU 0.5 on.

    Args:
        sample: the boxes.
        found: the answers, scores descending.
        threshold: answers count that score more.
        classes: (C,) bool, the classes that are scored; answers of the others, and of classes that the sample does
            not label, do not count.
        by_class: an answer finds boxes (and ignore regions) of its own class only; False lets it find any.

    Answers that lie by half in an ignore region and found no box do not count.
    """
    box_of = np.full(len(found), -1, np.int64)
    counts = (found.scores > threshold) & (sample.labelled & classes)[found.labels]
    free = ~sample.ignore
    overlap = np.zeros((len(found), len(sample.boxes)))
    if overlap.size:  # IoU with boxes, share of the answer with ignore regions
        overlap = np.asarray(mask.iou(_xywh(found.boxes), _xywh(sample.boxes), sample.ignore.astype(np.uint8)))
    if by_class:
        overlap = np.where(found.labels[:, None] == sample.labels[None, :], overlap, 0.0)
    for answer in np.flatnonzero(counts & (overlap.max(axis=1, initial=0.0) >= MATCH_IOU)):
        reach = np.where(free, overlap[answer], 0.0)
        if reach.max(initial=0.0) >= MATCH_IOU:
            box_of[answer] = reach.argmax()
            free[box_of[answer]] = False
    in_ignored = overlap[:, sample.ignore].max(axis=1, initial=0.0) >= MATCH_IOU
    return Matching(box_of, counts & (box_of < 0) & ~in_ignored, free)


def _xywh(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1).astype(np.float64)


def confusion_matrix(dataset: CocoPairs, results: dict[int, Detections], threshold: float) -> NDArray[np.int64]:
    """(C + 1, C + 1) counts: row = class of the box, column = class of the answer that found it, whatever its class.

    The last row holds answers that found nothing, the last column boxes that nothing found.
    """
    classes = classes_with_boxes(dataset)
    matrix = np.zeros((len(classes) + 1, len(classes) + 1), np.int64)
    for position, found in results.items():
        sample = dataset.labels(position)
        matching = match(sample, found, threshold, classes, by_class=False)
        right = matching.box_of >= 0
        false, missed = found.labels[matching.false], sample.labels[matching.missed]
        rows = np.concatenate((sample.labels[matching.box_of[right]], np.full_like(false, -1), missed))
        columns = np.concatenate((found.labels[right], false, np.full_like(missed, -1)))
        np.add.at(matrix, (rows, columns), 1)
    return matrix
