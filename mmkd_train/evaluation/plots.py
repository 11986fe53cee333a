"""Precision-recall curves and confusion matrices as pictures, one panel per modality. OpenCV draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]  # blue, green, red

# Okabe and Ito's colours, which stay apart for colour-blind eyes.
_PALETTE: tuple[Colour, ...] = (
    (178, 114, 0),
    (0, 94, 213),
    (115, 158, 0),
    (167, 121, 204),
    (0, 159, 230),
    (233, 180, 86),
)
_INK: Colour = (40, 40, 40)
_GRID: Colour = (225, 225, 225)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FINE = 2  # drawn so many times larger and scaled down: smoother letters
_SIDE = 400  # of a plot's square, pixels
_MARGIN = 64


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One class in a precision-recall plot.

    Attributes:
        name: of the class.
        precision, recall: (M,) by descending score.
        mAP50: area under the interpolated curve.
        point: (precision, recall) at the threshold, or None.
    """

    name: str
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    mAP50: float
    point: tuple[float, float] | None


class _Canvas:
    """A white picture that takes coordinates in final pixels."""

    def __init__(self, width: int, height: int) -> None:
        self._image = np.full((height * _FINE, width * _FINE, 3), 255, np.uint8)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: float = 1.0) -> None:
        fixed = np.round(np.array(points) * _FINE * 16).astype(np.int32)
        cv2.polylines(self._image, [fixed], False, colour, max(1, round(width * _FINE)), cv2.LINE_AA, 4)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        corners = [round(value * _FINE) for value in (left, top, right, bottom)]
        cv2.rectangle(self._image, corners[:2], corners[2:], colour, cv2.FILLED)

    def dot(self, x: float, y: float, colour: Colour) -> None:
        centre = (round(x * _FINE), round(y * _FINE))
        cv2.circle(self._image, centre, 6 * _FINE, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(self._image, centre, 5 * _FINE, colour, cv2.FILLED, cv2.LINE_AA)

    def text(
        self, text: str, x: float, y: float, align: float = 0.0, size: float = 0.45, colour: Colour = _INK
    ) -> None:
        """Centre of the letters' height at ``y``; ``align`` 0, 0.5, 1 = ``x`` is the left end, the middle, the right
        end."""
        (width, height), _ = cv2.getTextSize(text, _FONT, size * _FINE, _FINE)
        corner = (round(x * _FINE - align * width), round(y * _FINE + height / 2))
        cv2.putText(self._image, text, corner, _FONT, size * _FINE, colour, _FINE, cv2.LINE_AA)

    def finish(self) -> Picture:
        height, width = (side // _FINE for side in self._image.shape[:2])
        return np.asarray(cv2.resize(self._image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def precision_recall_plot(panels: Mapping[str, Sequence[Curve]], threshold: float) -> Picture:
    """(H, W, 3) uint8: a panel per modality, a curve per class, a dot at the threshold, a legend below."""
    rows = max(len(curves) for curves in panels.values())
    height = _MARGIN + _SIDE + _MARGIN + 22 * (rows + 1)
    canvas = _Canvas(len(panels) * (_SIDE + _MARGIN) + _MARGIN // 2, height)
    for number, (title, curves) in enumerate(panels.items()):
        left, top = _MARGIN + number * (_SIDE + _MARGIN), _MARGIN
        canvas.text(f"{title}: IoU 0.5, dots at score {threshold:g}", left + _SIDE / 2, top / 2, 0.5, 0.55)
        for tick in np.linspace(0.0, 1.0, 6):
            x, y = left + tick * _SIDE, top + (1.0 - tick) * _SIDE
            canvas.line([(x, top), (x, top + _SIDE)], _GRID)
            canvas.line([(left, y), (left + _SIDE, y)], _GRID)
            canvas.text(f"{tick:.1f}", x, top + _SIDE + 14, 0.5)
            canvas.text(f"{tick:.1f}", left - 8, y, 1.0)
        frame = [(0, 0), (0, 1), (1, 1), (1, 0), (0, 0)]
        canvas.line([(left + x * _SIDE, top + y * _SIDE) for x, y in frame], _INK)
        canvas.text("recall", left + _SIDE / 2, top + _SIDE + 34, 0.5)
        canvas.text("precision", left, top - 12)
        for index, curve in enumerate(curves):
            colour = _PALETTE[index % len(_PALETTE)]
            points = [
                (left + r * _SIDE, top + (1.0 - p) * _SIDE) for p, r in zip(curve.precision, curve.recall, strict=True)
            ]
            if points:
                canvas.line(points, colour, 2)
            line = top + _SIDE + _MARGIN + 22 * index
            canvas.line([(left, line), (left + 28, line)], colour, 3)
            legend = f"{curve.name}: mAP50 {curve.mAP50:.3f}"
            if curve.point is not None:
                precision, recall = curve.point
                canvas.dot(left + recall * _SIDE, top + (1.0 - precision) * _SIDE, colour)
                legend += f", precision {precision:.2f}, recall {recall:.2f}"
            canvas.text(legend, left + 38, line)
    return canvas.finish()


def confusion_plot(panels: Mapping[str, NDArray[np.int64]], class_names: Sequence[str], threshold: float) -> Picture:
    """(H, W, 3) uint8: a panel per modality; the shade is the share of the row, the number the count."""
    columns, rows = [*class_names, "missed"], [*class_names, "false"]
    cell, gutter = 84, 96
    width = len(panels) * (gutter + cell * len(columns)) + _MARGIN // 2
    canvas = _Canvas(width, 2 * _MARGIN + cell * len(rows))
    for number, (title, matrix) in enumerate(panels.items()):
        left, top = gutter + number * (gutter + cell * len(columns)), 2 * _MARGIN - 24
        middle = left + cell * len(columns) / 2
        canvas.text(f"{title}: score > {threshold:g}, IoU 0.5", middle, 24, 0.5, 0.55)
        canvas.text("the answer says", middle, 54, 0.5)
        canvas.text("the box is", left - 10, top - 22, 1.0)
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        for i, row in enumerate(rows):
            canvas.text(_short(row), left - 10, top + (i + 0.5) * cell, 1.0)
            for j, column in enumerate(columns):
                x, y = left + j * cell, top + i * cell
                if i == 0:
                    canvas.text(_short(column), x + cell / 2, top - 22, 0.5)
                if i == j == len(class_names):  # what is neither a box nor an answer has no number
                    canvas.box(x, y, x + cell - 2, y + cell - 2, _GRID)
                    continue
                strength = float(share[i, j])
                right = i == j
                dark = np.array(_PALETTE[0] if right else _PALETTE[1])
                shade = np.round(255 - strength * (255 - dark)).astype(int)
                canvas.box(x, y, x + cell - 2, y + cell - 2, (int(shade[0]), int(shade[1]), int(shade[2])))
                ink = (255, 255, 255) if strength > 0.6 else _INK
                of_a_box = i < len(class_names)
                canvas.text(str(matrix[i, j]), x + cell / 2, y + cell / 2 - (9 if of_a_box else 0), 0.5, 0.6, ink)
                if of_a_box:
                    canvas.text(f"{strength:.0%}", x + cell / 2, y + cell / 2 + 16, 0.5, 0.4, ink)
    return canvas.finish()


def _short(name: str) -> str:
    return name if len(name) <= 10 else name[:9] + "."
