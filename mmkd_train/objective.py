"""From a network's output and a batch's labels to the terms of L_final = alpha L_det + beta L_feat + gamma L_KD."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmkd_ros.network import Detector, DetectorOutput
from mmkd_ros.network.anchors import anchors_per_level, decode_boxes, encode_boxes
from mmkd_train.assign import AssignOptions, assign
from mmkd_train.batches import Batch
from mmkd_train.losses import (
    DistillOptions,
    LossOptions,
    classification_loss,
    feature_loss,
    kd_loss,
    mask_unlabelled,
    overlap_and_giou,
    regression_loss,
)
from mmkd_train.teacher import TeacherAnswer


class Targets(NamedTuple):
    """What the anchors of a batch should answer."""

    labels: Tensor
    """(B, A) int64: class, C for background, -1 for 'do not count'."""
    boxes: Tensor
    """(B, A, 4) float32 xyxy: the object of each foreground anchor."""
    foreground: Tensor
    """(B, A) bool."""


def make_targets(detector: Detector, batch: Batch, options: AssignOptions) -> Targets:
    """Assign the objects of every picture to the network's anchors."""
    height, width = batch.student.thermal.shape[1:]
    anchors = detector.anchors(height, width)
    per_level = anchors_per_level(detector.config, height, width)
    classes = len(detector.config.class_names)
    each = [
        assign(
            anchors,
            per_level,
            boxes.to(anchors.device),
            labels.to(anchors.device),
            ignore.to(anchors.device),
            classes,
            detector.config.anchors_per_cell,
            options,
        )
        for boxes, labels, ignore in zip(batch.boxes, batch.labels, batch.ignore, strict=True)
    ]
    labels = torch.stack([one.labels for one in each])
    return Targets(labels, torch.stack([one.boxes for one in each]), (labels >= 0) & (labels < classes))


def detection_losses(
    detector: Detector, output: DetectorOutput, batch: Batch, targets: Targets, options: LossOptions
) -> dict[str, Tensor]:
    """L_cls and L_reg of a batch as "cls" and "reg", see :mod:`mmkd_train.losses`."""
    height, width = batch.student.thermal.shape[1:]
    matched = detector.anchors(height, width)[None].expand_as(targets.boxes)
    offsets, foreground = output.offsets.float(), targets.foreground
    found = decode_boxes(offsets[foreground], matched[foreground])
    iou, giou = overlap_and_giou(found, targets.boxes[foreground])
    quality = None
    if options.quality_target:
        quality = torch.zeros_like(matched[..., 0]).masked_scatter(foreground, iou.detach())
    if options.regression == "giou":
        regression = (1.0 - giou).sum() / foreground.sum().clamp_min(1)
    else:
        regression = regression_loss(offsets, encode_boxes(targets.boxes, matched), foreground)
    logits = mask_unlabelled(output.logits.float(), batch.labelled.to(offsets.device))
    return {
        "cls": classification_loss(logits, targets.labels, options, quality),
        "reg": options.regression_weight * regression,
    }


def distillation_losses(
    logits: Tensor,
    pyramids: dict[str, list[Tensor]],
    answer: TeacherAnswer,
    batch: Batch,
    foreground: Tensor,
    options: DistillOptions,
) -> dict[str, Tensor]:
    """L_KD as "kd" and L_feat of each pyramid as "feat_NAME", unweighted, as far as the teacher's answer reaches.

    Args:
        logits: (B, A, C + 1) of the student.
        pyramids: the student's, already in the teacher's width; what the student did not see is left out.
        foreground: (B, A) bool, the assigned anchors.
    """
    terms: dict[str, Tensor] = {}
    if options.gamma > 0:
        theirs = answer.logits.to(logits.device)
        reach = theirs.shape[1]
        terms["kd"] = kd_loss(
            logits[:, :reach].float(), theirs, options.temperature, options.weighting, foreground[:, :reach]
        )
    for name, student in pyramids.items():
        seen = slice(None) if name == "fused" else batch.student.present[:, ("rgb", "thermal").index(name)]
        goals = [level.to(logits.device)[seen] for level in answer.pyramids[name]]
        ours = [level.float()[seen] for level in student[: len(goals)]]
        terms[f"feat_{name}"] = feature_loss(ours, goals, options.feature_kind)
    return terms


def total_loss(terms: dict[str, Tensor], options: DistillOptions, step: int) -> Tensor:
    """L_final = alpha (cls + reg) + r (beta mean(feat) + gamma kd), where r rises from 0 to 1 over the warm-up."""
    ramp = min(1.0, max(0.0, (step + 1 - options.start) / max(1, options.warmup)))
    features = [term for name, term in terms.items() if name.startswith("feat_")]
    total = options.alpha * (terms["cls"] + terms["reg"])
    if features:
        total = total + ramp * options.beta * torch.stack(features).mean()
    if "kd" in terms:
        total = total + ramp * options.gamma * terms["kd"]
    return total
