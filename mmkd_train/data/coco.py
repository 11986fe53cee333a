"""A COCO-format set of RGB-thermal pairs -> Samples. Every flaw of an annotation is refused by name or counted.

An image entry has ``file_name`` (RGB), ``thermal_file_name``, ``width``, ``height`` and, optionally, ``night`` and
``source``; one of the two names may be null (that modality is missing). Names are relative to the root, or to
``pairs/rgb`` and ``pairs/thermal``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_ros.imaging import thermal_to_uint8
from mmkd_ros.types import ImagePair
from mmkd_train.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One training or test picture.

    Attributes:
        rgb: (H, W, 3) uint8 RGB, or None.
        thermal: (H, W) uint8 of the same size, or None.
        boxes: (N, 4) float32 xyxy pixels.
        labels: (N,) int64, index into the detector's classes.
        ignore: (N,) bool, regions where neither a hit nor a miss counts.
        labelled: (C,) bool, the classes that were annotated in this picture; the others are unknown, not absent.
    """

    rgb: NDArray[np.uint8] | None
    thermal: NDArray[np.uint8] | None
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    labelled: NDArray[np.bool_]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        image = self.rgb if self.rgb is not None else self.thermal
        if image is None:
            raise ValueError("A Sample needs at least one image.")
        return int(image.shape[0]), int(image.shape[1])


# Known sources that label only some classes: what is answered for the others is neither right nor wrong there.
PARTIAL_SOURCES: Mapping[str, Sequence[str]] = {"llvip": ("person",), "kaist": ("person",)}


@dataclass(frozen=True, slots=True)
class LabelRules:
    """How a set's categories become the detector's classes.

    Attributes:
        class_names: the detector's.
        merge: set's name -> detector's name, for categories that a class swallows.
        partial: source -> the only classes that are labelled in its pictures.
    """

    class_names: tuple[str, ...]
    merge: Mapping[str, str] = field(default_factory=dict)
    partial: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in [*self.merge.values(), *(name for names in self.partial.values() for name in names)]:
            if name not in self.class_names:
                raise ValueError(f"class '{name}' in the label rules is not one of {', '.join(self.class_names)}.")

    @classmethod
    def for_classes(
        cls,
        class_names: tuple[str, ...],
        merge: Mapping[str, str] | None = None,
        partial: Mapping[str, Sequence[str]] = PARTIAL_SOURCES,
    ) -> LabelRules:
        """The rules as far as a detector has the classes; what names others is left out."""
        fitting = {
            name: into for name, into in (merge or {}).items() if into in class_names and name not in class_names
        }
        known = {source: tuple(names) for source, names in partial.items() if set(names) <= set(class_names)}
        return cls(class_names, fitting, known)


def read_pictures(
    rgb_path: Path | None, thermal_path: Path | None
) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Decode a pair; 16-bit thermal is scaled to 8 bit as the node does.

    Returns:
        (H, W, 3) uint8 RGB and (H, W) uint8 thermal, None for None.

    Raises:
        UserError: a file that cannot be decoded, pixels of another type, or two sizes.
    """
    rgb = thermal = None
    if rgb_path is not None:
        picture = cv2.imread(str(rgb_path), cv2.IMREAD_COLOR)
        if picture is None:
            raise UserError(f"{rgb_path} cannot be decoded; restore the file.")
        rgb = np.ascontiguousarray(picture[..., ::-1], np.uint8)
    if thermal_path is not None:
        picture = cv2.imread(str(thermal_path), cv2.IMREAD_UNCHANGED)
        if picture is None:
            raise UserError(f"{thermal_path} cannot be decoded; restore the file.")
        grey = picture if picture.ndim == 2 else picture[..., 0]
        if grey.dtype not in (np.uint8, np.uint16):
            raise UserError(f"{thermal_path} has pixels of type {grey.dtype}; convert it to 8 or 16 bit.")
        thermal = thermal_to_uint8(grey)  # type: ignore[arg-type]
    if rgb is not None and thermal is not None and rgb.shape[:2] != thermal.shape:
        raise UserError(
            f"{thermal_path} is {thermal.shape[1]}x{thermal.shape[0]}, its RGB partner "
            f"{rgb.shape[1]}x{rgb.shape[0]}; "
            "training pairs must be registered to one size."
        )
    return rgb, thermal


class CocoPairs:
    """Random access to the samples of one annotation file.

    Args:
        annotations: the JSON file.
        root: folder that the file names are relative to.
        rules: categories to classes.
        cache_bytes: decoded pictures are kept in memory up to so many bytes (a pair of 640x512 has 1.3 MB); those
            beyond are decoded again each time.

    Attributes:
        images: the image entries, in the file's order.
        flaws: what was left out and how often, e.g. {"zero-area box": 3}.

    Raises:
        UserError: unreadable file, no image, a missing picture, an id that fits no image.
    """

    def __init__(self, annotations: Path, root: Path, rules: LabelRules, cache_bytes: int = 0) -> None:
        try:
            content: dict[str, Any] = json.loads(annotations.read_text())
            self.images: list[dict[str, Any]] = content["images"]
            categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
            boxes = content["annotations"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{annotations} is not a COCO annotation file ({error!r}); it needs images, categories, annotations."
            ) from error
        if not self.images:
            raise UserError(f"{annotations} lists no image; nothing to do.")
        self.rules = rules
        self.flaws: Counter[str] = Counter()
        self._cache_left = cache_bytes
        self._cache: dict[int, tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]] = {}
        self._paths = [
            (
                self._find(entry, "file_name", root, "pairs/rgb"),
                self._find(entry, "thermal_file_name", root, "pairs/thermal"),
            )
            for entry in self.images
        ]
        self._boxes = self._parse_boxes(annotations, boxes, categories)

    @staticmethod
    def _find(entry: dict[str, Any], key: str, root: Path, folder: str) -> Path | None:
        name = entry.get(key, entry.get("file_name") if key == "thermal_file_name" else None)
        if name is None:
            return None
        for path in (root / name, root / folder / name):
            if path.is_file():
                # An entry without thermal_file_name uses the RGB's name in the thermal folder, never the RGB picture
                # itself.
                if key in entry or path.parent == root / folder or (root / folder) in path.parents:
                    return path
        raise UserError(
            f"{key} '{name}' (image id {entry.get('id')}) is neither under {root} nor under "
            f"{root / folder}; check --root."
        )

    def _parse_boxes(
        self, source: Path, annotations: list[dict[str, Any]], categories: dict[int, str]
    ) -> list[list[tuple[NDArray[np.float32], int, bool]]]:
        index = {entry["id"]: position for position, entry in enumerate(self.images)}
        parsed: list[list[tuple[NDArray[np.float32], int, bool]]] = [[] for _ in self.images]
        for annotation in annotations:
            if annotation["image_id"] not in index:
                raise UserError(
                    f"{source}: annotation {annotation.get('id')} belongs to image "
                    f"{annotation['image_id']}, which is not listed."
                )
            entry = self.images[index[annotation["image_id"]]]
            if annotation["category_id"] not in categories:
                self.flaws["unknown category"] += 1
                continue
            name = categories[annotation["category_id"]]
            name = self.rules.merge.get(name, name)
            if name not in self.rules.class_names:
                self.flaws[f"category '{name}' left out"] += 1
                continue
            x, y, width, height = (float(value) for value in annotation["bbox"])
            box = np.array([x, y, x + width, y + height], np.float32)
            if not np.isfinite(box).all():
                self.flaws["box with NaN or infinity"] += 1
                continue
            if "width" not in entry or "height" not in entry:
                raise UserError(f"{source}: image {entry['id']} has boxes but no width and height; add them.")
            clipped = np.clip(box, 0, np.array([entry["width"], entry["height"]] * 2, np.float32))
            if clipped[2] - clipped[0] < 1 or clipped[3] - clipped[1] < 1:
                self.flaws["box of zero area or outside the image"] += 1
                continue
            ignore = bool(annotation.get("iscrowd", 0))
            parsed[index[annotation["image_id"]]].append((clipped, self.rules.class_names.index(name), ignore))
        return parsed

    def __len__(self) -> int:
        return len(self.images)

    def _read(self, position: int) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
        if position in self._cache:
            return self._cache[position]
        pictures = read_pictures(*self._paths[position])
        size = sum(picture.nbytes for picture in pictures if picture is not None)
        if size <= self._cache_left:
            self._cache[position] = pictures
            self._cache_left -= size
        return pictures

    def __getitem__(self, position: int) -> Sample:
        """The sample at ``position``; see :class:`Sample`."""
        rgb, thermal = self._read(position)
        return replace(self.labels(position), rgb=rgb, thermal=thermal)

    def labels(self, position: int) -> Sample:
        """The sample without its pictures, which are not read."""
        entries = self._boxes[position]
        names = self.rules.partial.get(str(self.images[position].get("source", "")), self.rules.class_names)
        return Sample(
            None,
            None,
            np.array([box for box, _, _ in entries], np.float32).reshape(-1, 4),
            np.array([label for _, label, _ in entries], np.int64),
            np.array([ignore for _, _, ignore in entries], bool),
            np.array([name in names for name in self.rules.class_names], bool),
        )

    def pair(self, position: int) -> ImagePair:
        """The pictures of a sample as the robot would see them; the stamp is the position."""
        rgb, thermal = self._read(position)
        return ImagePair(rgb, thermal, float(position))


class UnlabelledPairs:
    """Pairs without boxes, for which a teacher's answers are the only label. They are kept in memory once read.

    Args:
        folders: each holds ``rgb/`` and ``thermal/`` with equal file names.
        rules: the detector's classes; none counts as labelled.

    Raises:
        UserError: a folder without a pair.
    """

    def __init__(self, folders: Sequence[Path], rules: LabelRules) -> None:
        self._paths: list[tuple[Path, Path]] = []
        for folder in folders:
            thermal = {path.stem: path for path in sorted((folder / "thermal").glob("*.*"))}
            found = [
                (path, thermal[path.stem]) for path in sorted((folder / "rgb").glob("*.*")) if path.stem in thermal
            ]
            if not found:
                raise UserError(f"{folder} holds no pair: it needs rgb/ and thermal/ with equal file names.")
            self._paths += found
        self._classes = len(rules.class_names)
        self._cache: dict[int, Sample] = {}
        if not self._paths:
            raise UserError("data.unlabelled names no folder; list some, or set data.unlabelled_per_batch to 0.")

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: int) -> Sample:
        """The sample at ``position``, without boxes."""
        if position not in self._cache:
            rgb, thermal = read_pictures(*self._paths[position])
            none = np.zeros(0, np.int64)
            self._cache[position] = Sample(
                rgb, thermal, np.zeros((0, 4), np.float32), none, none.astype(bool), np.zeros(self._classes, bool)
            )
        return self._cache[position]
