"""One RGB-thermal rig of a detection node: its cameras, their pairing and registration, its outputs and its health."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.node import Node

from mmkd_ros.imaging import fingerprint
from mmkd_ros.nodes.detection_health import DetectionHealth
from mmkd_ros.nodes.detection_outputs import DetectionOutputs
from mmkd_ros.nodes.diagnostics import ERROR, Diagnostics
from mmkd_ros.nodes.filter_pairing import FilterPairing, make_pairing
from mmkd_ros.nodes.images import CameraImage, CameraTopic, image_pair, subscribe_cameras
from mmkd_ros.nodes.subnode import subnode
from mmkd_ros.nodes.telemetry import Telemetry
from mmkd_ros.nodes.topics import require_distinct
from mmkd_ros.pairing import Paired, Pairing, Sensor
from mmkd_ros.parameters import DetectionParameters
from mmkd_ros.registration import PairAligner
from mmkd_ros.types import Detections, ImagePair

_JUMPS = {"reset": "went back; pairing starts anew.", "leap": "went far ahead; pairing goes on from there."}


class Rig:
    """Made when the node is configured; works from ``activate`` to ``deactivate``, as often as that comes.

    Attributes:
        name: empty for the one rig of a node that has no names for them.
        pairing: its pairing stage.
        outputs: its topics.
        watch: called with each good image and whose it is, before it is paired.

    Args:
        node: that serves it.
        name: what its topics stand under.
        options: that hold for it.

    Raises:
        ValueError, ImportError, RuntimeError: options that cannot be had.
    """

    def __init__(self, node: Node, name: str, options: DetectionParameters) -> None:
        self.name, self._options, self._node = name, options, subnode(node, name)
        require_distinct(self._node, options.rgb_topic, options.thermal_topic)
        self._align = PairAligner(options.registration)
        self.pairing: Pairing[CameraImage] | FilterPairing = make_pairing(options.sync)
        self.outputs = DetectionOutputs(self._node, options)
        self.watch: Callable[[Sensor, CameraImage], None] | None = None
        self._hand_over: Callable[[str, Paired[CameraImage]], None] | None = None
        self._topics: dict[Sensor, CameraTopic] = {}
        self._diagnostics: Diagnostics | None = None
        self._telemetry: Telemetry | None = None

    def tell_labels(self, session: Any, weights: Path) -> None:
        """Say which classes and weights are in use."""
        self.outputs.tell_labels(session, self._options.score_threshold, weights)

    def activate(
        self,
        session: Any,
        weights: Path,
        hand_over: Callable[[str, Paired[CameraImage]], None],
        superseded: Callable[[], int],
    ) -> None:
        """Subscribe and begin to pair.

        Args:
            session: the detector in use.
            weights: its file.
            hand_over: called with the rig's name and each pair that is ready.
            superseded: asked how many pairs have been overtaken by newer ones.
        """
        options = self._options
        self.pairing = make_pairing(options.sync)
        self._jumps = dict.fromkeys(_JUMPS, 0)
        self._health = DetectionHealth(session, weights, self.pairing, self._align, self.outputs.autoware)
        self._telemetry = Telemetry(self._node, times=not options.output.autoware)
        self._hand_over = hand_over
        self._topics = topics = subscribe_cameras(self._node, options, self._take)
        self._diagnostics = Diagnostics(
            self._node,
            session.device,
            lambda: self._health.examine(topics, superseded()),
            self._state,
            options.status_period_s,
        )

    def unsubscribe(self) -> None:
        """Take no more images and hand nothing over any more."""
        for topic in self._topics.values():
            topic.destroy()
        self._topics, self._hand_over = {}, None

    def deactivate(self) -> None:
        """Say nothing more; bears a half-done start."""
        self.unsubscribe()
        if self._diagnostics is not None:
            self._diagnostics.destroy()
        if self._telemetry is not None:
            self._telemetry.destroy()
        self._diagnostics = self._telemetry = None

    def change(self, options: DetectionParameters) -> None:
        """Take over live parameters."""
        self._options = options
        self.pairing.options = options.sync

    def poll(self) -> None:
        """Hand over what is ready because it has waited long enough."""
        self._give(self.pairing.poll(time.monotonic()))

    def prepare(self, paired: Paired[CameraImage]) -> tuple[CameraImage, ImagePair]:
        """The image whose header the results carry, and the pair, registered.

        Raises:
            RegistrationError: a lone thermal image that does not fit.
        """
        source = paired.rgb or paired.thermal
        if source is None:
            raise ValueError("A pair came without any image.")
        refused = self._align.refused
        pair = self._align(image_pair(paired.rgb, paired.thermal, paired.stamp))
        if self._align.refused > refused:
            self._node.get_logger().error(f"Thermal is not used: {self._align.reason}", throttle_duration_sec=10.0)
        return source, pair

    def publish(
        self, detections: Detections, source: CameraImage, pair: ImagePair, begun: float, network_s: float
    ) -> None:
        """Send what was found in a pair; the work on it began at ``begun``, and the detector took ``network_s``."""
        self.outputs.publish(detections, source, pair, begun)
        latency_s = (self._node.get_clock().now().nanoseconds - source.stamp_ns) / 1e9
        self._health.published(pair.modality, network_s, latency_s)
        if self._telemetry is not None:
            self._telemetry.published(pair.modality, network_s, latency_s)

    def lose(self, error: Exception) -> None:
        """One pair is lost, the rig goes on."""
        self._health.lost(error)
        self._node.get_logger().error(f"A pair was lost: {error}", throttle_duration_sec=5.0)

    def _state(self) -> tuple[bytes, str]:
        state = self._health.state(self._topics)
        if self._telemetry is not None and state[0] == ERROR:
            self._telemetry.tell("none")
        return state

    def _take(self, sensor: Sensor, image: CameraImage) -> None:
        if self.watch is not None:
            self.watch(sensor, image)
        now = time.monotonic()
        self._give(self.pairing.push(sensor, image.stamp, image, now, fingerprint(image.pixels)))
        for event, sentence in _JUMPS.items():
            if self.pairing.counters[event] != self._jumps[event]:
                self._jumps[event] = self.pairing.counters[event]
                self._node.get_logger().warning(f"The stamps of the {sensor} camera {sentence}")

    def _give(self, ready: list[Paired[CameraImage]]) -> None:
        for paired in ready:
            if self._hand_over is not None:
                self._hand_over(self.name, paired)
