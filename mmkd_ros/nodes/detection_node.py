"""Two image topics in, one detection message per pair out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.timer import Timer

from mmkd_ros.imaging import fingerprint
from mmkd_ros.nodes.detection_health import DetectionHealth
from mmkd_ros.nodes.detection_outputs import DetectionOutputs
from mmkd_ros.nodes.diagnostics import ERROR, Diagnostics, steady_timer
from mmkd_ros.nodes.filter_pairing import FilterPairing, make_pairing
from mmkd_ros.nodes.images import CameraImage, CameraTopic, image_pair, subscribe_cameras
from mmkd_ros.nodes.lifecycle import ManagedNode, run
from mmkd_ros.nodes.parameters import weights_path
from mmkd_ros.nodes.telemetry import Telemetry
from mmkd_ros.nodes.topics import require_distinct
from mmkd_ros.pairing import Paired, Pairing, Sensor
from mmkd_ros.parameters import DetectionParameters
from mmkd_ros.registration import PairAligner
from mmkd_ros.types import ImagePair
from mmkd_ros.worker import LatestWorker

_POLL_S = 0.02
_JUMPS = {"reset": "went back; pairing starts anew.", "leap": "went far ahead; pairing goes on from there."}


def load_session(*args: Any, **options: Any) -> Any:
    """An ``InferenceSession``. torch takes seconds to import: not before the node can be seen and stopped."""
    from mmkd_ros.inference import InferenceSession

    return InferenceSession(*args, **options)


class DetectionNode(ManagedNode[DetectionParameters]):
    """The executor's thread receives and pairs, which is quick; a worker runs the network on the newest pair. However
    slow the network is, it works on the present, and both cameras stay in step.

    Args:
        session_factory: makes the detector, as ``InferenceSession`` does.
        options: further arguments of ``rclpy.node.Node``.
    """

    def __init__(self, session_factory: Callable[..., Any] = load_session, **options: Any) -> None:
        super().__init__("detection_node", DetectionParameters, **options)
        self._session_factory = session_factory
        self._session: Any = None
        self._outputs: Any = None
        self._topics: dict[Sensor, CameraTopic] = {}
        self._worker: LatestWorker[Paired[CameraImage]] | None = None
        self._diagnostics: Diagnostics | None = None
        self._telemetry: Telemetry | None = None
        self._pairing: Pairing[CameraImage] | FilterPairing = Pairing()
        self._timer: Timer | None = None

    def configure(self) -> None:
        options = self.parameters
        require_distinct(self, options.rgb_topic, options.thermal_topic)
        self._align = PairAligner(options.registration)
        self._outputs = DetectionOutputs(self, options)
        self._pairing = make_pairing(options.sync)  # a policy that cannot be had is refused here
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
        self.get_logger().info(f"Engine {self._session.backend_reason}.")
        self._outputs.tell_labels(self._session, options.score_threshold, self._weights)

    def activate(self) -> None:
        self._pairing = make_pairing(self.parameters.sync)
        self._jumps = dict.fromkeys(_JUMPS, 0)
        self._health = DetectionHealth(self._session, self._weights, self._pairing, self._align, self._outputs.autoware)
        self._telemetry = Telemetry(self, times=not self.parameters.output.autoware)
        self._worker = worker = LatestWorker(self._detect, self._lose)
        self._topics = topics = subscribe_cameras(self, self.parameters, self._take)
        self._timer = steady_timer(self, _POLL_S, self._wait)
        self._diagnostics = Diagnostics(
            self,
            self._session.device,
            lambda: self._health.examine(topics, worker.superseded),
            lambda: self._state(topics),
            self.parameters.status_period_s,
        )

    def deactivate(self) -> None:
        for topic in self._topics.values():
            topic.destroy()
        if self._timer is not None:
            self.destroy_timer(self._timer)
        if self._worker is not None and not self._worker.stop():
            self.get_logger().error("The detector does not come back from its last pair; the device may hang.")
        if self._diagnostics is not None:
            self._diagnostics.destroy()
        if self._telemetry is not None:
            self._telemetry.destroy()
        self._topics, self._timer, self._worker, self._diagnostics, self._telemetry = {}, None, None, None, None

    def cleanup(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
        self._outputs = self._session = None

    def change(self) -> None:
        options = self.parameters
        self._session.change(
            score_threshold=options.score_threshold,
            nms_iou=options.nms_iou,
            max_detections=options.max_detections,
        )
        self._pairing.options = options.sync
        self._outputs.tell_labels(self._session, options.score_threshold, self._weights)

    def _take(self, sensor: Sensor, image: CameraImage) -> None:
        now = time.monotonic()
        self._hand_over(self._pairing.push(sensor, image.stamp, image, now, fingerprint(image.pixels)))
        for event, sentence in _JUMPS.items():
            if self._pairing.counters[event] != self._jumps[event]:
                self._jumps[event] = self._pairing.counters[event]
                self.get_logger().warning(f"The stamps of the {sensor} camera {sentence}")

    def _wait(self) -> None:
        self._hand_over(self._pairing.poll(time.monotonic()))

    def _hand_over(self, ready: list[Paired[CameraImage]]) -> None:
        for paired in ready:
            if self._worker is not None:
                self._worker.put(paired)

    def _detect(self, paired: Paired[CameraImage]) -> None:
        """In the worker's thread."""
        rgb, thermal = paired.rgb, paired.thermal
        source = rgb or thermal
        if source is None:
            raise ValueError("A pair came without any image.")
        begun, worker = time.monotonic(), self._worker
        pair = self._aligned(image_pair(rgb, thermal, paired.stamp))
        aligned = time.monotonic()
        detections = self._session(pair)
        network_s = time.monotonic() - aligned
        if self._worker is not worker:
            return  # the device hung, and the node was deactivated meanwhile: an old result must not follow newer ones
        self._outputs.publish(detections, source, pair, begun)
        latency_s = (self.get_clock().now().nanoseconds - source.stamp_ns) / 1e9
        self._health.published(pair.modality, network_s, latency_s)
        if self._telemetry is not None:
            self._telemetry.published(pair.modality, network_s, latency_s)

    def _state(self, topics: Mapping[Sensor, CameraTopic]) -> tuple[bytes, str]:
        state = self._health.state(topics)
        if self._telemetry is not None and state[0] == ERROR:
            self._telemetry.tell("none")
        return state

    def _aligned(self, pair: ImagePair) -> ImagePair:
        refused = self._align.refused
        aligned = self._align(pair)
        if self._align.refused > refused:
            self.get_logger().error(f"Thermal is not used: {self._align.reason}", throttle_duration_sec=10.0)
        return aligned

    def _lose(self, error: Exception) -> None:
        """In the worker's thread: one pair is lost, the node goes on."""
        self._health.lost(error)
        self.get_logger().error(f"A pair was lost: {error}", throttle_duration_sec=5.0)


def main(args: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM: 0; 1 when the node cannot be configured."""
    return run(DetectionNode, args)


if __name__ == "__main__":
    sys.exit(main())
