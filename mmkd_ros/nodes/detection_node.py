"""Two image topics in, one detection message per pair out; of several rigs, each with topics of its own, if asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.timer import Timer

from mmkd_ros.batching import Batcher
from mmkd_ros.nodes.diagnostics import steady_timer
from mmkd_ros.nodes.images import CameraImage
from mmkd_ros.nodes.lifecycle import ManagedNode, run
from mmkd_ros.nodes.parameters import weights_path
from mmkd_ros.nodes.rig import Rig
from mmkd_ros.pairing import Paired
from mmkd_ros.parameters import DetectionParameters
from mmkd_ros.types import ImagePair
from mmkd_ros.worker import FairWorker

_POLL_S = 0.02


def load_session(*args: Any, **options: Any) -> Any:
    """An ``InferenceSession``. torch takes seconds to import: not before the node can be seen and stopped."""
    from mmkd_ros.inference import InferenceSession

    return InferenceSession(*args, **options)


class DetectionNode(ManagedNode[DetectionParameters]):
    """The executor's thread receives and pairs, which is quick; a worker runs the network on the newest pair of each
    rig. However slow the network is, it works on the present, and both cameras of a rig stay in step.

    Args:
        session_factory: makes the detector, as ``InferenceSession`` does.
        options: further arguments of ``rclpy.node.Node``.
    """

    def __init__(self, session_factory: Callable[..., Any] = load_session, **options: Any) -> None:
        super().__init__("detection_node", DetectionParameters, **options)
        self._session_factory = session_factory
        self._session: Any = None
        self._rigs: dict[str, Rig] = {}
        self._worker: FairWorker[Paired[CameraImage]] | None = None
        self._timer: Timer | None = None

    def configure(self) -> None:
        options = self.parameters
        for name in options.rigs:
            self._rigs[name] = Rig(self, name, options.of_rig(name))
        self._weights = weights_path(options.weights)
        self._session = self._session_factory(
            self._weights,
            device=options.device,
            backend=options.backend,
            input_size=options.input_size,
            score_threshold=options.score_threshold,
            nms_iou=options.nms_iou,
            max_detections=options.max_detections,
            half=options.half,
            threads=options.threads,
        )
        self._session.warm_up()
        if len(self._rigs) > 1:
            self._session.warm_up_batches(len(self._rigs))
        self.get_logger().info(f"Engine {self._session.backend_reason}.")
        for rig in self._rigs.values():
            rig.tell_labels(self._session, self._weights)

    def activate(self) -> None:
        self._detector = Batcher(self._session, len(self._rigs))
        self._worker = worker = FairWorker(self._detect, self._fail, self._detector.most)
        for name, rig in self._rigs.items():
            rig.activate(self._session, self._weights, worker.put, partial(worker.superseded.__getitem__, name))
        self._timer = steady_timer(self, _POLL_S, self._poll)

    def deactivate(self) -> None:
        for rig in self._rigs.values():
            rig.unsubscribe()
        if self._timer is not None:
            self.destroy_timer(self._timer)
        if self._worker is not None and not self._worker.stop():
            self.get_logger().error("The detector does not come back from its last pair; the device may hang.")
        for rig in self._rigs.values():
            rig.deactivate()
        self._timer = self._worker = None

    def cleanup(self) -> None:
        for rig in self._rigs.values():
            rig.outputs.destroy()
        self._rigs, self._session = {}, None

    def change(self) -> None:
        options = self.parameters
        self._session.change(
            score_threshold=options.score_threshold,
            nms_iou=options.nms_iou,
            max_detections=options.max_detections,
        )
        for name, rig in self._rigs.items():
            rig.change(options.of_rig(name))
            rig.tell_labels(self._session, self._weights)

    def _poll(self) -> None:
        for rig in self._rigs.values():
            rig.poll()

    def _detect(self, waiting: dict[str, Paired[CameraImage]]) -> None:
        """In the worker's thread: one pair of each rig that is among the waiting."""
        begun, worker = time.monotonic(), self._worker
        ready: list[tuple[Rig, CameraImage, ImagePair]] = []
        for name, paired in waiting.items():
            try:
                ready.append((self._rigs[name], *self._rigs[name].prepare(paired)))
            except Exception as error:
                self._rigs[name].lose(error)
        aligned, most = time.monotonic(), self._detector.most
        answers = self._detector([pair for _, _, pair in ready])
        network_s = time.monotonic() - aligned
        if self._detector.most < most:
            self.get_logger().warning(f"The device cannot take {most} pairs at a time; it gets {self._detector.most}.")
        for (rig, source, pair), answer in zip(ready, answers, strict=True):
            if self._worker is not worker:
                return  # the device hung, and the node was deactivated meanwhile: no old result after newer ones
            if isinstance(answer, Exception):
                rig.lose(answer)
                continue
            try:
                rig.publish(answer, source, pair, begun, network_s)
            except Exception as error:
                rig.lose(error)

    def _fail(self, error: Exception) -> None:
        """In the worker's thread, after a mistake in the code around the detector."""
        self.get_logger().error(f"Pairs were lost: {error}", throttle_duration_sec=5.0)


def main(args: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM: 0; 1 when the node cannot be configured."""
    return run(DetectionNode, args)


if __name__ == "__main__":
    sys.exit(main())
