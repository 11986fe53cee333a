"""The overlay picture: RGB and thermal side by side with boxes, names, ids and short trails. OpenCV only, no ROS."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_ros.drawing_labels import FONT, Colour, Label, Picture, draw_labels, font_scale
from mmkd_ros.imaging import thermal_to_uint8
from mmkd_ros.types import Modality

_BACKGROUND: Colour = (24, 22, 20)
_TEXT: Colour = (225, 225, 225)
_DIM: Colour = (140, 140, 140)
_GAP = 4
_MOST_LATENCY_S = 60.0
_BADGES: dict[str, tuple[str, Colour]] = {
    "both": ("RGB + THERMAL", (96, 160, 60)),
    "rgb": ("RGB ONLY", (40, 140, 235)),
    "thermal": ("THERMAL ONLY", (40, 140, 235)),
    "none": ("NO CAMERA", (60, 60, 220)),
}
# Blue, green, red. Twelve hues that stay apart from each other on grey and on the thermal colours.
_PALETTE: tuple[Colour, ...] = (
    (255, 191, 64),
    (64, 220, 255),
    (112, 224, 96),
    (214, 112, 255),
    (72, 144, 255),
    (224, 224, 64),
    (160, 128, 255),
    (64, 255, 190),
    (255, 144, 144),
    (64, 190, 220),
    (200, 255, 140),
    (255, 128, 210),
)
_CLASS_COLOURS: dict[str, Colour] = {
    "person": (72, 144, 255),
    "car": (255, 191, 64),
    "bicycle": (112, 224, 96),
    "motorcycle": (214, 112, 255),
    "bus": (64, 220, 255),
    "truck": (160, 128, 255),
}


@dataclass(frozen=True, slots=True)
class DrawnObject:
    """One object to draw.

    Attributes:
        box: x1, y1, x2, y2 in pixels of the RGB image (of the thermal image when there is no RGB).
        name: class name.
        score: 0..1.
        id: identity of the track, empty for a bare detection.
    """

    box: tuple[float, float, float, float]
    name: str
    score: float
    id: str = ""

    @property
    def label(self) -> str:
        """What is written at the box: ``person 3 0.82``."""
        return " ".join(part for part in (self.name, self.id, f"{self.score:.2f}") if part)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What one picture shows.

    Attributes:
        rgb: (H, W, 3) uint8, red first, or None.
        thermal: (h, w) uint8 or uint16, or None; sees the same field of view.
        objects: what to draw.
        stamp: seconds; trails are as long as their time in these.
        note: free text for the caption.
        used: cameras that the detector used, for the badge, where that is known: an image may be there and yet not be
            used, as that of a camera that hangs. Empty: those whose images are here.
        faded: draw the objects thinly, because they are those of an earlier frame.

    Raises:
        ValueError: no image.
    """

    rgb: NDArray[np.uint8] | None
    thermal: NDArray[np.uint8] | NDArray[np.uint16] | None
    objects: Sequence[DrawnObject] = ()
    stamp: float = 0.0
    note: str = ""
    used: str = ""
    faded: bool = False

    def __post_init__(self) -> None:
        if self.rgb is None and self.thermal is None:
            raise ValueError("A scene needs at least one image; both are None.")

    @property
    def modality(self) -> Modality:
        """Which images are there."""
        if self.rgb is None:
            return "thermal"
        return "rgb" if self.thermal is None else "both"

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels of the image whose frame the boxes are in."""
        image: Any = self.thermal if self.rgb is None else self.rgb
        return int(image.shape[1]), int(image.shape[0])


def objects_from_message(message: Any) -> list[DrawnObject]:
    """The objects of a ``vision_msgs/Detection2DArray`` from rclpy or a bag, but those without class or box."""
    objects = []
    for detection in message.detections:
        centre, size = detection.bbox.center.position, (detection.bbox.size_x, detection.bbox.size_y)
        box = (
            centre.x - size[0] / 2,
            centre.y - size[1] / 2,
            centre.x + size[0] / 2,
            centre.y + size[1] / 2,
        )
        best = max((result.hypothesis for result in detection.results), key=lambda h: h.score, default=None)
        if best is not None and all(map(math.isfinite, box)):
            objects.append(DrawnObject(box, best.class_id, best.score, detection.id))
    return objects


def caption(seconds: float, tracked: int, latency_s: float | None = None) -> str:
    """The note of a picture: time, number of objects and, where it can be one, the latency.

    Args:
        seconds: time to show.
        tracked: objects.
        latency_s: seconds from the header stamp to the drawing. Negative ones and those above 60 s are left out: they
            are the distance of two clocks, as in a replay with the old stamps.
    """
    parts = [f"{seconds:.2f} s", f"{tracked} tracked"]
    if latency_s is not None and 0 <= latency_s <= _MOST_LATENCY_S:
        parts.append(f"latency {latency_s * 1e3:.0f} ms")
    return "    ".join(parts)


def class_colour(name: str) -> Colour:
    """(blue, green, red) of a class's boxes and labels, the same in every picture and run."""
    return _CLASS_COLOURS.get(name) or _PALETTE[sum(name.encode()) % len(_PALETTE)]


def trail_colour(identity: str) -> Colour:
    """(blue, green, red) of a track's trail, the same in every frame, so that crossing trails stay apart."""
    number = int(identity[-9:]) if identity.isdecimal() else sum(identity.encode())
    return _PALETTE[number % len(_PALETTE)]


def thermal_to_bgr(thermal: NDArray[np.uint8] | NDArray[np.uint16]) -> Picture:
    """(H, W) uint8 or uint16 -> (H, W, 3) uint8 in the inferno colours, black cold and yellow hot."""
    return np.asarray(cv2.applyColorMap(thermal_to_uint8(thermal), cv2.COLORMAP_INFERNO), np.uint8)


@dataclass(slots=True)
class Overlay:
    """Draws scenes in a row and remembers the trails between them.

    Attributes:
        height: rows of pixels of each camera's pane; the caption comes on top of it.
        trail_seconds: how long a trail lasts; 0 draws none.
        thermal_panel: show the thermal image beside the RGB image; False draws the RGB image alone (the thermal image
            where there is no RGB).
    """

    height: int = 480
    trail_seconds: float = 1.5
    thermal_panel: bool = True
    _trails: dict[str, deque[tuple[float, float, float]]] = field(default_factory=dict)
    _aspects: dict[str, float] = field(default_factory=dict)
    _last_stamp: float = float("-inf")

    def __post_init__(self) -> None:
        if self.height < 64 or self.trail_seconds < 0:
            raise ValueError(
                f"An overlay of height {self.height} with trails of {self.trail_seconds} s cannot be drawn; "
                "use at least 64 pixels and no negative time."
            )

    def advance(self, scene: Scene) -> None:
        """Let the trails grow by a scene's objects; a stamp that goes back starts them anew."""
        if scene.stamp < self._last_stamp:
            self._trails.clear()
        self._last_stamp = scene.stamp
        width, height = scene.size
        for drawn in scene.objects:
            if drawn.id:
                x1, _, x2, y2 = drawn.box
                # The foot point, in fractions of the image: a trail lies on the ground and fits every pane.
                self._trails.setdefault(drawn.id, deque()).append((scene.stamp, (x1 + x2) / 2 / width, y2 / height))
        for identity, trail in list(self._trails.items()):
            while trail and trail[0][0] < scene.stamp - self.trail_seconds:
                trail.popleft()
            if not trail:
                del self._trails[identity]

    def render(self, scene: Scene, height: int | None = None) -> Picture:
        """The picture of a scene: (caption + height, two panes, 3) uint8, blue first.

        Panes keep the aspect of the first image seen, so that the pictures of a film all have one size.

        Args:
            scene: what to draw; call ``advance`` with it first.
            height: rows of the panes, when they shall differ from the usual ones.
        """
        rows = height or self.height
        images = {
            "RGB": None if scene.rgb is None else scene.rgb[..., ::-1],
            "THERMAL": None if scene.thermal is None else thermal_to_bgr(scene.thermal),
        }
        if self.thermal_panel:
            gap = np.full((rows, _GAP, 3), _BACKGROUND, np.uint8)
            panes = [self._pane(title, image, scene, rows) for title, image in images.items()]
            body = np.hstack([panes[0], gap, panes[1]])
        else:
            body = self._pane("RGB", images["THERMAL" if scene.rgb is None else "RGB"], scene, rows)
        return np.vstack([_caption(scene, body.shape[1], rows), body])

    def _pane(self, title: str, image: Picture | None, scene: Scene, rows: int) -> Picture:
        width, height = scene.size
        own = width / height if image is None else image.shape[1] / image.shape[0]
        if image is not None or title not in self._aspects:
            self._aspects.setdefault(title, own)
        size = (max(2, round(rows * self._aspects[title])), rows)
        if image is None:
            pane = np.full((rows, size[0], 3), _BACKGROUND, np.uint8)
            _text_centred(pane, f"NO {title} IMAGE")
            return pane
        enlarge = image.shape[0] < rows
        # A negative stride is copied by resize itself; the ascontiguousarray is for an image of the size already.
        pane = np.asarray(
            cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_CUBIC if enlarge else cv2.INTER_AREA),
            np.uint8,
        )
        for drawn in scene.objects:
            if drawn.id in self._trails:
                _draw_trail(pane, self._trails[drawn.id], self.trail_seconds, scene.stamp, trail_colour(drawn.id))
        scale = (size[0] / width, rows / height)
        corners = [_corners(drawn, scale, pane) for drawn in scene.objects]
        for drawn, corner in zip(scene.objects, corners, strict=True):
            _draw_box(pane, corner, class_colour(drawn.name), scene.faded)
        if not scene.faded:
            named = zip(scene.objects, corners, strict=True)
            draw_labels(pane, [Label((o.label, o.id or o.name), class_colour(o.name), box) for o, box in named])
        return pane


def contact_sheet(pictures: Sequence[Picture], columns: int = 2, margin: int = 10) -> Picture:
    """Pictures of one size in rows of ``columns``, on the dark background: (H, W, 3) uint8.

    Raises:
        ValueError: no picture.
    """
    if not pictures:
        raise ValueError("A contact sheet needs at least one picture.")
    columns = min(columns, len(pictures))
    height, width = pictures[0].shape[:2]
    lines = -(-len(pictures) // columns)
    sheet = np.full((lines * (height + margin) + margin, columns * (width + margin) + margin, 3), _BACKGROUND, np.uint8)
    for number, picture in enumerate(pictures):
        top = margin + (number // columns) * (height + margin)
        left = margin + (number % columns) * (width + margin)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def _caption(scene: Scene, width: int, rows: int) -> Picture:
    """The strip on top: badge, note."""
    scale = font_scale(rows)
    height = round(48 * scale) + 8
    strip = np.full((height, width, 3), _BACKGROUND, np.uint8)
    baseline = height // 2 + round(10 * scale)
    text, colour = _BADGES.get(scene.used, _BADGES[scene.modality])
    (badge_width, badge_height), _ = cv2.getTextSize(text, FONT, scale * 0.9, 1)
    top = (height - badge_height) // 2
    cv2.rectangle(strip, (6, top - 5), (6 + badge_width + 12, top + badge_height + 4), colour, cv2.FILLED)
    cv2.putText(strip, text, (12, top + badge_height), FONT, scale * 0.9, (255, 255, 255), 1, cv2.LINE_AA)
    cv2.putText(strip, scene.note, (badge_width + 32, baseline), FONT, scale, _TEXT, 1, cv2.LINE_AA)
    return strip


def _text_centred(pane: Picture, text: str) -> None:
    scale = font_scale(pane.shape[0]) * 1.2
    (width, height), _ = cv2.getTextSize(text, FONT, scale, 1)
    corner = ((pane.shape[1] - width) // 2, (pane.shape[0] + height) // 2)
    cv2.putText(pane, text, corner, FONT, scale, _DIM, 1, cv2.LINE_AA)


def _corners(drawn: DrawnObject, scale: tuple[float, float], pane: Picture) -> tuple[float, float, float, float]:
    """The box in pixels of the pane, cut where it leaves it, so that no number can overflow inside OpenCV."""
    rows, columns = pane.shape[:2]
    x1, x2 = (float(np.clip(v * scale[0], -1, columns)) for v in drawn.box[::2])
    y1, y2 = (float(np.clip(v * scale[1], -1, rows)) for v in drawn.box[1::2])
    return x1, y1, x2, y2


def _draw_box(pane: Picture, corners: tuple[float, float, float, float], colour: Colour, faded: bool) -> None:
    if faded:
        colour = (colour[0] // 2 + 40, colour[1] // 2 + 40, colour[2] // 2 + 40)
    thickness = 1 if faded or pane.shape[0] < 400 else 2
    # Corners in sixteenths of a pixel: an antialiased box moves smoothly. The dark rim shows it on a bright scene.
    x1, y1, x2, y2 = (round(v * 16) for v in corners)
    cv2.rectangle(pane, (x1, y1), (x2, y2), (0, 0, 0), thickness + 1, cv2.LINE_AA, 4)
    cv2.rectangle(pane, (x1, y1), (x2, y2), colour, thickness, cv2.LINE_AA, 4)


def _draw_trail(
    pane: Picture, trail: Sequence[tuple[float, float, float]], seconds: float, now: float, colour: Colour
) -> None:
    """Blend a line in whose opacity falls with the age of its points."""
    rows, columns = pane.shape[:2]
    points = np.array([(x * columns, y * rows) for _, x, y in trail])
    points = np.clip(points, -columns, 2 * columns)
    if len(points) < 2 or seconds <= 0:
        return
    left, top = np.clip(points.min(axis=0) - 3, 0, (columns, rows)).astype(int)
    right, bottom = np.clip(points.max(axis=0) + 4, 0, (columns, rows)).astype(int)
    if left >= right or top >= bottom:
        return
    mask = np.zeros((bottom - top, right - left), np.uint8)
    fixed = np.round((points - (left, top)) * 16).astype(int)
    for (stamp, _, _), start, end in zip(list(trail)[1:], fixed[:-1], fixed[1:], strict=True):
        opacity = round(230 * max(0.0, 1.0 - (now - stamp) / seconds))
        cv2.line(mask, tuple(map(int, start)), tuple(map(int, end)), opacity, 2, cv2.LINE_AA, 4)
    weight = mask[..., None].astype(np.float32) / 255
    part = pane[top:bottom, left:right]
    part[...] = part * (1 - weight) + np.array(colour, np.float32) * weight
