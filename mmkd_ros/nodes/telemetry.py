"""Figures of every message as topics of their own, for plots and monitors that do not read /diagnostics."""

from __future__ import annotations

import threading
import time
from typing import Any

from rclpy.node import Node
from std_msgs.msg import Float64, Header, String

from mmkd_ros.messages import stamp_nanoseconds
from mmkd_ros.nodes.qos import LATCHED, RESULTS

_TIMES = ("latency_ms", "processing_time_ms")
_AUTOWARE_TIMES = ("cyclic_time_ms", "processing_time_ms", "pipeline_latency_ms")


class Telemetry:
    """``~/debug/latency_ms`` (publish time minus header stamp) and ``~/debug/processing_time_ms`` (the network alone)
    for every detection message, and ``~/modality``: both, rgb, thermal or none, latched, at every change.

    Args:
        node: under whose name they are published.
        times: false leaves the two times out, where ``AutowareTimes`` takes their place.
    """

    def __init__(self, node: Node, *, times: bool = True) -> None:
        self._node = node
        names = _TIMES if times else ()
        self._times = [node.create_publisher(Float64, f"~/debug/{name}", RESULTS) for name in names]
        self._modality = node.create_publisher(String, "~/modality", LATCHED)
        self._told = ""
        self._lock = threading.Lock()

    def published(self, modality: str, network_s: float, latency_s: float) -> None:
        """One detection message has left."""
        if self._times:
            for publisher, seconds in zip(self._times, (latency_s, network_s), strict=True):
                publisher.publish(Float64(data=seconds * 1e3))
        self.tell(modality)

    def tell(self, modality: str) -> None:
        """Say which cameras are in use, if that is news. Any thread may call it."""
        with self._lock:
            if modality != self._told:
                self._told = modality
                self._modality.publish(String(data=modality))

    def destroy(self) -> None:
        """Take the topics away."""
        for publisher in (*self._times, self._modality):
            self._node.destroy_publisher(publisher)


class AutowareTimes:
    """The times that Autoware's tools collect, of every message and in their type: ``~/debug/cyclic_time_ms`` since the
    message before, ``~/debug/processing_time_ms`` of all the work on it, ``~/debug/pipeline_latency_ms`` since the
    stamp of its image.

    Args:
        node: under whose name they are published.
        float64: autoware_internal_debug_msgs/Float64Stamped.
    """

    def __init__(self, node: Node, float64: Any) -> None:
        self._node, self._float64 = node, float64
        self._publishers = [node.create_publisher(float64, f"~/debug/{name}", RESULTS) for name in _AUTOWARE_TIMES]
        self._last = time.monotonic()

    def published(self, begun: float, header: Header) -> None:
        """One message with this header has left; ``begun`` is ``time.monotonic()`` when the work on it began."""
        now, clock = time.monotonic(), self._node.get_clock().now()
        latency_ms = (clock.nanoseconds - stamp_nanoseconds(header)) / 1e6
        times = ((now - self._last) * 1e3, (now - begun) * 1e3, latency_ms)
        self._last = now
        for publisher, milliseconds in zip(self._publishers, times, strict=True):
            publisher.publish(self._float64(stamp=clock.to_msg(), data=milliseconds))

    def destroy(self) -> None:
        """Take the topics away."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
