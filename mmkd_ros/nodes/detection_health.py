"""What the detection node measures and counts, and what it says about itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmkd_ros.metrics import EventRate, RecentValues
from mmkd_ros.nodes.autoware_output import AutowareOutput
from mmkd_ros.nodes.diagnostics import ERROR, OK, WARN, Health
from mmkd_ros.nodes.filter_pairing import FilterPairing
from mmkd_ros.nodes.images import CameraTopic
from mmkd_ros.pairing import Pairing, Sensor
from mmkd_ros.registration import PairAligner

_SILENCE_S = 1.0
_BY_PAIRING = ("late", "future", "stale", "duplicate", "frozen", "recovering", "orphan", "invalid")
_BY_IMAGING = ("empty", "oversize", "step", "data", "encoding", "decode")
_BY_NETWORK = ("inference", "internal")


class DetectionHealth:
    """Counters of one activation; ``published`` and ``lost`` come from the worker's thread.

    Args:
        session: the detector in use.
        weights: its file.
        pairing: whose counters are shown.
        align: whose registration is shown.
        autoware: whose counters are shown.
    """

    def __init__(
        self,
        session: Any,
        weights: Path,
        pairing: Pairing[Any] | FilterPairing,
        align: PairAligner,
        autoware: AutowareOutput,
    ) -> None:
        self._session, self._weights, self._pairing, self._align = session, weights, pairing, align
        self._autoware = autoware
        self._network_ms, self._latency_ms, self._rate = RecentValues(), RecentValues(), EventRate()
        self._failures: Counter[str] = Counter()
        self._messages, self._modality, self._last_output = 0, "none", time.monotonic()

    def published(self, modality: str, network_s: float, latency_s: float) -> None:
        """One detection message has left; ``latency_s`` is its publish time minus its header stamp."""
        self._network_ms.add(network_s * 1e3)
        self._latency_ms.add(latency_s * 1e3)
        self._messages, self._modality, self._last_output = self._messages + 1, modality, time.monotonic()
        self._rate.add(self._last_output)

    def lost(self, error: Exception) -> None:
        """One pair came to nothing."""
        from mmkd_ros.inference import InferenceError  # as late as the detector itself

        self._failures["inference" if isinstance(error, InferenceError) else "internal"] += 1

    def state(self, topics: Mapping[Sensor, CameraTopic]) -> tuple[bytes, str]:
        """The level, and the cameras in use: both, rgb, thermal or none. Quick: asked many times a second."""
        silent = time.monotonic() - self._last_output > _SILENCE_S
        if not any(topic.received for topic in topics.values()):
            return WARN, "none"
        if silent:
            return ERROR, "none"
        return (OK if self._modality == "both" else WARN), self._modality

    def examine(self, topics: Mapping[Sensor, CameraTopic], superseded: int) -> Health:
        """The present health; ``superseded`` pairs were replaced by newer ones before the network was free."""
        now = time.monotonic()
        rate = self._rate.per_second(now)
        level, modality = self.state(topics)
        if level == ERROR:
            sentence = f"No detections for {now - self._last_output:.0f} s."
        elif modality == "both":
            sentence = f"Both cameras are in use, {rate:.1f} messages/s."
        elif modality == "none":
            unseen = " or ".join(topic.name for topic in topics.values() if not topic.received)
            sentence = f"No detections yet; no image has come on {unseen}." if unseen else "No detections yet."
        else:
            sentence = f"Only the {modality} camera is in use, {rate:.1f} messages/s."
            if self._align.refused:
                sentence += f" Thermal is not used: {self._align.reason}"
        rejections = [f"{topic.name}: {topic.last_error}" for topic in topics.values() if topic.failing]
        values = self._figures(topics, superseded, rate)
        dropped = [f"{key.partition('.')[2]} {n}" for key, n in values.items() if key.startswith("dropped.") and n]
        told = [f"Dropped so far: {', '.join(dropped)}."] if dropped else []
        return Health(level, " ".join([sentence, *rejections, *told]), values)

    def _registration(self) -> dict[str, object]:
        made = self._align.registration
        return {} if made is None else {"registration_coverage": made.coverage, "registration_ms": made.cost_ms}

    def _figures(self, topics: Mapping[Sensor, CameraTopic], superseded: int, rate: float) -> dict[str, object]:
        counters = self._pairing.counters
        rejected: Counter[str] = sum((topic.rejected for topic in topics.values()), Counter())
        network = self._network_ms.percentiles(50, 95)
        latency = self._latency_ms.percentiles(50, 95, 99)
        return {
            **{f"frames_{sensor}": topic.received for sensor, topic in topics.items()},
            "pairs": counters["paired"],
            "single_rgb": counters["single_rgb"],
            "single_thermal": counters["single_thermal"],
            "messages": self._messages,
            "resets": counters["reset"],
            "leaps": counters["leap"],
            **{f"state_{sensor}": self._pairing.state(sensor, time.monotonic()) for sensor in topics},
            **{f"dropped.{reason}": counters[reason] for reason in _BY_PAIRING},
            **{f"dropped.{reason}": rejected[reason] for reason in _BY_IMAGING},
            "dropped.superseded": superseded,
            "dropped.registration": self._align.refused,
            **{f"dropped.{reason}": self._failures[reason] for reason in _BY_NETWORK},
            **self._autoware.figures(),
            "modality": self.state(topics)[1],
            **self._registration(),
            "rate_hz": rate,
            "device": self._session.device,
            "backend": self._session.backend,
            "weights": self._weights,
            "weights_sha256": self._session.weights_sha256,
            "network_ms_p50": network[0],
            "network_ms_p95": network[1],
            "latency_ms_p50": latency[0],
            "latency_ms_p95": latency[1],
            "latency_ms_p99": latency[2],
        }
