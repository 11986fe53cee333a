"""The cheaper steps on a CPU: the same gradients, taken where bfloat16 is slow, and only there."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmkd_train import cpu_training
from mmkd_train.cpu_training import fast_depthwise, keep_freed_memory

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the weights whose convolution went the fast way."""
    shapes = []
    original = cpu_training._DepthwiseConvolution.apply

    def spy(x: Tensor, weight: Tensor, *rest: object) -> Tensor:
        shapes.append(tuple(weight.shape))
        return original(x, weight, *rest)

    monkeypatch.setattr(cpu_training._DepthwiseConvolution, "apply", spy)
    return shapes


def network() -> nn.Sequential:
    """Every kind of convolution that a backbone has."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 16, 1),
        nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16),  # with a bias
        nn.Conv2d(16, 4, 3, stride=2, padding=1),
    )


def gradients(net: nn.Module, x: Tensor, bf16: bool, fast: bool) -> list[Tensor]:
    """Of the input and of every parameter, of a loss that all outputs enter."""
    net.zero_grad()
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        if fast:
            with fast_depthwise():
                y = net(x)
        else:
            y = net(x)
    y.float().square().sum().backward()
    return [x.grad, *(parameter.grad.clone() for parameter in net.parameters())]


def relative(found: Tensor, wanted: Tensor) -> float:
    """Norm of the difference over the norm of the wanted."""
    return float((found - wanted).norm() / wanted.norm())


def test_gradients_are_those_of_float32_as_far_as_bfloat16_goes(taken: list[tuple[int, ...]]) -> None:
    net, x = network(), torch.randn(2, 8, 64, 72)
    exact = gradients(net, x, bf16=False, fast=False)
    plain = gradients(net, x, bf16=True, fast=False)
    assert not taken
    fast = gradients(net, x, bf16=True, fast=True)
    assert taken == [(8, 1, 5, 5), (8, 1, 3, 3), (8, 1, 5, 5)]
    for one, other, wanted in zip(fast, plain, exact, strict=True):
        assert one.dtype == wanted.dtype
        assert relative(one, wanted) < max(0.02, 1.2 * relative(other, wanted))


def test_the_outputs_are_those_of_plain_autocast_to_the_last_bit() -> None:
    net, x = network(), torch.randn(2, 8, 64, 72)
    with torch.autocast("cpu", torch.bfloat16):
        plain = net(x)
        with fast_depthwise():
            assert torch.equal(net(x), plain)


def test_the_convolution_is_put_back() -> None:
    plain = functional.conv2d
    with pytest.raises(ZeroDivisionError), fast_depthwise():
        assert functional.conv2d is not plain
        1 / 0  # noqa: B018 - to leave by an error
    assert functional.conv2d is plain


def test_nothing_changes_without_autocast(taken: list[tuple[int, ...]]) -> None:
    net, x = network(), torch.randn(1, 8, 64, 64)
    for one, other in zip(gradients(net, x, False, True), gradients(net, x, False, False), strict=True):
        assert torch.equal(one, other)
    assert not taken


def test_a_frozen_weight_gets_no_gradient(taken: list[tuple[int, ...]]) -> None:
    net = network()
    net[0].requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16), fast_depthwise():
        y = net(torch.randn(1, 8, 64, 64))
    y.float().sum().backward()
    assert net[0].weight.grad is None and net[1].weight.grad is not None
    assert len(taken) == 3


def test_freed_memory_stays_with_the_process() -> None:
    if platform.libc_ver()[0] != "glibc":
        assert not keep_freed_memory()
        pytest.skip("the C library is not glibc, whose malloc this is about.")
    program = (
        "import resource, torch\n"
        "from mmkd_train.cpu_training import keep_freed_memory\n"
        "{}\n"
        "def work(n):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(n): torch.ones(10_000_000)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "work(30)\n"  # until the reserve has been touched once
        "print(work(5))"
    )

    def page_faults(first: str) -> int:
        done = subprocess.run(  # noqa: S603 - this interpreter
            [sys.executable, "-c", program.format(first)], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert page_faults("assert keep_freed_memory()") < 0.1 * page_faults("")
