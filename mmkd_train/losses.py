"""Losses as pure functions. L_det = L_cls + L_reg; distillation will add beta * L_feat + gamma * L_KD beside them.

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
    regression_weight: float = 0.5

    def __post_init__(self) -> None:
        if self.classification not in ("focal", "hard_negatives"):
            raise ValueError(f"classification must be 'focal' or 'hard_negatives', got '{self.classification}'.")
        if (
            min(self.focal_gamma, self.regression_weight) < 0
            or not 0 <= self.focal_alpha <= 1
            or self.negatives_per_positive < 1
        ):
            raise ValueError(
                "need focal_gamma >= 0, regression_weight >= 0, 0 <= focal_alpha <= 1, negatives_per_positive >= 1."
            )


def mask_unlabelled(logits: Tensor, labelled: Tensor) -> Tensor:
    """Take classes that were not annotated in a picture out of its softmax, so that answers there are not punished.

    Args:
        logits: (B, A, C + 1).
        labelled: (B, C) bool.
    """
    hidden = F.pad(~labelled, (0, 1))[:, None, :]
    return logits.masked_fill(hidden, torch.finfo(logits.dtype).min)


def classification_loss(logits: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Softmax cross-entropy over C + background, divided by the number of foreground anchors.

    ``focal`` weighs each anchor by alpha (1 - p)^gamma (Lin et al., arXiv 1708.02002, eq. 5, on the softmax);
    ``hard_negatives`` keeps the n worst background anchors per foreground one (SSD, arXiv 1512.02325, section 2.2).

    Args:
        logits: (B, A, C + 1), background last.
        targets: (B, A) int64, C = background, -1 = do not count.
    """
    background = logits.shape[-1] - 1
    entropy = F.cross_entropy(logits.flatten(0, 1), targets.clamp_min(0).flatten(), reduction="none").view_as(targets)
    counted = targets >= 0
    foreground = counted & (targets < background)
    positives = foreground.sum().clamp_min(1)
    if options.classification == "focal":
        alpha = torch.where(foreground, options.focal_alpha, 1.0 - options.focal_alpha)
        weight = alpha * (1.0 - torch.exp(-entropy)).pow(options.focal_gamma) * counted
        return (weight * entropy).sum() / positives
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
