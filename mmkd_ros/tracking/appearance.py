"""Appearance vectors: a small CNN looks at the RGB and the thermal crop of every box together.

Why crops and not pooled detector features: the tracker is a process of its own that gets the images by topic, and
vision_msgs carry no feature vectors. So any detector can feed it.

The network is a plain residual CNN trained by contrast (see ``mmkd_train/appearance.py``); the last map is averaged in
horizontal stripes, so that the vector keeps what is on top and what is below (part-based pooling, Sun et al., "Beyond
Part Models", 2018).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmkd_ros.imaging import thermal_to_uint8
from mmkd_ros.inference.errors import WeightsError
from mmkd_ros.inference.weights import load_weights
from mmkd_ros.types import ImagePair

KIND = "appearance_encoder"
_MIN_CROP_PX = 2  # a crop thinner than this shows nothing
_BATCH = 256  # crops per forward pass: bounds the memory


@dataclass(frozen=True, slots=True)
class AppearanceConfig:
    """Everything that defines the embedding network; stored in the weights file.

    Attributes:
        height: of the resized crop in pixels.
        width: of the resized crop in pixels.
        stem: channels after the first convolution.
        blocks: channels of the residual blocks; each halves the map.
        stripes: horizontal stripes that the last map is averaged in.
        dimension: length D of the vector.
        mean: of the channels R, G, B, thermal in 0..1; subtracted.
        std: of the same channels; divides.

    Raises:
        ValueError: a size that gives no network.
    """

    height: int = 64
    width: int = 32
    stem: int = 32
    blocks: tuple[int, ...] = (48, 64)
    stripes: int = 4
    dimension: int = 64
    mean: tuple[float, ...] = (0.45, 0.45, 0.45, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        stride = 2 ** (1 + len(self.blocks))
        if self.height % stride or self.width % stride or min(self.height, self.width) < stride:
            raise ValueError(f"The crop size {self.height}x{self.width} must be a multiple of {stride}.")
        if (self.height // stride) % self.stripes:
            raise ValueError(f"{self.stripes} stripes do not divide the last map's height {self.height // stride}.")
        if min(self.stem, self.dimension, *self.blocks) < 1:
            raise ValueError("Channels and dimension must be positive.")
        if len(self.mean) != 4 or len(self.std) != 4 or min(self.std) <= 0:
            raise ValueError("mean and std need four values, std above zero.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AppearanceConfig:
        """Build from JSON values (lists become tuples).

        Raises:
            TypeError: unknown or badly typed entries.
            ValueError: a size that gives no network.
        """
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(values).items()}
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


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


def cut_crops(
    pair: ImagePair, boxes: NDArray[np.float32], config: AppearanceConfig
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Cut, resize and normalise what the boxes show in both images.

    Args:
        pair: the images; a thermal image of another size is taken to see the same field of view.
        boxes: (N, 4) x1 y1 x2 y2 in pixels of the RGB image (of the thermal image without RGB); may stick out.

    Returns:
        crops: (N, 4, height, width) float32, channels R, G, B, thermal; zeros for a missing modality.
        valid: (N,) bool, False where the box is not finite or shows fewer than 2 x 2 pixels.

    Raises:
        ValueError: boxes of another shape.
    """
    exact: NDArray[np.float64] = np.asarray(boxes, dtype=np.float64)
    if exact.ndim != 2 or exact.shape[1] != 4:
        raise ValueError(f"boxes must be (N, 4), got {exact.shape}.")
    n, size = len(exact), (config.width, config.height)
    crops = np.zeros((n, 4, config.height, config.width), np.float32)
    valid: NDArray[np.bool_] = np.asarray(np.isfinite(exact).all(axis=1))
    mean = np.asarray(config.mean, np.float32)
    scale = 1 / np.asarray(config.std, np.float32)
    frame_height, frame_width = pair.size
    if pair.rgb is not None:
        corners, shown = _clip_to_pixels(exact, valid, frame_height, frame_width)
        valid &= shown
        for i in np.flatnonzero(valid):
            x1, y1, x2, y2 = corners[i]
            crop = _resize(pair.rgb[y1:y2, x1:x2], size) * np.float32(1 / 255)
            crops[i, :3] = ((crop - mean[:3]) * scale[:3]).transpose(2, 0, 1)
    if pair.thermal is not None:
        height, width = pair.thermal.shape
        stretched = exact * np.asarray([width / frame_width, height / frame_height] * 2)
        corners, shown = _clip_to_pixels(stretched, valid, height, width)
        if pair.rgb is None:
            valid &= shown
        thermal = thermal_to_uint8(pair.thermal)
        for i in np.flatnonzero(valid & shown):
            x1, y1, x2, y2 = corners[i]
            crop = _resize(thermal[y1:y2, x1:x2], size) * np.float32(1 / 255)
            crops[i, 3] = (crop - mean[3]) * scale[3]
    return crops, valid


def _clip_to_pixels(
    boxes: NDArray[np.float64], finite: NDArray[np.bool_], height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Whole-pixel corners inside the image, and which boxes show enough pixels."""
    limits = np.asarray([width, height, width, height], np.float64)
    safe = np.where(finite[:, None], boxes, 0.0)
    corners = np.rint(np.clip(safe, 0, limits)).astype(np.int64)
    shown = (corners[:, 2:] - corners[:, :2] >= _MIN_CROP_PX).all(axis=1)
    return corners, shown & finite


def _resize(crop: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize to (width, height); averaging where it shrinks, so that fine texture does not alias."""
    shrinks = crop.shape[0] > size[1] and crop.shape[1] > size[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(crop), size, interpolation=interpolation).astype(np.float32)


class AppearanceEncoder:
    """Weights file -> callable that turns boxes in an image pair into appearance vectors.

    Attributes:
        dimension: length D of the vectors.
        metadata: what the weights file says about itself.
        network: the module, in evaluation mode.

    Raises:
        WeightsError: missing, broken or unfit weights.
    """

    def __init__(self, weights: str | Path, device: str = "cpu") -> None:
        tensors, self.metadata = load_weights(Path(weights))
        if self.metadata.get("kind") != KIND:
            raise WeightsError(
                f"{weights} holds '{self.metadata.get('kind')}', not an appearance network; "
                "give the file that `python -m mmkd_train appearance` writes."
            )
        try:
            config = AppearanceConfig.from_dict(self.metadata["config"])
            network = AppearanceNet(config)
            network.load_state_dict(tensors)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{weights} does not fit the appearance network: {error}") from error
        self.config = config
        self.dimension = config.dimension
        self.device = torch.device(device)
        self.network = network.eval().to(self.device)

    @torch.inference_mode()
    def encode(self, pair: ImagePair, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Appearance vectors of the boxes.

        Args:
            pair: the images; a missing one is zeros to the network, which was trained for that.
            boxes: (N, 4) float32 x1 y1 x2 y2 in pixels of the RGB image (of the thermal image without RGB).

        Returns:
            (N, D) float32, rows of length one. A row of zeros means "unknown": the box is not finite, lies outside the
            image or shows fewer than 2 x 2 pixels; the tracker then goes by motion and overlap alone.

        Raises:
            ValueError: boxes of another shape.
        """
        crops, valid = cut_crops(pair, boxes, self.config)
        vectors = np.zeros((len(crops), self.dimension), np.float32)
        rows = np.flatnonzero(valid)
        for start in range(0, len(rows), _BATCH):
            chosen = rows[start : start + _BATCH]
            batch = torch.from_numpy(crops[chosen]).to(self.device)
            vectors[chosen] = self.network(batch).float().cpu().numpy()
        vectors[~np.isfinite(vectors).all(axis=1)] = 0
        return vectors
