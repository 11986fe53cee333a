"""Recorded runs that tests make up: tracks, detections, images, cameras in use and diagnostics of a few messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from made_bags import SECOND, detection_array, diagnostics

from mmkd_ros import bags
from mmkd_ros.bags import BagWriter
from mmkd_ros.drawing import DrawnObject
from mmkd_train.make_bag import image_message


def box(left: float, name: str = "person", identity: str = "1", score: float = 0.9, size: float = 30.0) -> DrawnObject:
    return DrawnObject((left, 20.0, left + size, 20.0 + 2 * size), name, score, identity)


def write_run(
    path: Path, tracks: dict[int, list[DrawnObject]], *, images: bool = True, modality: bool = True, prefix: str = ""
) -> Path:
    """A run at 10 Hz: message number -> tracks; detections are the same objects, each 50 ms after its stamp."""
    types: Any = bags.typestore().types
    with BagWriter(path) as bag:
        for topic in ("detections", "tracks"):
            bag.add_topic(f"{prefix}/{topic}", bags.DETECTION_ARRAY)
        bag.add_topic("/diagnostics", bags.DIAGNOSTIC_ARRAY)
        bag.add_topic(f"{prefix}/detection_node/debug/processing_time_ms", "std_msgs/msg/Float64")
        bag.add_topic(f"{prefix}/detection_node/modality", "std_msgs/msg/String")
        for topic in ("/rgb/image_raw", "/thermal/image_raw") if images else ():
            bag.add_topic(topic, bags.IMAGE)
        for number, objects in tracks.items():
            stamp = 100 * SECOND + number * SECOND // 10
            if images:
                rgb, thermal = np.full((120, 160, 3), 60, np.uint8), np.full((60, 80), 30_000, np.uint16)
                rgb[..., 0], thermal[:, 40:] = 200, 33_000
                bag.write("/rgb/image_raw", stamp, image_message(rgb, stamp, "rgb", "rgb8"))
                hot = stamp + 10_000_000
                bag.write("/thermal/image_raw", hot, image_message(thermal, hot, "thermal", "mono16"))
            if modality and number in (0, 5):
                state = types["std_msgs/msg/String"](data="both" if number == 0 else "thermal")
                bag.write(f"{prefix}/detection_node/modality", stamp + 40_000_000, bags.serialize(state))
            time = bags.serialize(types["std_msgs/msg/Float64"](data=30.0))
            bag.write(f"{prefix}/detection_node/debug/processing_time_ms", stamp + 45_000_000, time)
            bag.write(f"{prefix}/detections", stamp + 50_000_000, detection_array(stamp, objects))
            bag.write(f"{prefix}/tracks", stamp + 60_000_000, detection_array(stamp, objects))
        bag.write(
            "/diagnostics", stamp + SECOND, diagnostics({"modality": "rgb", "device": "cpu", "dropped.late": "3"})
        )
    return path


def steps(count: int = 10) -> dict[int, list[DrawnObject]]:
    """A person that is seen all the time, most surely in message 4, and a car that comes later."""
    run = {n: [box(10.0 + n, score=0.95 if n == 4 else 0.5)] for n in range(count)}
    for number in range(6, count):
        run[number].append(box(90.0, "car", "7", 0.8, 40.0))
    return run
