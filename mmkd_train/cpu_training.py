"""What makes a training step cheaper on a CPU without changing what it computes.

:func:`keep_freed_memory` spares the page faults of large tensors; :func:`fast_depthwise` takes the gradients of
depthwise convolutions in the precision in which the CPU kernels are fast. The commands that train use both.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc
_KEPT = 2**31 - 1  # bytes that stay with the process, the largest value there is
_TOP_PAD = 2**29


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones, instead of giving each large one back to the
    kernel, whose zeroed pages cost a fault each: 15 to 20 % of a step of two MobileNetV3. For programs that do nothing
    else: memory that is free inside them is lost to others.

    Returns:
        Whether the C library is glibc and took the settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEPT), (_M_TOP_PAD, _TOP_PAD))
    return all([mallopt(name, value) == 1 for name, value in settings])


class _DepthwiseConvolution(torch.autograd.Function):
    """A depthwise convolution in bfloat16 whose slow gradients are taken in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: list[int], padding: list[int]) -> Tensor:
        """x: (B, C, H, W) bfloat16; weight: (C, 1, k, k) float32."""
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding
        return torch.conv2d(x, weight.to(x.dtype), None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Gradients of the input (bfloat16) and of the weight (float32)."""
        x, weight = ctx.saved_tensors
        stride, padding = ctx.geometry

        def gradient(of: int, dtype: torch.dtype) -> Tensor | None:
            if not ctx.needs_input_grad[of]:
                return None
            wanted = [of == 0, of == 1, False]
            tensors = (tensor.to(dtype) for tensor in (gradients[0], x, weight))
            found: Tensor = torch.ops.aten.convolution_backward(
                *tensors, None, stride, padding, [1, 1], False, [0, 0], len(weight), wanted
            )[of]
            return found.to((x, weight)[of].dtype)

        of_input = gradient(0, torch.float32 if max(stride) > 1 else x.dtype)
        of_weight = gradient(1, torch.float32 if weight.shape[-1] > 3 else x.dtype)
        return of_input, of_weight, None, None


@contextmanager
def fast_depthwise() -> Iterator[None]:
    """Inside this context, bfloat16 autocast on a CPU takes two gradients in float32: that of the input of strided
    depthwise convolutions, and that of the weight of those above 3x3. To be entered for the forward pass, and for the
    backward pass as well where activations are checkpointed and computed again.

    oneDNN's bfloat16 kernels for these two are up to 80 times slower than its float32 ones (672 channels, 5x5, stride
    2, 8 x 16 x 20 on one core of an AMD EPYC: 56 to 0.7 ms and 25 to 5.7 ms), and alone make bfloat16 training slower
    than float32. Everything else runs as before, and so does this outside autocast. Modules call the convolution by
    its name in torch.nn.functional, where it is replaced for the time being, for all threads.
    """
    plain = functional.conv2d

    def conv2d(*args: Any, **kwargs: Any) -> Tensor:
        if kwargs or not _is_slow(*args):
            return plain(*args, **kwargs)
        x, weight, _, stride, padding = args[:5]
        with torch.autocast("cpu", enabled=False):
            found: Tensor = _DepthwiseConvolution.apply(x.to(torch.bfloat16), weight, list(stride), list(padding))
        return found

    functional.conv2d = conv2d
    try:
        yield
    finally:
        functional.conv2d = plain


def _is_slow(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Whether these arguments of conv2d are a depthwise convolution that bfloat16 autocast on a CPU would slow down."""
    return (
        x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and torch.is_grad_enabled()
        and groups == x.shape[1] == len(weight)
        and bias is None
        and isinstance(stride, tuple)
        and isinstance(padding, tuple)
        and dilation in (1, (1, 1))
        and (max(stride) > 1 or weight.shape[-1] > 3)
    )
