"""The appearance network in torch.

A plain residual CNN trained by contrast (see ``mmkd_train/appearance.py``); the last map is averaged in horizontal
stripes, so that the vector keeps what is on top and what is below (part-based pooling, Sun et al., "Beyond Part
Models", 2018).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmkd_ros.inference.backends.torch_backend import choose_device
from mmkd_ros.inference.errors import WeightsError
from mmkd_ros.inference.weights import load_weights
from mmkd_ros.inference.weights_file import check_appearance
from mmkd_ros.tracking.crops import AppearanceConfig


class _Residual(nn.Module):
    """Two 3x3 convolutions with a projected shortcut; halves height and width."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, 2, 1, bias=False)
        self.norm_first = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm_second = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm_first(self.first(x)))
        y = self.norm_second(self.second(y))
        return torch.relu(y + self.shortcut(nn.functional.avg_pool2d(x, 2)))


class AppearanceNet(nn.Module):
    """(N, 4, height, width) float32, normalised, missing modality all zeros -> (N, D) float32 of length one."""

    def __init__(self, config: AppearanceConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(4, config.stem, 5, 2, 2, bias=False)
        self.norm = nn.BatchNorm2d(config.stem)
        widths = (config.stem, *config.blocks)
        self.blocks = nn.Sequential(*(_Residual(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)))
        self.embed = nn.Linear(widths[-1] * config.stripes, config.dimension)

    def forward(self, crops: Tensor) -> Tensor:
        # channels last: half the time on a CPU
        crops = crops.contiguous(memory_format=torch.channels_last)
        x = self.blocks(torch.relu(self.norm(self.stem(crops))))
        n, c, h, _ = x.shape
        stripes = x.reshape(n, c, self.config.stripes, -1).mean(dim=3)
        return nn.functional.normalize(self.embed(stripes.flatten(1)), dim=1)


def load_appearance(weights: Path) -> tuple[AppearanceNet, dict[str, Any]]:
    """(network in evaluation mode on the CPU, metadata) of a weights file.

    Raises:
        WeightsError: missing, broken or unfit weights.
    """
    tensors, metadata = load_weights(weights)
    check_appearance(weights, metadata)
    try:
        network = AppearanceNet(AppearanceConfig.from_dict(metadata["config"]))
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{weights} does not fit the appearance network: {error}") from error
    return network.eval(), metadata


class TorchEmbedder:
    """An :class:`~mmkd_ros.tracking.embedder.Embedder` on torch.

    Args:
        weights: the file.
        device: 'auto', 'cpu' or 'cuda[:i]'.

    Raises:
        WeightsError: missing, broken or unfit weights.
        ValueError: the device cannot be used.
    """

    backend = "torch"

    def __init__(self, weights: Path, device: str) -> None:
        network, metadata = load_appearance(weights)
        self._device = choose_device(device)
        self._network = network.to(self._device)
        self.config = network.config
        self.weights_sha256 = str(metadata["sha256"])

    @property
    def device(self) -> str:
        """Where it runs, e.g. 'cpu' or 'cuda'."""
        return str(self._device)

    @torch.inference_mode()
    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`~mmkd_ros.tracking.embedder.Embedder`."""
        vectors: NDArray[np.float32] = self._network(torch.from_numpy(crops).to(self._device)).float().cpu().numpy()
        return vectors
