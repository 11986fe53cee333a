"""Losses as pure functions: L_final = alpha (L_cls + L_reg) + beta L_feat + gamma L_KD.

Each takes tensors and returns a scalar tensor; what is averaged over is said in the docstring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class LossOptions:
    """Weights and the remedy against the flood of background anchors.

    Raises:
        ValueError: an unknown remedy or a negative weight.
    """

    classification: Literal["focal", "hard_negatives"] = "focal"
    focal_gamma: float = 1.5
    focal_alpha: float = 0.5
    """Weight of foreground anchors; background gets 1 - alpha."""
    negatives_per_positive: int = 3
    quality_target: bool = False
    """A foreground anchor's target is its box's IoU instead of 1, so that scores rank boxes by how well they fit."""
    regression: Literal["smooth_l1", "giou"] = "smooth_l1"
    regression_weight: float = 0.5

    def __post_init__(self) -> None:
        if self.classification not in ("focal", "hard_negatives"):
            raise ValueError(f"classification must be 'focal' or 'hard_negatives', got '{self.classification}'.")
        if self.regression not in ("smooth_l1", "giou"):
            raise ValueError(f"regression must be 'smooth_l1' or 'giou', got '{self.regression}'.")
        if self.quality_target and self.classification != "focal":
            raise ValueError("quality_target is defined for classification: focal only.")
        if (
            min(self.focal_gamma, self.regression_weight) < 0
            or not 0 <= self.focal_alpha <= 1
            or self.negatives_per_positive < 1
        ):
            raise ValueError(
                "need focal_gamma >= 0, regression_weight >= 0, 0 <= focal_alpha <= 1, negatives_per_positive >= 1."
            )


@dataclass(frozen=True, slots=True)
class DistillOptions:
    """L_final = alpha L_det + beta L_feat + gamma L_KD, and the form of the last two; beta and gamma count only with a
    teacher.

    Raises:
        ValueError: a value out of range, or features compared with no weight on them.
    """

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 2.0
    weighting: Literal["none", "foreground", "teacher_confidence"] = "teacher_confidence"
    """Which anchors L_KD looks at."""
    feature_kind: Literal["mse", "pkd"] = "pkd"
    feature_of: Literal["fused", "all"] = "all"
    """Pyramids compared: after the fusion, or also each modality's own before it (AMFD, arXiv 2405.12944, found
    distilling the fused features alone to limit the student)."""
    start: int = 0
    """Step at which the distillation terms set in."""
    warmup: int = 100
    """Steps over which they rise to their weights."""

    def __post_init__(self) -> None:
        if min(self.alpha, self.beta, self.gamma) < 0 or self.temperature <= 0 or min(self.start, self.warmup) < 0:
            raise ValueError("distill: need alpha, beta, gamma, start, warmup >= 0 and temperature > 0.")
        for name, known in (
            ("weighting", ("none", "foreground", "teacher_confidence")),
            ("feature_kind", ("mse", "pkd")),
            ("feature_of", ("fused", "all")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"distill.{name} must be one of {', '.join(known)}, got '{getattr(self, name)}'.")

    @property
    def pyramids(self) -> tuple[str, ...]:
        """The compared pyramids; none without a weight on them."""
        if self.beta == 0:
            return ()
        return ("fused",) if self.feature_of == "fused" else ("fused", "rgb", "thermal")


def mask_unlabelled(logits: Tensor, labelled: Tensor) -> Tensor:
    """Take classes that were not annotated in a picture out of its softmax, so that answers there are not punished.

    Args:
        logits: (B, A, C + 1).
        labelled: (B, C) bool.
    """
    hidden = F.pad(~labelled, (0, 1))[:, None, :]
    return logits.masked_fill(hidden, torch.finfo(logits.dtype).min)


def classification_loss(logits: Tensor, targets: Tensor, options: LossOptions, quality: Tensor | None = None) -> Tensor:
    """Softmax cross-entropy over C + background, divided by the number of foreground anchors.

    ``focal`` weighs each anchor by alpha (1 - p)^gamma (Lin et al., arXiv 1708.02002, eq. 5, on the softmax), or, with
    a quality q, by alpha |q - p|^gamma with the target (q, 1 - q) on (class, background) (Li et al., arXiv 2006.04388,
    eq. 6, on the softmax); ``hard_negatives`` keeps the n worst background anchors per foreground one (SSD, arXiv
    1512.02325, section 2.2).

    Args:
        logits: (B, A, C + 1), background last.
        targets: (B, A) int64, C = background, -1 = do not count.
        quality: (B, A) in 0..1, read where an anchor is foreground.
    """
    background = logits.shape[-1] - 1
    entropy = F.cross_entropy(logits.flatten(0, 1), targets.clamp_min(0).flatten(), reduction="none").view_as(targets)
    counted = targets >= 0
    foreground = counted & (targets < background)
    positives = foreground.sum().clamp_min(1)
    if options.classification == "focal":
        alpha = torch.where(foreground, options.focal_alpha, 1.0 - options.focal_alpha)
        probability = torch.exp(-entropy)
        if quality is None:
            weight = alpha * (1.0 - probability).pow(options.focal_gamma) * counted
            return (weight * entropy).sum() / positives
        goal = torch.where(foreground, quality, torch.ones_like(quality))
        rest = F.cross_entropy(
            logits.flatten(0, 1), torch.full_like(targets, background).flatten(), reduction="none"
        ).view_as(targets)
        weight = alpha * (goal - probability).abs().clamp_min(1e-6).pow(options.focal_gamma) * counted
        return (weight * (goal * entropy + (1.0 - goal) * rest)).sum() / positives
    negatives = torch.where(counted & ~foreground, entropy, torch.zeros_like(entropy)).flatten()
    k = min(int(positives) * options.negatives_per_positive, len(negatives))
    return (entropy[foreground].sum() + negatives.topk(k).values.sum()) / positives


def regression_loss(offsets: Tensor, target_offsets: Tensor, foreground: Tensor) -> Tensor:
    """Smooth L1 (Fast R-CNN, arXiv 1504.08083, eq. 3) over the four offsets, divided by the number of foreground
    anchors.

    Args:
        offsets, target_offsets: (B, A, 4).
        foreground: (B, A) bool.
    """
    loss = F.smooth_l1_loss(offsets[foreground], target_offsets[foreground], reduction="sum")
    return loss / foreground.sum().clamp_min(1)


def overlap_and_giou(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of matching boxes (Rezatofighi et al., arXiv 1902.09630, algorithm 1).

    Args:
        boxes, targets: (N, 4) xyxy.

    Returns:
        (N,) in 0..1 and (N,) in -1..1.
    """
    low = torch.maximum(boxes[:, :2], targets[:, :2])
    high = torch.minimum(boxes[:, 2:], targets[:, 2:])
    common = (high - low).clamp_min(0).prod(dim=1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) + (targets[:, 2:] - targets[:, :2]).prod(dim=1) - common
    hull = (torch.maximum(boxes[:, 2:], targets[:, 2:]) - torch.minimum(boxes[:, :2], targets[:, :2])).prod(dim=1)
    iou = common / union.clamp_min(1e-6)
    return iou, iou - (hull - union) / hull.clamp_min(1e-6)


def kd_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    weighting: Literal["none", "foreground", "teacher_confidence"],
    foreground: Tensor,
) -> Tensor:
    """L_KD = T^2 KL(p_teacher || p_student) of the tempered softmax over C + background (Hinton et al., arXiv
    1503.02531, section 2), as a weighted mean over the anchors.

    Nearly all anchors are background, where teacher and student agree; ``foreground`` counts the assigned anchors
    only, ``teacher_confidence`` weighs each by 1 - p_teacher(background) at T = 1 (both as in Chen et al., NeurIPS
    2017, "Learning efficient object detection models with knowledge distillation", section 3.2, which weighs by class).

    Args:
        student, teacher: (B, A, C + 1) logits, background last.
        foreground: (B, A) bool, the anchors that were assigned an object.
    """
    if weighting == "none":
        weight = torch.ones_like(teacher[..., 0])
    elif weighting == "foreground":
        weight = foreground.to(teacher.dtype)
    else:
        weight = 1.0 - teacher.softmax(dim=-1)[..., -1]
    divergence = F.kl_div(
        (student / temperature).log_softmax(dim=-1),
        (teacher / temperature).log_softmax(dim=-1),
        reduction="none",
        log_target=True,
    ).sum(dim=-1)
    return temperature**2 * (weight * divergence).sum() / weight.sum().clamp_min(1.0)


def feature_loss(student: list[Tensor], teacher: list[Tensor], kind: Literal["mse", "pkd"]) -> Tensor:
    """L_feat between two pyramids of equal shapes, averaged over the levels.

    ``mse`` is the plain mean squared error (FitNets, arXiv 1412.6550, eq. 2). ``pkd`` first gives every channel zero
    mean and unit variance over batch and space and halves the error, which then is 1 - Pearson's correlation (Cao et
    al., PKD, arXiv 2207.02039, eq. 3): what counts is the pattern, not the teacher's magnitude.

    Args:
        student, teacher: [(B, C, H_l, W_l)].
    """
    total = student[0].new_zeros(())
    for ours, theirs in zip(student, teacher, strict=True):
        if kind == "pkd":
            total = total + 0.5 * F.mse_loss(_normalized(ours), _normalized(theirs))
        else:
            total = total + F.mse_loss(ours, theirs)
    return total / len(student)


def _normalized(feature: Tensor) -> Tensor:
    """(B, C, H, W) with zero mean and unit variance per channel."""
    variance, mean = torch.var_mean(feature, dim=(0, 2, 3), correction=0, keepdim=True)
    return (feature - mean) * torch.rsqrt(variance + 1e-6)
