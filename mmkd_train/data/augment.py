"""Paired augmentation: the SAME geometry for both modalities and the boxes, photometry of its own for each.

In: a :class:`Sample` of any size. Out: one of the network's size. All randomness comes from the generator that is
    handed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_ros.inference.preprocess import PAD
from mmkd_train.data.coco import Sample

_MIN_SIDE = 3.0  # network pixels; what is smaller cannot be learned and is ignored instead
_MIN_VISIBLE = 0.3  # share of a box that must stay inside; below, it is ignored


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """Strengths and probabilities.

    Raises:
        ValueError: a probability outside 0..1 or an empty zoom range.
    """

    zoom_min: float = 0.75
    zoom_max: float = 2.0
    """Scale relative to the letterboxed picture, drawn log-uniformly."""
    flip: float = 0.5
    photometric: float = 0.8
    darken: float = 0.15
    """Probability that the RGB picture is turned into a badly lit one."""
    blur: float = 0.1
    noise: float = 0.15
    drop_rgb: float = 0.1
    drop_thermal: float = 0.15
    """Modality dropout; never both."""
    thermal_shift: float = 2.0
    """Standard deviation in network pixels of the thermal picture's misregistration."""
    thermal_scale: float = 0.01
    """Standard deviation of the logarithm of the thermal picture's scale error about its centre."""
    mosaic: float = 0.0
    """Probability that a pair becomes one of four in a frame; only pairs in which every class is labelled do."""
    paste: float = 0.0
    """Mean number of objects of ``data.crops`` that are pasted into a pair."""

    def __post_init__(self) -> None:
        for name in ("flip", "photometric", "darken", "blur", "noise", "drop_rgb", "drop_thermal", "mosaic"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability, got {getattr(self, name)}.")
        if self.drop_rgb + self.drop_thermal > 1.0:
            raise ValueError("drop_rgb + drop_thermal must not exceed 1: both modalities are never dropped together.")
        if not 0.0 < self.zoom_min <= self.zoom_max:
            raise ValueError(f"need 0 < zoom_min <= zoom_max, got {self.zoom_min} and {self.zoom_max}.")
        if self.paste < 0:
            raise ValueError("paste is a mean number of objects and must not be negative.")
        if self.thermal_shift < 0 or self.thermal_scale < 0:
            raise ValueError("thermal_shift and thermal_scale are standard deviations and must not be negative.")


def _window(
    image: NDArray[np.uint8], left: float, top: float, scale: float, height: int, width: int
) -> NDArray[np.uint8]:
    """The (height, width) view whose pixel (x, y) shows the image at ((x + left) / scale, (y + top) / scale); grey
    outside."""
    x0, y0 = max(0, math.floor(left / scale)), max(0, math.floor(top / scale))
    x1 = min(image.shape[1], math.ceil((left + width) / scale))
    y1 = min(image.shape[0], math.ceil((top + height) / scale))
    canvas = np.full((height, width, *image.shape[2:]), PAD, np.uint8)
    if x1 <= x0 or y1 <= y0:
        return canvas
    part = image[y0:y1, x0:x1]
    size = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = np.asarray(cv2.resize(part, size, interpolation=interpolation), np.uint8)
    x, y = round(x0 * scale - left), round(y0 * scale - top)
    source_x, source_y = max(0, -x), max(0, -y)
    x, y = max(0, x), max(0, y)
    part = part[source_y : source_y + height - y, source_x : source_x + width - x]
    canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    return canvas


def resize_sample(sample: Sample, height: int, width: int, left: float, top: float, scale: float) -> Sample:
    """Move a sample into the network's frame: network = scale * pixel - (left, top).

    Boxes are clipped; those that lose too much or get too small are ignored, those that leave the picture are dropped.
    """
    moved = sample.boxes * scale - np.array([left, top, left, top], np.float32)
    clipped = np.clip(moved, 0, np.array([width, height, width, height], np.float32))
    side = clipped[:, 2:] - clipped[:, :2]
    area = side.prod(axis=1)
    visible = area / np.maximum((moved[:, 2:] - moved[:, :2]).prod(axis=1), 1e-6)
    keep = (side > 0.5).all(axis=1)
    ignore = sample.ignore | (visible < _MIN_VISIBLE) | (side < _MIN_SIDE).any(axis=1)
    return Sample(
        None if sample.rgb is None else _window(sample.rgb, left, top, scale, height, width),
        None if sample.thermal is None else _window(sample.thermal, left, top, scale, height, width),
        clipped[keep].astype(np.float32),
        sample.labels[keep],
        ignore[keep],
        sample.labelled,
    )


def _flip(sample: Sample, width: int) -> Sample:
    boxes = sample.boxes.copy()
    boxes[:, [0, 2]] = width - sample.boxes[:, [2, 0]]
    return replace(
        sample,
        rgb=None if sample.rgb is None else sample.rgb[:, ::-1],
        thermal=None if sample.thermal is None else sample.thermal[:, ::-1],
        boxes=boxes,
    )


def _tone(rng: np.random.Generator, contrast: float, brightness: float, gamma: float) -> NDArray[np.float32]:
    """A random (256,) tone curve in 0..255."""
    curve = np.linspace(0.0, 1.0, 256, dtype=np.float32) ** math.exp(rng.uniform(-gamma, gamma))
    curve = (curve - 0.5) * math.exp(rng.uniform(-contrast, contrast)) + 0.5 + rng.uniform(-brightness, brightness)
    return (curve * 255.0).clip(0, 255)


def _degrade(image: NDArray[np.uint8], options: AugmentOptions, rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() < options.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5)), np.uint8)
    if rng.random() < options.noise:
        noise = rng.normal(0.0, rng.uniform(2.0, 12.0), image.shape).astype(np.float32)
        image = (image + noise).clip(0, 255).astype(np.uint8)
    return image


def _photometric_rgb(image: NDArray[np.uint8], options: AugmentOptions, rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() < options.photometric:
        curves = np.stack([_tone(rng, 0.3, 0.1, 0.3)] * 3) * rng.uniform(0.9, 1.1, (3, 1))
        image = np.stack([cv2.LUT(image[..., c], curves[c].clip(0, 255).astype(np.uint8)) for c in range(3)], axis=-1)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
        saturation = rng.uniform(0.4, 1.4)
        image = (grey + (image - grey) * saturation).clip(0, 255).astype(np.uint8)
    if rng.random() < options.darken:
        image = (image * rng.uniform(0.1, 0.5)).astype(np.uint8)
        image = (image + rng.normal(0.0, rng.uniform(1.0, 6.0), image.shape)).clip(0, 255).astype(np.uint8)
    return _degrade(image, options, rng)


def _photometric_thermal(
    image: NDArray[np.uint8], options: AugmentOptions, rng: np.random.Generator
) -> NDArray[np.uint8]:
    if rng.random() < options.photometric:
        image = np.asarray(cv2.LUT(image, _tone(rng, 0.4, 0.15, 0.4).astype(np.uint8)), np.uint8)
    return _degrade(image, options, rng)


def _misregister(image: NDArray[np.uint8], shift: float, scale: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shift by a normal number of pixels and scale about the centre by exp of a normal number."""
    dx, dy = rng.normal(0.0, shift, 2)
    zoom = math.exp(rng.normal(0.0, scale))
    x, y = image.shape[1] / 2, image.shape[0] / 2
    matrix = np.array([[zoom, 0.0, dx + x - zoom * x], [0.0, zoom, dy + y - zoom * y]])
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[::-1], borderMode=cv2.BORDER_REPLICATE), np.uint8)


def random_view(
    sample: Sample,
    height: int,
    width: int,
    options: AugmentOptions,
    rng: np.random.Generator,
    frame: tuple[int, int] | None = None,
) -> Sample:
    """A random crop, zoom and flip of a sample, at the network's size: what a teacher sees.

    Args:
        sample: a picture of any size.
        height, width: of the view, pixels.
        options: the range of zooms, and the probability of a flip.
        rng: decides.
        frame: (height, width) that the zoom is relative to; default: the view's own.

    Returns:
        A sample of (height, width) with the modalities of the original.
    """
    rows, columns = sample.size
    frame_height, frame_width = frame or (height, width)
    scale = min(frame_height / rows, frame_width / columns) * math.exp(
        rng.uniform(math.log(options.zoom_min), math.log(options.zoom_max))
    )
    slack_x, slack_y = columns * scale - width, rows * scale - height
    left = rng.uniform(min(0.0, slack_x), max(0.0, slack_x))
    top = rng.uniform(min(0.0, slack_y), max(0.0, slack_y))
    view = resize_sample(sample, height, width, left, top, scale)
    return _flip(view, width) if rng.random() < options.flip else view


def shrink(view: Sample, factor: int) -> Sample:
    """The view at a ``factor``-th of its resolution, boxes too."""
    if factor == 1:
        return view
    height, width = view.size
    small = (width // factor, height // factor)
    rgb, thermal = (
        None if image is None else np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
        for image in (view.rgb, view.thermal)
    )
    return replace(view, rgb=rgb, thermal=thermal, boxes=view.boxes / np.float32(factor))


def disturb(view: Sample, options: AugmentOptions, rng: np.random.Generator) -> Sample:
    """The same view with pictures that are harder to read: tone, darkness, blur, noise, a thermal picture that is off
    by some pixels, or one modality less. The boxes stay.

    Returns:
        A sample with at least one modality.
    """
    rgb, thermal = view.rgb, view.thermal
    if rgb is not None and thermal is not None:
        drop = rng.random()
        if drop < options.drop_rgb:
            rgb = None
        elif drop < options.drop_rgb + options.drop_thermal:
            thermal = None
    if thermal is not None:
        thermal = _photometric_thermal(np.ascontiguousarray(thermal), options, rng)
        if rgb is not None and (options.thermal_shift > 0 or options.thermal_scale > 0):
            thermal = _misregister(thermal, options.thermal_shift, options.thermal_scale, rng)
    if rgb is not None:
        rgb = _photometric_rgb(np.ascontiguousarray(rgb), options, rng)
    return replace(view, rgb=rgb, thermal=thermal)


def augment(sample: Sample, height: int, width: int, options: AugmentOptions, rng: np.random.Generator) -> Sample:
    """:func:`random_view`, then :func:`disturb`."""
    return disturb(random_view(sample, height, width, options, rng), options, rng)
