"""The three things that flow through the package: ``ImagePair`` -> ``Detections`` -> ``Tracks``.

All are frozen dataclasses of arrays. Pixel boxes are ``xyxy`` float32 in the RGB image (in the thermal image when a
pair has no RGB), times are header stamps in seconds as float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Modality = Literal["both", "rgb", "thermal"]


@dataclass(frozen=True, slots=True, eq=False)
class ImagePair:
    """An RGB and a thermal image of one instant; either may be missing, not both.

    Attributes:
        rgb: (H, W, 3) uint8 in R, G, B order (may be a strided view), or None when the camera is silent.
        thermal: (H, W) uint8 or uint16 intensity, or None. Its size may differ from that of ``rgb``; both see the same
            field of view.
        stamp: seconds, of the RGB image (of the thermal image when ``rgb`` is None).

    Raises:
        ValueError: no image at all, or an image of another shape or dtype.
    """

    rgb: NDArray[np.uint8] | None
    thermal: NDArray[np.uint8] | NDArray[np.uint16] | None
    stamp: float

    def __post_init__(self) -> None:
        if self.rgb is None and self.thermal is None:
            raise ValueError("An ImagePair needs at least one image; both are None.")
        if self.rgb is not None and (self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8):
            raise ValueError(f"rgb must be (H, W, 3) uint8, got {self.rgb.shape} {self.rgb.dtype}; convert it first.")
        if self.thermal is not None and (self.thermal.ndim != 2 or self.thermal.dtype not in (np.uint8, np.uint16)):
            raise ValueError(
                f"thermal must be (H, W) uint8 or uint16, got {self.thermal.shape} "
                f"{self.thermal.dtype}; convert it first."
            )
        for name, image in (("rgb", self.rgb), ("thermal", self.thermal)):
            if image is not None and 0 in image.shape:
                raise ValueError(f"{name} has no pixels (shape {image.shape}); drop empty images before pairing.")

    @property
    def modality(self) -> Modality:
        """Which of the two images is present."""
        if self.rgb is None:
            return "thermal"
        return "rgb" if self.thermal is None else "both"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the image whose frame the boxes are in."""
        image = self.rgb if self.rgb is not None else self.thermal
        if image is None:  # cannot happen after __post_init__; tells the type checker so
            raise ValueError("An ImagePair needs at least one image.")
        return int(image.shape[0]), int(image.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What the detector found in one pair.

    Attributes:
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels, clipped to the image.
        scores: (N,) float32 in 0..1, descending.
        labels: (N,) int64, index into ``class_names``.
        class_names: names of the C foreground classes.
        stamp: seconds, that of the pair.
        modality: which images were used.

    Raises:
        ValueError: arrays of unequal length.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    stamp: float = 0.0
    modality: Modality = "both"

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes.shape != (n, 4) or self.labels.shape != (n,):
            raise ValueError(
                f"boxes {self.boxes.shape}, scores {self.scores.shape} and labels {self.labels.shape} "
                "must describe the same objects."
            )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls, class_names: tuple[str, ...], stamp: float = 0.0, modality: Modality = "both") -> Detections:
        """No object: what an empty street gives."""
        return cls(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), class_names, stamp, modality
        )


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Objects with an identity, at one instant.

    Attributes:
        ids: (N,) int64, positive, never used twice by one tracker.
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels: the filtered state, not the raw detection.
        velocities: (N, 2) float32, pixels per second of the box centre.
        labels: (N,) int64, index into ``class_names``.
        scores: (N,) float32, score of the last matched detection.
        ages: (N,) float64, seconds since birth.
        missed: (N,) float64, seconds since the last matched detection (0 = seen in this frame).
        class_names: names of the classes.
        stamp: seconds.

    Raises:
        ValueError: arrays of unequal length.
    """

    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    velocities: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    ages: NDArray[np.float64]
    missed: NDArray[np.float64]
    class_names: tuple[str, ...] = field(default=())
    stamp: float = 0.0

    def __post_init__(self) -> None:
        n = len(self.ids)
        shapes = (
            self.boxes.shape,
            self.velocities.shape,
            self.labels.shape,
            self.scores.shape,
            self.ages.shape,
            self.missed.shape,
        )
        if shapes != ((n, 4), (n, 2), (n,), (n,), (n,), (n,)):
            raise ValueError(f"A Tracks of {n} ids needs arrays of the same length, got {shapes}.")

    def __len__(self) -> int:
        return len(self.ids)
