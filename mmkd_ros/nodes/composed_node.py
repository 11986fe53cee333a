"""Detection and tracking in one process and on one executor: the tracker gets every image and every detection message
from the detection node, without another way through DDS. Topics, parameters and services are those of the two nodes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from mmkd_ros.nodes.detection_node import DetectionNode, load_session
from mmkd_ros.nodes.images import CameraImage
from mmkd_ros.nodes.lifecycle import ManagedNode, run_together
from mmkd_ros.nodes.tracker_node import TrackerNode
from mmkd_ros.pairing import Sensor
from mmkd_ros.worker import LatestWorker


class FedTracker(TrackerNode):
    """A tracker without subscriptions: the detection node of its process feeds it."""

    alone = False

    def listen(self, worker: LatestWorker[Any]) -> None:
        """Nothing to subscribe to."""

    def take(self, message: Any) -> None:
        """Track these detections; while the node is not active they are left out, as one without subscription does."""
        worker = self._worker
        if worker is not None:
            worker.put(message)

    def keep(self, sensor: Sensor, image: CameraImage) -> None:
        """Keep an image until its detections come."""
        if self._worker is not None:
            self._sight.keep(sensor, image)


class FeedingDetector(DetectionNode):
    """A detection node that hands its images and detections to a tracker, too.

    Args:
        tracker: of this process; its images are those of the cameras of this node.
        session_factory: as in :class:`DetectionNode`.
        options: further arguments of ``rclpy.node.Node``.
    """

    def __init__(self, tracker: FedTracker, session_factory: Callable[..., Any] = load_session, **options: Any) -> None:
        super().__init__(session_factory, **options)
        self._fed = tracker

    def configure(self) -> None:
        if len(self.parameters.rigs) > 1:
            raise ValueError("one process for detection and tracking serves one rig; start detection_node for several.")
        super().configure()
        for rig in self._rigs.values():
            rig.outputs.listener, rig.watch = self._fed.take, self._fed.keep


def make_nodes(session_factory: Callable[..., Any] = load_session, **options: Any) -> Iterator[ManagedNode[Any]]:
    """The tracker, then the detection node that feeds it."""
    tracker = FedTracker(**options)
    yield tracker
    yield FeedingDetector(tracker, session_factory, **options)


def main(args: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM: 0; 1 when a node cannot be configured."""
    return run_together(make_nodes, args)


if __name__ == "__main__":
    sys.exit(main())
