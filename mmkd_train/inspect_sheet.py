"""The contact sheet of ``inspect``: per pair RGB, thermal and both pictures' edges, with the boxes on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.coco import Sample

Picture = NDArray[np.uint8]
"""(H, W, 3) uint8, blue first."""
_CELL = (256, 320)  # height, width of one picture
_CAPTION = 20
_GAP = 4
_PER_ROW = 2  # pairs side by side
_BACKGROUND = (24, 22, 20)
_TEXT = (225, 225, 225)
_IGNORED = (150, 150, 150)
# Blue, green, red; one per class, apart from the red and cyan of the edges.
_COLOURS = ((80, 220, 255), (96, 230, 96), (255, 128, 210), (72, 144, 255), (255, 144, 96), (64, 255, 190))
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One row of three pictures.

    Attributes:
        sample: pictures and boxes.
        caption: one line.
    """

    sample: Sample
    caption: str


def _shrunk(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The picture inside one cell, and its scale."""
    scale = min(_CELL[0] / image.shape[0], _CELL[1] / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _edges(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Edge strength, scaled so that the strongest 4 % are full and faint noise stays dark."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 0.8)
    strength = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return (strength * (255.0 / max(float(np.percentile(strength, 96)), 40.0))).clip(0, 255).astype(np.uint8)


def edge_overlay(rgb: NDArray[np.uint8] | None, thermal: NDArray[np.uint8] | None) -> Picture:
    """Edges of RGB in red and of thermal in cyan: white where they coincide, two coloured lines where they do not.

    Args:
        rgb: (H, W, 3) uint8, red first, or None.
        thermal: (H, W) uint8 of the same size, or None; not both None.
    """
    red = None if rgb is None else _edges(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8))
    cyan = None if thermal is None else _edges(thermal)
    some = red if red is not None else cyan
    if some is None:
        raise ValueError("An overlay needs at least one picture.")
    nothing = np.zeros_like(some)
    red, cyan = nothing if red is None else red, nothing if cyan is None else cyan
    return np.stack([cyan, cyan, red], axis=-1)


def _boxed(picture: Picture, sample: Sample, scale: float) -> Picture:
    """The picture with the sample's boxes, padded to a cell's width."""
    cell = np.full((picture.shape[0], _CELL[1], 3), _BACKGROUND, np.uint8)
    cell[:, : picture.shape[1]] = picture
    for box, label, ignore in zip(sample.boxes * scale, sample.labels, sample.ignore, strict=True):
        x1, y1, x2, y2 = (round(float(value)) for value in box)
        colour = _IGNORED if ignore else _COLOURS[int(label) % len(_COLOURS)]
        cv2.rectangle(cell, (x1, y1), (x2, y2), colour, 1)
    return cell


def _row(entry: Entry) -> Picture:
    """Three cells under a caption; a modality that is missing is black."""
    sample = entry.sample
    rgb, scale = (None, 1.0) if sample.rgb is None else _shrunk(sample.rgb)
    thermal, scale = (None, scale) if sample.thermal is None else _shrunk(sample.thermal)
    edges = edge_overlay(rgb, thermal)
    pictures = [
        np.zeros_like(edges) if rgb is None else np.ascontiguousarray(rgb[..., ::-1]),
        np.zeros_like(edges) if thermal is None else np.repeat(thermal[..., None], 3, axis=-1),
        edges,
    ]
    gap = np.full((edges.shape[0], _GAP, 3), _BACKGROUND, np.uint8)
    cells = [part for picture in pictures for part in (_boxed(picture, sample, scale), gap)]
    row = np.hstack(cells[:-1])
    caption = np.full((_CAPTION, row.shape[1], 3), _BACKGROUND, np.uint8)
    cv2.putText(caption, entry.caption, (2, 14), _FONT, 0.42, _TEXT, 1, cv2.LINE_AA)
    return np.vstack([caption, row])


def _legend(width: int, class_names: Sequence[str]) -> Picture:
    strip = np.full((30, width, 3), _BACKGROUND, np.uint8)
    x = 4
    named = [*zip(class_names, _COLOURS, strict=False), ("ignored", _IGNORED)]
    edges = [("edges: RGB red", (80, 80, 255)), ("thermal cyan", (255, 255, 0)), ("both white", (255, 255, 255))]
    for name, colour in [*named, *edges]:
        cv2.putText(strip, name, (x, 20), _FONT, 0.5, colour, 1, cv2.LINE_AA)
        x += cv2.getTextSize(name, _FONT, 0.5, 1)[0][0] + 18
    return strip


def draw_sheet(entries: Sequence[Entry], class_names: Sequence[str]) -> Picture:
    """All entries, two side by side, under a legend.

    Args:
        entries: at least one.
        class_names: names of the labels, for the legend.
    """
    rows = [_row(entry) for entry in entries]
    columns = min(_PER_ROW, len(rows))
    width = columns * (rows[0].shape[1] + 3 * _GAP) - 3 * _GAP
    lines = [_legend(width, class_names)]
    for first in range(0, len(rows), columns):
        side_by_side = rows[first : first + columns]
        line = np.full((max(row.shape[0] for row in side_by_side) + _GAP, width, 3), _BACKGROUND, np.uint8)
        for k, row in enumerate(side_by_side):
            left = k * (row.shape[1] + 3 * _GAP)
            line[: row.shape[0], left : left + row.shape[1]] = row
        lines.append(line)
    return np.vstack(lines)
