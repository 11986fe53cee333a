"""Thumbnails of the report: each track at its best moment, cut out of the RGB and of the thermal image.

In: the bag that holds the images, and moments with their header stamps. Out: JPEG bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmkd_ros.bags import BagReader, BagTopic
from mmkd_ros.drawing import DrawnObject, class_colour, thermal_to_bgr
from mmkd_ros.drawing_labels import Picture
from mmkd_ros.replay import ReplayPlan
from mmkd_train.bag_images import TopicImages, image_stamps, nearest
from mmkd_train.report_data import Moment

SIDE = 120  # pixels of a thumbnail's side
_MARGIN = 1.35  # side of the cut-out relative to the longer side of the box
_LEAST_CUT = 32.0  # pixels: a tiny box is shown with what is around it
_QUALITY = 78
_SLOP_NS = 50_000_000  # as the nodes' default


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """JPEG files of one track, (SIDE, SIDE) pixels each; None where that camera has no image of the moment."""

    rgb: bytes | None
    thermal: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class ImageSource:
    """Where the images of a run lie.

    Attributes:
        bag: stays open while thumbnails are cut.
        topics: of RGB and thermal images.
        plan: of the replay that gave the images their stamps; None where the recorded stamps were kept.
        start_ns: when that replay began.
    """

    bag: BagReader
    topics: tuple[BagTopic, BagTopic]
    plan: ReplayPlan | None = None
    start_ns: int = 0


def cut_thumbnails(moments: Iterable[tuple[str, Moment]], source: ImageSource) -> dict[str, Thumbnails]:
    """Cut every moment out of both images. Both cameras must show the same field of view, as in ``registration.mode:
    identity``; otherwise the thermal thumbnails are beside the object.

    Args:
        moments: (key, moment).
        source: of the images.

    Returns:
        key -> thumbnails; moments without any image are left out.
    """
    rgb_at = {stamp: index for index, stamp in enumerate(_stamps(source, 0))}
    hot = sorted((stamp, index) for index, stamp in enumerate(_stamps(source, 1)))
    hot_stamps = [stamp for stamp, _ in hot]
    wanted = []
    for key, moment in moments:
        near = nearest(hot_stamps, moment.stamp_ns)
        fits = near is not None and abs(hot_stamps[near] - moment.stamp_ns) <= _SLOP_NS
        rgb_index, hot_index = rgb_at.get(moment.stamp_ns), hot[near][1] if near is not None and fits else None
        if rgb_index is not None or (near is not None and hot_stamps[near] == moment.stamp_ns):
            wanted.append((rgb_index, hot_index, key, moment))
    wanted.sort(key=lambda item: item[0] if item[0] is not None else item[1] or 0)
    images = TopicImages(source.bag, source.topics[0], False), TopicImages(source.bag, source.topics[1], True)
    cut = {}
    for rgb_index, hot_index, key, moment in tqdm(wanted, desc="thumbnails", unit="track"):
        rgb, thermal = images[0].get(rgb_index), images[1].get(hot_index)
        frame = thermal if rgb_index is None else rgb
        if frame is None:  # the image whose pixels the box is in cannot be read
            continue
        size = frame.shape[1], frame.shape[0]
        cut[key] = Thumbnails(
            None if rgb is None else _thumbnail(rgb[..., ::-1], moment.drawn, size),
            None if thermal is None else _thumbnail(thermal_to_bgr(thermal), moment.drawn, size),
        )
    return cut


def _stamps(source: ImageSource, camera: int) -> list[int]:
    return image_stamps(source.bag, source.topics[camera].name, source.plan, source.start_ns)


def _thumbnail(image: NDArray[Any], drawn: DrawnObject, size: tuple[int, int]) -> bytes:
    """A square around a box, as JPEG.

    Args:
        image: (H, W, 3) uint8, blue first.
        drawn: its box is in pixels of an image of ``size`` (width, height) with the same field of view.
        size: see there.
    """
    height, width = image.shape[:2]
    limits = np.array([width, height, width, height], np.float64)
    x1, y1, x2, y2 = np.clip(np.array(drawn.box) * limits / (*size, *size), 0.0, limits).tolist()
    side = math.ceil(max(_LEAST_CUT * width / size[0], _MARGIN * max(x2 - x1, y2 - y1)))
    # The cut keeps inside of the image where it can; beyond the rim the image's last pixels are repeated.
    left, top = (
        _start((low + high - side) / 2, side, length) for low, high, length in ((x1, x2, width), (y1, y2, height))
    )
    centre = left + (side - 1) / 2, top + (side - 1) / 2
    patch = cv2.getRectSubPix(np.ascontiguousarray(image), (side, side), centre)
    method = cv2.INTER_CUBIC if side < SIDE else cv2.INTER_AREA
    picture: Picture = np.asarray(cv2.resize(patch, (SIDE, SIDE), interpolation=method), np.uint8)
    corners = [round(v * SIDE / side) for v in (x1 - left, y1 - top, x2 - left, y2 - top)]
    cv2.rectangle(picture, corners[:2], corners[2:], class_colour(drawn.name), 1, cv2.LINE_AA)
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise RuntimeError("OpenCV cannot encode JPEG; its build lacks the codec: install opencv-python-headless.")
    return data.tobytes()


def _start(wanted: float, side: int, length: int) -> float:
    """Where a cut of ``side`` pixels begins, as near to ``wanted`` as an image of ``length`` pixels lets it."""
    return min(max(wanted, 0.0), length - side) if side <= length else (length - side) / 2
