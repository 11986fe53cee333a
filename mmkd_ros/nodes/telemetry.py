"""Figures of every message as topics of their own, for plots and monitors that do not read /diagnostics."""

from __future__ import annotations

import threading

from rclpy.node import Node
from std_msgs.msg import Float64, String

from mmkd_ros.nodes.qos import LATCHED, RESULTS


class Telemetry:
    """``~/debug/latency_ms`` (publish time minus header stamp) and ``~/debug/processing_time_ms`` (the network alone)
    for every detection message, and ``~/modality``: both, rgb, thermal or none, latched, at every change.

    Args:
        node: under whose name they are published.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._latency = node.create_publisher(Float64, "~/debug/latency_ms", RESULTS)
        self._processing = node.create_publisher(Float64, "~/debug/processing_time_ms", RESULTS)
        self._modality = node.create_publisher(String, "~/modality", LATCHED)
        self._told = ""
        self._lock = threading.Lock()

    def published(self, modality: str, network_s: float, latency_s: float) -> None:
        """One detection message has left."""
        self._latency.publish(Float64(data=latency_s * 1e3))
        self._processing.publish(Float64(data=network_s * 1e3))
        self.tell(modality)

    def tell(self, modality: str) -> None:
        """Say which cameras are in use, if that is news. Any thread may call it."""
        with self._lock:
            if modality != self._told:
                self._told = modality
                self._modality.publish(String(data=modality))

    def destroy(self) -> None:
        """Take the topics away."""
        for publisher in (self._latency, self._processing, self._modality):
            self._node.destroy_publisher(publisher)
