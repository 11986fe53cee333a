"""The pictures with the most errors, RGB beside thermal, with boxes and answers drawn in."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_ros.drawing import contact_sheet
from mmkd_ros.types import Detections
from mmkd_train.data.coco import CocoPairs, Sample
from mmkd_train.evaluation.matching import Matching, classes_with_boxes, match
from mmkd_train.evaluation.running import picture_name

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]  # blue, green, red

_PANE = (560, 448)  # width, height in pixels
_CAPTION = 28
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DARK: Colour = (24, 22, 20)
_TEXT: Colour = (225, 225, 225)
_BOX: Colour = (60, 200, 60)
_RIGHT: Colour = (240, 200, 60)
_FALSE: Colour = (60, 60, 255)
_MISSED: Colour = (0, 150, 255)
_IGNORED: Colour = (150, 150, 150)
_LEGEND = (
    ("box, found", _BOX),
    ("right answer", _RIGHT),
    ("false answer", _FALSE),
    ("box, missed", _MISSED),
    ("ignored", _IGNORED),
)


def worst_positions(
    dataset: CocoPairs, results: dict[int, Detections], threshold: float, count: int = 20
) -> list[tuple[int, Matching]]:
    """The positions with the most false answers and missed boxes, most first; none without an error."""
    classes = classes_with_boxes(dataset)
    matchings = [
        (position, match(dataset.labels(position), found, threshold, classes, by_class=True))
        for position, found in results.items()
    ]
    wrong = [(position, matching) for position, matching in matchings if matching.errors]
    return sorted(wrong, key=lambda entry: -entry[1].errors)[:count]


def worst_sheet(dataset: CocoPairs, results: dict[int, Detections], threshold: float, title: str) -> Picture | None:
    """(H, W, 3) uint8, blue first; None when there is no error to show."""
    worst = worst_positions(dataset, results, threshold)
    if not worst:
        return None
    sheet = contact_sheet([_tile(dataset, position, results[position], matching) for position, matching in worst])
    head = np.full((44, sheet.shape[1], 3), _DARK, np.uint8)
    cv2.putText(head, title, (12, 29), _FONT, 0.6, _TEXT, 1, cv2.LINE_AA)
    x = 44 + cv2.getTextSize(title, _FONT, 0.6, 1)[0][0]
    for name, colour in _LEGEND:
        cv2.rectangle(head, (x, 15), (x + 22, 30), colour, 2)
        cv2.putText(head, name, (x + 30, 29), _FONT, 0.55, _TEXT, 1, cv2.LINE_AA)
        x += 54 + cv2.getTextSize(name, _FONT, 0.55, 1)[0][0]
    return np.vstack([head, sheet])


def _tile(dataset: CocoPairs, position: int, found: Detections, matching: Matching) -> Picture:
    """Caption, RGB pane, thermal pane."""
    sample = dataset[position]
    grey = None if sample.thermal is None else np.repeat(sample.thermal[..., None], 3, axis=2)
    colour = None if sample.rgb is None else np.ascontiguousarray(sample.rgb[..., ::-1])
    panes = [_pane(image, sample, found, matching) for image in (colour, grey)]
    body = np.hstack([panes[0], np.full((_PANE[1], 4, 3), _DARK, np.uint8), panes[1]])
    strip = np.full((_CAPTION, body.shape[1], 3), _DARK, np.uint8)
    counts = f"{int(matching.false.sum())} false, {int(matching.missed.sum())} missed, "
    counts += f"{int((matching.box_of >= 0).sum())} right"
    cv2.putText(strip, picture_name(dataset.images[position]), (4, 20), _FONT, 0.5, _TEXT, 1, cv2.LINE_AA)
    width = cv2.getTextSize(counts, _FONT, 0.5, 1)[0][0]
    cv2.putText(strip, counts, (body.shape[1] - width - 6, 20), _FONT, 0.5, _TEXT, 1, cv2.LINE_AA)
    return np.vstack([strip, body])


def _pane(image: Picture | None, sample: Sample, found: Detections, matching: Matching) -> Picture:
    """One camera's picture in the middle of a pane of fixed size, with all boxes; a dark one for a missing camera."""
    pane = np.full((_PANE[1], _PANE[0], 3), _DARK, np.uint8)
    if image is None:
        cv2.putText(pane, "no picture", (_PANE[0] // 2 - 44, _PANE[1] // 2), _FONT, 0.5, _IGNORED, 1, cv2.LINE_AA)
        return pane
    height, width = image.shape[:2]
    scale = min(_PANE[0] / width, _PANE[1] / height)
    size = (round(width * scale), round(height * scale))
    left, top = (_PANE[0] - size[0]) // 2, (_PANE[1] - size[1]) // 2
    pane[top : top + size[1], left : left + size[0]] = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    taken: list[tuple[int, int, int, int]] = []
    for box, colour, text in _drawn(sample, found, matching):
        x1, y1, x2, y2 = (round(float(value)) for value in box * scale + (left, top, left, top))
        cv2.rectangle(pane, (x1, y1), (x2, y2), colour, 1, cv2.LINE_AA)
        if text:
            _label(pane, (x1, y1), text, colour, taken)
    return pane


def _drawn(sample: Sample, found: Detections, matching: Matching) -> Iterator[tuple[NDArray[np.float32], Colour, str]]:
    """(box in pixels of the picture, colour, label) from the least to the most telling."""
    names = found.class_names
    for box, ignore, missed in zip(sample.boxes, sample.ignore, matching.missed, strict=True):
        if not missed:
            yield box, _IGNORED if ignore else _BOX, ""
    for box in found.boxes[matching.box_of >= 0]:
        yield box, _RIGHT, ""
    for box, label in zip(sample.boxes[matching.missed], sample.labels[matching.missed], strict=True):
        yield box, _MISSED, names[label]
    for answer in np.flatnonzero(matching.false):
        yield found.boxes[answer], _FALSE, f"{names[found.labels[answer]]} {found.scores[answer]:.2f}"


def _label(
    pane: Picture, corner: tuple[int, int], text: str, colour: Colour, taken: list[tuple[int, int, int, int]]
) -> None:
    """Write above a box's top left corner, or not at all where another label stands: on top of each other they say
    nothing."""
    (width, height), _ = cv2.getTextSize(text, _FONT, 0.36, 1)
    left = max(0, min(corner[0], pane.shape[1] - width - 4))
    top = max(0, corner[1] - height - 5)
    right, bottom = left + width + 3, top + height + 4
    if any(left < r and x < right and top < b and y < bottom for x, y, r, b in taken):
        return
    taken.append((left, top, right, bottom))
    cv2.rectangle(pane, (left, top), (right, bottom), _DARK, cv2.FILLED)
    cv2.putText(pane, text, (left + 2, bottom - 2), _FONT, 0.36, colour, 1, cv2.LINE_AA)
