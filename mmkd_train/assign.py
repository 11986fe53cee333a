"""Which anchor learns which object: ATSS (Zhang et al., arXiv 1912.02424, algorithm 1), plus a best anchor for
every object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class AssignOptions:
    """How generous the assignment is.

    Raises:
        ValueError: a value out of range.
    """

    cells: int = 9
    """Candidate cells per object and level (the paper's k)."""
    min_overlap: float = 0.0
    """Least IoU of an anchor with its object. The paper's adaptive threshold alone goes down to 0.2 for objects with
    many candidates, and teaches loose boxes and duplicates; the best anchor of an object is kept whatever its IoU."""

    def __post_init__(self) -> None:
        if self.cells < 1 or not 0.0 <= self.min_overlap < 1.0:
            raise ValueError(f"assign: need cells >= 1 and 0 <= min_overlap < 1, got {self.cells}, {self.min_overlap}.")


class Assignment(NamedTuple):
    """Targets of one image."""

    labels: Tensor
    """(A,) int64: class, C for background, -1 for 'do not count'."""
    boxes: Tensor
    """(A, 4) float32 xyxy: the object of each positive anchor, zeros elsewhere."""


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """(N, 4) and (M, 4) xyxy -> (N, M) intersection over union."""
    overlap = intersection(a, b)
    area_a = (a[:, 2:] - a[:, :2]).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).prod(dim=1)
    return overlap / (area_a[:, None] + area_b[None] - overlap).clamp_min(1e-6)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """(N, 4) and (M, 4) xyxy -> (N, M) common area."""
    corner = torch.maximum(a[:, None, :2], b[None, :, :2])
    side = (torch.minimum(a[:, None, 2:], b[None, :, 2:]) - corner).clamp_min(0)
    return side.prod(dim=-1)


def assign(
    anchors: Tensor,
    per_level: list[int],
    boxes: Tensor,
    labels: Tensor,
    ignore: Tensor,
    classes: int,
    per_cell: int,
    options: AssignOptions,
) -> Assignment:
    """Targets for one image.

    Args:
        anchors: (A, 4) xyxy.
        per_level: how many of them each level has; they sum to A.
        boxes, labels, ignore: (N, 4), (N,), (N,) objects; an ignored one makes the anchors over it not count.
        classes: C.
        per_cell: anchors per cell.
        options: see :class:`AssignOptions`.
    """
    targets = torch.full((len(anchors),), classes, dtype=torch.int64, device=anchors.device)
    target_boxes = torch.zeros_like(anchors)
    crowd, objects, names = boxes[ignore], boxes[~ignore], labels[~ignore]
    if len(crowd):
        area = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
        targets[(intersection(anchors, crowd) / area[:, None]).amax(dim=1) > 0.5] = -1
    if not len(objects):
        return Assignment(targets, target_boxes)

    iou = pairwise_iou(anchors, objects)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    distance = torch.cdist(centers, (objects[:, :2] + objects[:, 2:]) / 2)
    candidates, start = [], 0
    for count in per_level:
        k = min(options.cells * per_cell, count)
        candidates.append(start + distance[start : start + count].topk(k, dim=0, largest=False).indices)
        start += count
    index = torch.cat(candidates)  # (K, N)
    overlaps = iou.gather(0, index)
    threshold = (overlaps.mean(dim=0) + overlaps.std(dim=0)).clamp_min(options.min_overlap)
    inside = ((centers[index] > objects[None, :, :2]) & (centers[index] < objects[None, :, 2:])).all(dim=-1)
    positive = (overlaps >= threshold) & inside
    score = torch.zeros_like(iou)
    score.scatter_(0, index, torch.where(positive, overlaps, torch.zeros_like(overlaps)))
    best_score, best_object = score.max(dim=1)
    chosen = best_score > 0
    targets[chosen] = names[best_object[chosen]]
    target_boxes[chosen] = objects[best_object[chosen]]
    # Small objects can miss every cell centre: each gets the anchor that fits it best.
    best_anchor = iou.argmax(dim=0)
    fits = iou.amax(dim=0) > 0.1
    targets[best_anchor[fits]] = names[fits]
    target_boxes[best_anchor[fits]] = objects[fits]
    return Assignment(targets, target_boxes)
