"""Fold batch norms into the convolutions before them: the same answers, fewer passes over memory. Inference only."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(module: nn.Module) -> None:
    """Fold, in place, every batch norm whose predecessor among its parent's children is the convolution that feeds it.

    All modules of this package and of timm's EfficientNet and MobileNetV3 families list them in that order. Batch norms
    that share a convolution (the heads' norms per level) stay.

    Args:
        module: in evaluation mode.

    Raises:
        ValueError: it is in training mode, where folding would change the answers.
    """
    if module.training:
        raise ValueError("Batch norms can be folded in evaluation mode only; call eval() first.")
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if before is not None and isinstance(before[1], nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            # timm's batch norm carries the activation that follows it.
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            fold_batch_norms(child)
        before = (name, child)
