"""What a detection message costs the tracker node until its tracks are published; run as a script:

    python test/nodes/tracker_timing.py [OBJECTS ...]

Standing objects in pictures of 640 x 512, all found in each of 130 frames. Prints the CPU milliseconds of the node's
own thread in the last hundred, when the galleries are full: reading the message, looking, tracking, writing, publishing
over DDS to one subscriber. The images are there before their detections, as behind a detector.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
import rclpy
from node_bench import found, image
from rclpy.parameter import Parameter
from vision_msgs.msg import Detection2DArray

from mmkd_ros.nodes.images import CameraImage
from mmkd_ros.nodes.tracker_node import TrackerNode

_FRAMES, _WARM, _HZ = 130, 30, 20.0
_HEIGHT, _WIDTH, _COLUMNS = 512, 640, 16


def pictures(node: TrackerNode, stamp: float) -> None:
    """Hand the node images of noise."""
    rng = np.random.default_rng(0)
    for camera, shape in (("rgb", (_HEIGHT, _WIDTH, 3)), ("thermal", (_HEIGHT, _WIDTH))):
        node._sight.keep(camera, CameraImage(rng.integers(0, 256, shape, np.uint8), image(camera, stamp).header))


def crowd(stamp: float, objects: int) -> Any:
    """That many persons side by side in rows."""
    message = found(stamp, *((20.0 + 40 * (i % _COLUMNS), 30.0 + 60 * (i // _COLUMNS)) for i in range(objects)))
    for detection in message.detections:
        detection.bbox.size_x, detection.bbox.size_y = 24.0, 50.0
    return message


def measure(objects: int, appearance: bool) -> list[float]:
    """Milliseconds (3,) of the whole message: median and 95th percentile; and the median of the tracker alone."""
    settings = {"appearance": appearance, "device": "cpu", "autostart": False}
    overrides = [Parameter(name, value=value) for name, value in settings.items()]
    node = TrackerNode(parameter_overrides=overrides, enable_rosout=False)
    node.create_subscription(Detection2DArray, "tracks", lambda _: None, 10)
    try:
        if not node.autostart():
            raise SystemExit("The node does not start; its log says why.")
        spent, updates = [], []
        update = node._tracker.update

        def timed(*given: Any) -> Any:
            begun = time.thread_time()
            tracks = update(*given)
            updates.append(time.thread_time() - begun)
            return tracks

        node._tracker.update = timed  # type: ignore[method-assign]
        for number in range(_FRAMES):
            stamp = 1.0 + number / _HZ
            message = crowd(stamp, objects)
            if appearance:
                pictures(node, stamp)
            begun = time.thread_time()
            node._track(message)
            spent.append(time.thread_time() - begun)
        if appearance and node._sight.counts["with_appearance"] != _FRAMES:
            raise SystemExit("The images were not used.")
        figures = ((spent, 50), (spent, 95), (updates, 50))
        return [1e3 * float(np.percentile(values[_WARM:], rank)) for values, rank in figures]
    finally:
        node.stop()
        node.destroy_node()


def main() -> None:
    """Print a row per number of objects, without and with appearance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", type=int, nargs="*", default=[10, 50, 100], help="numbers of objects")
    rclpy.init(domain_id=int(os.environ.get("ROS_DOMAIN_ID", "0")))
    try:
        for objects in parser.parse_args().objects:
            for appearance in (False, True):
                whole, late, tracker = measure(objects, appearance)
                looks = "with" if appearance else "without"
                print(
                    f"{objects:4d} objects, {looks:>7} appearance: {whole:6.2f} ms (p95 {late:.2f}), "
                    f"of these the tracker {tracker:.2f}",
                    flush=True,
                )
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
