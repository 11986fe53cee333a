"""Plays the cameras of several rigs and listens to the detections of each: the load of ``benchmark --rigs``.

One process for all cameras, so that what is measured has the machine to itself as far as possible; writes one JSON
file.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from mmkd_ros.messages import stamp_nanoseconds
from mmkd_ros.nodes.qos import RESULTS
from mmkd_ros.nodes.shutdown import ignore_signals
from mmkd_ros.nodes.start import init_ros
from mmkd_ros.status_file import StatusFile

_SETTLE_S = 1.0


class _Cameras:
    """The two cameras of one rig and what comes back.

    Attributes:
        sent: pairs published.
        delays: milliseconds from the stamp of a pair to the arrival of its detections.
    """

    def __init__(self, node: Node, rig: str, size: tuple[int, int]) -> None:
        self._node = node
        self.sent, self.delays = 0, list[float]()
        rng, (height, width) = np.random.default_rng(0), size
        self._publishers = [
            node.create_publisher(Image, f"/{rig}/{camera}/image_raw", 2) for camera in ("rgb", "thermal")
        ]
        # Two pictures in turn: a camera that hangs on one would be left out.
        self._pictures = [[_picture(rng, rig, height, width, depth) for depth in (3, 1)] for _ in range(2)]
        node.create_subscription(Detection2DArray, f"/{rig}/detections", self._take, RESULTS)

    def publish(self) -> None:
        """One pair, stamped now."""
        stamp = self._node.get_clock().now().to_msg()
        for publisher, message in zip(self._publishers, self._pictures[self.sent % 2], strict=True):
            message.header.stamp = stamp
            publisher.publish(message)
        self.sent += 1

    def begin(self) -> None:
        """Count from here on."""
        self.sent, self.delays = 0, []

    def _take(self, message: Any) -> None:
        self.delays.append((self._node.get_clock().now().nanoseconds - stamp_nanoseconds(message.header)) / 1e6)


def _picture(rng: np.random.Generator, rig: str, height: int, width: int, depth: int) -> Image:
    message = Image(height=height, width=width, step=width * depth, encoding="rgb8" if depth == 3 else "mono8")
    message.header.frame_id = f"{rig}_optical"
    message.data = rng.integers(0, 256, height * width * depth, np.uint8).tobytes()
    return message


def main(arguments: list[str] | None = None) -> int:
    """Wait until every rig answers, then measure.

    Returns:
        0; 1 when a rig did not answer in time.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rigs", nargs="+", required=True, help="names of the rigs")
    parser.add_argument("--hz", type=float, required=True, help="pairs per second of each rig")
    parser.add_argument("--seconds", type=float, required=True, help="to measure")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds until every rig must have answered")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 640), help="height and width of the images")
    parser.add_argument("--report", required=True, help="JSON file to write")
    args = parser.parse_args(arguments)
    init_ros([])
    node = rclpy.create_node("rig_load")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        return _measure(args, node, executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 1
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
        ignore_signals()


def _measure(args: argparse.Namespace, node: Node, executor: SingleThreadedExecutor) -> int:
    cameras = {rig: _Cameras(node, rig, tuple(args.size)) for rig in args.rigs}
    period, report = 1.0 / args.hz, StatusFile(args.report)

    def play(seconds: float, until: Any = lambda: False) -> None:
        """The rigs send in turn, evenly spread over the period, as cameras without a common trigger do."""
        end = time.monotonic() + seconds
        due = {rig: time.monotonic() + period * index / len(cameras) for index, rig in enumerate(cameras)}
        while time.monotonic() < end and not until():
            rig = min(due, key=lambda name: due[name])
            executor.spin_once(timeout_sec=max(0.0, min(due[rig], end) - time.monotonic()))
            if time.monotonic() >= due[rig]:
                cameras[rig].publish()
                due[rig] = max(due[rig] + period, time.monotonic())

    play(args.patience, lambda: all(camera.delays for camera in cameras.values()))
    if not all(camera.delays for camera in cameras.values()):
        print(f"No detections from {', '.join(rig for rig in cameras if not cameras[rig].delays)}.", file=sys.stderr)
        return 1
    play(_SETTLE_S)
    for camera in cameras.values():
        camera.begin()
    report.write({"state": "measuring"}, force=True)
    begun = time.monotonic()
    play(args.seconds)
    seconds = time.monotonic() - begun
    rigs = {rig: {"sent": camera.sent, "delays_ms": camera.delays} for rig, camera in cameras.items()}
    report.write({"state": "done", "seconds": seconds, "rigs": rigs}, force=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
