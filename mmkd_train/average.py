"""The mean of several weights files of one architecture, which shared a beginning: often better than each, at the cost
of one (Wortsman et al., "Model soups", arXiv 2203.05482).

In: detector files of ``train`` or ``distill``. Out: one detector file whose metadata name the others by sha256.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmkd_ros.inference import WeightsError
from mmkd_ros.inference.weights import load_weights, save_weights
from mmkd_train.errors import UserError

HELP = "Write the mean of several trained detectors of one architecture, which shared a beginning."


def average(files: Sequence[Path], output: Path) -> str:
    """Write the mean of the weights; integers, such as batch counters, are those of the first file.

    Args:
        files: at least two.
        output: .safetensors.

    Returns:
        The sha256 of what was written.

    Raises:
        UserError: a file cannot be used, or is of another network than the first.
    """
    if len(files) < 2:
        raise UserError("a mean needs at least two --weights.")
    try:
        loaded = [load_weights(path) for path in files]
    except WeightsError as error:
        raise UserError(str(error)) from error
    tensors, metadata = loaded[0]
    for path, (others, description) in zip(files, loaded, strict=True):
        shapes = {name: tensor.shape for name, tensor in others.items()}
        if description["config"] != metadata["config"] or shapes != {name: t.shape for name, t in tensors.items()}:
            raise UserError(f"{path} is not of the network of {files[0]}; a mean needs files of one configuration.")
    mean = {name: _mean([others[name] for others, _ in loaded]) for name in tensors}
    sources = [{"sha256": one["sha256"], "training": one.get("training")} for _, one in loaded]
    return save_weights(output, mean, {**metadata, "training": {"average_of": sources}, "metrics": {}})


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first
    return torch.stack([tensor.double() for tensor in tensors]).mean(0).to(first.dtype)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--weights", type=Path, nargs="+", required=True, help="detector.safetensors files of runs")
    parser.add_argument("--output", type=Path, required=True, help="file ending in .safetensors")


def run(args: argparse.Namespace) -> int:
    """Write the mean and name it."""
    digest = average(args.weights, args.output)
    print(f"{args.output}: mean of {len(args.weights)} files, sha256 of the tensors {digest}")
    return 0
