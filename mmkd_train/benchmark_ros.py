"""The nodes on this machine: a recording is replayed through them over DDS at several rates, in one process or in two.

In: weights and, if you like, a recording of your own. Out: rates, missed frames, latency, what is added around the
network, processor load and memory of every process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmkd_ros.bags import BagError, BagReader, BagTopic
from mmkd_ros.share import share_path
from mmkd_ros.wiring import PerceptionOptions
from mmkd_train.demo import embedded_recording
from mmkd_train.errors import UserError
from mmkd_train.node_run import live_topics, replay_through_nodes
from mmkd_train.process_watch import ProcessWatch
from mmkd_train.report_data import (
    DETECTIONS_SERIES,
    NETWORK_SERIES,
    TRACKS_SERIES,
    RunRecord,
    percentiles,
    read_run,
)


def summarise(run: RunRecord, sent: int, hz: float) -> dict[str, Any]:
    """Figures of one replay.

    Args:
        run: what was recorded.
        sent: pairs that were played.
        hz: their rate.

    Returns:
        - "hz", "sent", "answered": rate, pairs and detection messages; "missed": pairs without an answer.
        - "fps": messages per second between the first and the last.
        - "latency_ms": publish time minus header stamp of the detections: "first", "last", "p50", "p95", "p99", and
          "jitter", its standard deviation.
        - "session_ms": "p50" and "p95" of the session's own time.
        - "overhead_ms": the same of latency minus the session's time, message by message; None where one is missing.
        - "tracks_ms": "p50", "p95", "p99" of the tracks, the whole way from the cameras.

    Raises:
        UserError: fewer than two messages were recorded.
    """
    delays = run.delays.get(DETECTIONS_SERIES, [])
    latency = np.array([milliseconds for _, milliseconds in delays])
    network = np.array([milliseconds for _, milliseconds in run.delays.get(NETWORK_SERIES, [])])
    if len(latency) < 2:
        raise UserError(f"{len(latency)} detection messages were recorded; look into the nodes' logs.")
    around = latency - network if len(latency) == len(network) else np.zeros(0)
    seconds = (delays[-1][0] - delays[0][0]) / 1e9
    return {
        "hz": hz,
        "sent": sent,
        "answered": len(latency),
        "missed": max(0, sent - len(latency)),
        "fps": round((len(latency) - 1) / seconds, 2) if seconds > 0 else 0.0,
        "latency_ms": {
            "first": round(float(latency[0]), 2),
            "last": round(float(latency[-1]), 2),
            **percentiles(latency, 50, 95, 99),
            "jitter": round(float(latency.std()), 2),
        },
        "session_ms": percentiles(network, 50, 95),
        "overhead_ms": percentiles(around, 50, 95),
        "tracks_ms": percentiles([ms for _, ms in run.delays.get(TRACKS_SERIES, [])], 50, 95, 99),
    }


def benchmark_nodes(
    output: Path, rates: Sequence[float], options: Mapping[str, str], bag: Path | None = None, composed: bool = False
) -> dict[str, dict[str, Any]]:
    """Replay a recording at several rates.

    Args:
        output: folder of recordings and logs.
        rates: pairs per second.
        options: weights, device and the like, as fields of ``PerceptionOptions``.
        bag: a rosbag2; the embedded recording by default.
        composed: both nodes in one process, else each in its own.

    Returns:
        By rate, e.g. "10": as :func:`summarise`, with "processes" as :meth:`ProcessWatch.figures`.

    Raises:
        UserError: the recording cannot be used, or a replay fails.
    """
    results = {}
    try:
        path = bag if bag is not None else embedded_recording(output)
        with BagReader(path) as reader:
            topics = reader.image_topics()
            recorded_hz = _recorded_hz(reader, topics[0])
        rgb, thermal = live_topics(topics)
        chosen = PerceptionOptions(
            rgb_topic=rgb,
            thermal_topic=thermal,
            params_file=str(share_path("config/perception.yaml")),
            composed=composed,
            **options,  # type: ignore[arg-type]
        )
        for hz in rates:
            watch = ProcessWatch()
            replay = replay_through_nodes(chosen, path, topics, output, rate=hz / recorded_hz, watch=watch)
            found = summarise(read_run(output / "result.mcap"), min(replay["rgb"], replay["thermal"]), hz)
            results[f"{hz:g}"] = {**found, "processes": watch.figures()}
    except (BagError, ValueError, OSError) as error:
        raise UserError(str(error)) from error
    return results


def format_nodes(layout: str, results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of the printed table."""
    lines = []
    for hz, row in results.items():
        latency, around = row["latency_ms"], row["overhead_ms"]
        lines.append(
            f"nodes {layout} at {hz} Hz: {row['fps']:.1f} messages/s, {row['missed']} of {row['sent']} missed; latency "
            f"p50 {latency['p50']:.1f}, p95 {latency['p95']:.1f}, p99 {latency['p99']:.1f}, jitter "
            f"{latency['jitter']:.1f} ms; around the session p50 {around['p50']}, p95 {around['p95']} ms; "
            f"camera to tracks p50 {row['tracks_ms']['p50']} ms"
        )
        lines += [
            f"  {name:<15}{process['cpu_percent']:6.1f} % of a core, {process['memory_mb']:6.1f} MB"
            for name, process in row["processes"].items()
        ]
    return lines


def _recorded_hz(reader: BagReader, topic: BagTopic) -> float:
    """Mean rate of a topic.

    Raises:
        UserError: it has fewer than two messages.
    """
    times = [message.time_ns for message in reader.messages([topic.name])]
    if len(times) < 2 or times[-1] <= times[0]:
        raise UserError(f"{topic.name} has {len(times)} images in the recording, too few for a rate.")
    return (len(times) - 1) * 1e9 / (times[-1] - times[0])
