"""Labels beside boxes, placed so that none covers another. OpenCV only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]  # x, y, width, height

FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class Label:
    """What is written at one box.

    Attributes:
        texts: from the whole label to the shortest that will do.
        colour: blue, green, red of its ground.
        box: x1, y1, x2, y2 in pixels of the pane.
    """

    texts: tuple[str, ...]
    colour: Colour
    box: tuple[float, float, float, float]


def font_scale(rows: int) -> float:
    """OpenCV's font scale for a pane of so many rows."""
    return float(np.clip(rows / 1100, 0.34, 0.8))


def draw_labels(pane: Picture, labels: Sequence[Label]) -> None:
    """Write every label into a (H, W, 3) uint8 pane, at a place of its own; near objects choose first.

    In a crowd, where the whole label has no free place, the shorter text is written, and last of all nothing: the box
    says enough, and labels on top of each other say less.
    """
    rows, columns = pane.shape[:2]
    size = font_scale(rows)
    boxes = [(round(x1), round(y1), round(x2 - x1), round(y2 - y1)) for x1, y1, x2, y2 in (one.box for one in labels)]
    taken: list[Rectangle] = []
    for index in sorted(range(len(labels)), key=lambda i: -labels[i].box[3]):
        label, others = labels[index], boxes[:index] + boxes[index + 1 :]
        for text in dict.fromkeys(label.texts):
            (width, height), _ = cv2.getTextSize(text, FONT, size, 1)
            places = _places(boxes[index], (width + 6, height + 7), (columns, rows))
            free = [place for place in places if not any(_common_area(place, other) for other in taken)]
            if free:
                # Of equal places the first; a label may hide other boxes only where there is no way round.
                x, y, width, height = min(free, key=lambda p: sum(_common_area(p, other) for other in others))
                taken.append((x, y, width, height))
                cv2.rectangle(pane, (x, y), (x + width - 1, y + height - 1), label.colour, cv2.FILLED)
                cv2.putText(pane, text, (x + 3, y + height - 4), FONT, size, (0, 0, 0), 1, cv2.LINE_AA)
                break


def _places(box: Rectangle, label: tuple[int, int], pane: tuple[int, int]) -> list[Rectangle]:
    """Where a label may stand at its box, the best place first, all inside of the pane; sizes as (width, height)."""
    left, top, right, bottom = box[0] - 1, box[1], box[0] + box[2] + 2, box[1] + box[3]
    width, height = label
    corners = [
        (left, top - height),
        (right - width, top - height),
        (left, bottom + 1),
        (right - width, bottom + 1),
        (left, top),
        (right, top),
        (left - width, top),
    ]
    fitting = [(x, y) for x, y in corners if 0 <= x <= pane[0] - width and 0 <= y <= pane[1] - height]
    pushed = (max(0, min(left, pane[0] - width)), max(0, min(top - height, pane[1] - height)))
    return [(x, y, width, height) for x, y in [*fitting, pushed]]


def _common_area(a: Rectangle, b: Rectangle) -> int:
    """Pixels that two rectangles share."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height)
