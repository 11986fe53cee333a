"""The recording that a soak replays for ever: a synthetic street seen by two cameras of which everything fails once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmkd_ros.bags import IMAGE, BagMessage, BagWriter, deserialize, serialize
from mmkd_train.data.synthetic import DEMO_SCENE, SyntheticScene
from mmkd_train.make_bag import RGB_TOPIC, START_STAMP, THERMAL_TOPIC, image_message

_RENDERED = 24  # different pictures; they are shown to and fro
_FRAMES = 120


@dataclass(frozen=True)
class Fault:
    """What a camera does wrong in the frames ``first`` to ``last`` of each round.

    ``kind`` is pause (no image), frozen (one picture), oversize (a header of 20000x20000), short (half of the data),
    repeat (the stamp of the frame before), back (a stamp 0.25 s too early) or future (a stamp 1000 s too late).
    """

    kind: str
    camera: str
    first: int
    last: int


FAULTS = (
    Fault("pause", "thermal", 15, 20),
    Fault("pause", "rgb", 30, 41),
    Fault("oversize", "rgb", 50, 50),
    Fault("short", "thermal", 54, 55),
    Fault("repeat", "rgb", 62, 62),
    Fault("back", "thermal", 70, 70),
    Fault("frozen", "thermal", 78, 92),
    Fault("future", "rgb", 104, 104),
)


def record(path: Path, fps: float, width: int, height: int) -> dict[str, int]:
    """Write the recording, 120 frames of both cameras.

    Args:
        path: of the .mcap file.
        fps: frames per second.
        width, height: of both cameras, pixels.

    Returns:
        Number of faulty images and of pauses in it, by kind.
    """
    scene = SyntheticScene(replace(DEMO_SCENE, width=width, height=height))
    frames = [scene.frame(3 * i) for i in tqdm(range(_RENDERED), desc="rendering the recording", unit="frame")]
    counts: Counter[str] = Counter()
    with BagWriter(path, overwrite=True) as bag:
        for topic in (RGB_TOPIC, THERMAL_TOPIC):
            bag.add_topic(topic, IMAGE)
        for number in range(_FRAMES):
            shown = frames[_to_and_fro(number)]
            for camera, topic, pixels in (("rgb", RGB_TOPIC, shown.rgb), ("thermal", THERMAL_TOPIC, shown.thermal)):
                fault = next((f for f in FAULTS if f.camera == camera and f.first <= number <= f.last), None)
                counts.update([fault.kind] if fault else [])
                if fault is not None and fault.kind == "frozen":
                    still = frames[_to_and_fro(fault.first)]
                    pixels = still.rgb if camera == "rgb" else still.thermal
                time_ns = round((START_STAMP + number / fps) * 1e9)
                data = _message(pixels, time_ns, camera, fault.kind if fault else "", fps)
                if data:
                    bag.write(topic, time_ns, data)
    return dict(counts)


def _to_and_fro(number: int) -> int:
    step = number % (2 * _RENDERED - 2)
    return min(step, 2 * _RENDERED - 2 - step)


def _message(pixels: NDArray[Any], time_ns: int, camera: str, fault: str, fps: float) -> bytes:
    """The bytes of one image, spoilt as the fault says; none for a pause."""
    moved = {"repeat": -1 / fps, "back": -0.25, "future": 1000.0}.get(fault, 0.0)
    encoding = "rgb8" if camera == "rgb" else "mono8"
    data = image_message(np.asarray(pixels), time_ns + round(moved * 1e9), f"{camera}_camera", encoding)
    if fault == "pause":
        return b""
    if fault not in ("oversize", "short"):
        return data
    message = deserialize(BagMessage("", IMAGE, time_ns, data))
    if fault == "oversize":
        message.height, message.width, message.step = 20000, 20000, 60000
    else:
        message.data = message.data[: len(message.data) // 2]
    return serialize(message)
