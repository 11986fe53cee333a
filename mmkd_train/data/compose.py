"""New training pictures out of several: objects pasted into a scene, and four scenes in one frame.

In: samples with both modalities, and crops of objects. Out: a :class:`Sample` whose boxes tell of all that is in it.
All randomness comes from the generator that is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.coco import Sample
from mmkd_train.data.crops import ObjectCrop

_NIGHT_LUMINANCE = 70.0  # mean RGB value below which a picture counts as taken at night
_TRIES = 12  # places that are tried for one crop
_MAX_COVER = 0.1  # share of a box, or of the crop, that may be covered
_SCALE = 1.6  # a crop is enlarged or shrunk by at most this factor
_MIN_SIDE = 8  # pixels
_HORIZON = 0.4  # objects end below this share of the picture's height


class Paster:
    """Pastes crops of objects, and as many rectangles of bare background, into pictures.

    The background is there so that a seam alone says nothing about an object (Dwibedi et al., "Cut, Paste and Learn",
    arXiv 1708.01642, blends in several ways for the same reason).

    Args:
        crops: the objects; those of unknown classes are left out.
        class_names: the detector's.
    """

    def __init__(self, crops: Iterable[ObjectCrop], class_names: tuple[str, ...]) -> None:
        self._names = class_names
        self._crops: dict[tuple[int, bool], list[ObjectCrop]] = {}
        for crop in crops:
            if crop.name in class_names:
                self._crops.setdefault((class_names.index(crop.name), crop.night), []).append(crop)

    def __call__(self, sample: Sample, mean: float, rng: np.random.Generator) -> Sample:
        """Paste a Poisson number of objects, each of a class drawn evenly from those that are labelled in this picture
        and have crops of the same time of day.

        Args:
            sample: a picture; one with a single modality is returned as it is.
            mean: of the number of objects.
            rng: decides everything.
        """
        if sample.rgb is None or sample.thermal is None:
            return sample
        night = float(sample.rgb.mean()) < _NIGHT_LUMINANCE
        classes = [label for label, time in self._crops if time == night and sample.labelled[label]]
        count = int(rng.poisson(mean))
        if not classes or not count:
            return sample
        rgb, thermal = sample.rgb.copy(), sample.thermal.copy()
        boxes, labels = list(sample.boxes), list(sample.labels)
        for _ in range(count):
            label = classes[int(rng.integers(len(classes)))]
            crops = self._crops[label, night]
            crop = crops[int(rng.integers(len(crops)))]
            scale = math.exp(rng.uniform(-math.log(_SCALE), math.log(_SCALE)))
            width, height = (round(side * scale) for side in crop.thermal.shape[::-1])
            box = _free_place(boxes, sample.size, (height, width), rng)
            if box is None:
                continue
            flip = rng.random() < 0.5
            _blend(rgb, thermal, _resized(crop.rgb, box, flip), _resized(crop.thermal, box, flip), box, rng)
            boxes.append(box.astype(np.float32))
            labels.append(np.int64(label))
            source = _free_place(boxes, sample.size, (height, width), rng)
            target = _free_place(boxes, sample.size, (height, width), rng)
            if source is not None and target is not None:
                x1, y1, x2, y2 = source
                part = rgb[y1:y2, x1:x2].copy(), thermal[y1:y2, x1:x2].copy()
                _blend(rgb, thermal, _resized(part[0], target, flip), _resized(part[1], target, flip), target, rng)
        added = len(boxes) - len(sample.boxes)
        return replace(
            sample,
            rgb=rgb,
            thermal=thermal,
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            labels=np.array(labels, np.int64),
            ignore=np.concatenate((sample.ignore, np.zeros(added, bool))),
        )


def _free_place(
    boxes: list[NDArray[np.float32]], size: tuple[int, int], object_size: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.int64] | None:
    """A random xyxy box of ``object_size`` that hides no object and is hidden by none; None if there is none."""
    (rows, columns), (height, width) = size, object_size
    top = max(0, math.ceil(_HORIZON * rows) - height)
    if min(height, width) < _MIN_SIDE or width >= columns or top >= rows - height:
        return None
    taken = np.array(boxes, np.float32).reshape(-1, 4)
    areas = np.maximum((taken[:, 2:] - taken[:, :2]).prod(axis=1), 1.0)
    for _ in range(_TRIES):
        x, y = int(rng.integers(columns - width)), int(rng.integers(top, rows - height))
        box = np.array([x, y, x + width, y + height])
        common = np.minimum(taken[:, 2:], box[2:]) - np.maximum(taken[:, :2], box[:2])
        hidden = common.clip(0).prod(axis=1) / np.minimum(areas, height * width)
        if not (hidden > _MAX_COVER).any():
            return box
    return None


def _resized(image: NDArray[np.uint8], box: NDArray[np.int64], flip: bool) -> NDArray[np.uint8]:
    size = (int(box[2] - box[0]), int(box[3] - box[1]))
    interpolation = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
    return resized[:, ::-1] if flip else resized


def _blend(
    rgb: NDArray[np.uint8],
    thermal: NDArray[np.uint8],
    new_rgb: NDArray[np.uint8],
    new_thermal: NDArray[np.uint8],
    box: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Lay a rectangle over both pictures, its edge soft by a random width, its brightness drawn towards the place's."""
    x1, y1, x2, y2 = (int(value) for value in box)
    soft = rng.uniform(0.0, 0.12) * min(y2 - y1, x2 - x1)
    down, across = (np.minimum(np.arange(n) + 1, np.arange(n, 0, -1)) for n in (y2 - y1, x2 - x1))
    alpha = np.minimum(down[:, None], across[None, :]) / (soft + 1.0)
    alpha = alpha.clip(0.0, 1.0).astype(np.float32)
    adapt = rng.uniform(0.0, 0.8)
    for image, new in ((rgb, new_rgb), (thermal, new_thermal)):
        place = image[y1:y2, x1:x2]
        shift = adapt * (float(place.mean()) - float(new.mean()))
        weight = alpha[..., None] if image.ndim == 3 else alpha
        mixed = place + weight * ((new + np.float32(shift)).clip(0, 255) - place)
        image[y1:y2, x1:x2] = mixed.clip(0, 255).astype(np.uint8)


def mosaic(view: Callable[[int, int, int], Sample], height: int, width: int, rng: np.random.Generator) -> Sample:
    """Four views in one frame, around a random point in its middle half (Bochkovskiy et al., YOLOv4, arXiv 2004.10934).

    Args:
        view: (number 0 to 3, height, width) -> a view of that size with both modalities, in which every class counts as
            labelled.
        height, width: of the frame, pixels.
        rng: where the four meet.
    """
    row = round(height * rng.uniform(0.3, 0.7))
    column = round(width * rng.uniform(0.3, 0.7))
    rgb, thermal = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)
    parts = []
    for number, (top, left, bottom, right) in enumerate(
        ((0, 0, row, column), (0, column, row, width), (row, 0, height, column), (row, column, height, width))
    ):
        part = view(number, bottom - top, right - left)
        if part.rgb is None or part.thermal is None:
            raise ValueError("a mosaic needs views with both modalities.")
        rgb[top:bottom, left:right], thermal[top:bottom, left:right] = part.rgb, part.thermal
        parts.append(replace(part, boxes=part.boxes + np.array([left, top, left, top], np.float32)))
    return Sample(
        rgb,
        thermal,
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.ignore for part in parts]),
        parts[0].labelled,
    )
