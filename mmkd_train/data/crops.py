"""Aligned RGB + thermal crops of single objects in a tar file, read one by one at their own size.

In: `CLASS/DAY_OR_NIGHT/FRAME_OBJECT_{rgb,thermal}.jpg`. Out: an :class:`ObjectCrop` per pair; nothing
is unpacked.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class ObjectCrop:
    """One object, cut out along its box.

    Attributes:
        rgb: (H, W, 3) uint8 RGB.
        thermal: (H, W) uint8.
        name: of its class.
        night: whether it was taken at night.
        frame: number of the frame that it was cut from.
    """

    rgb: NDArray[np.uint8]
    thermal: NDArray[np.uint8]
    name: str
    night: bool
    frame: int


def read_object_crops(archive: Path) -> Iterator[ObjectCrop]:
    """The crops in the order in which their second halves are stored; pictures of another name are passed over.

    Raises:
        UserError: no such file, not a tar file, an unreadable picture, halves of two sizes, or no pair at all.
    """
    halves: dict[str, NDArray[np.uint8]] = {}
    found = False
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                stem, _, kind = Path(member.name).stem.rpartition("_")
                if not member.isfile() or kind not in ("rgb", "thermal"):
                    continue
                stream = tar.extractfile(member)
                flag = cv2.IMREAD_COLOR_RGB if kind == "rgb" else cv2.IMREAD_GRAYSCALE
                decoded = cv2.imdecode(np.frombuffer(stream.read() if stream else b"", np.uint8), flag)
                if decoded is None:
                    raise UserError(f"{archive}: {member.name} is not a readable picture.")
                picture = np.asarray(decoded, np.uint8)
                key = f"{Path(member.name).parent}/{stem}"
                other = halves.pop(key, None)
                if other is None:
                    halves[key] = picture
                    continue
                rgb, thermal = (picture, other) if kind == "rgb" else (other, picture)
                if rgb.shape[:2] != thermal.shape:
                    raise UserError(f"{archive}: the two pictures of {key} differ in size.")
                found = True
                name, time = Path(member.name).parts[-3:-1]
                yield ObjectCrop(rgb, thermal, name, time == "night", int(stem.split("_")[0]))
    except (OSError, tarfile.TarError, ValueError, cv2.error) as error:
        raise UserError(f"Cannot read the crops in {archive}: {error}.") from error
    if not found:
        raise UserError(f"{archive} holds no pair of CLASS/TIME/FRAME_OBJECT_rgb.jpg and _thermal.jpg.")
