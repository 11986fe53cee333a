"""What follows from the samples of a soak: figures, and limits that they break."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmkd_train.process_watch import Sample

_SETTLED = 1 / 3
"""The first part of a run, in which libraries fill their pools, counts for no slope."""
_LONG_S = 600.0
"""A slope out of less time than this says nothing about a day: the growth is judged instead."""
_NOISE_MB = 2.0


@dataclass(frozen=True)
class Limits:
    """What a soak must not exceed."""

    slope_percent: float = 1.0
    """Memory per 1e6 frames, in runs of ten minutes and more; a growth of less than 2 MB is the allocator's noise."""
    growth_mb: float = 20.0
    """Memory in the last two thirds of a shorter run."""
    missed: float = 0.02
    """Fraction of the images that the detection node did not receive."""
    drift_ms: float = 20.0
    """Median latency of the last third minus that of the first."""
    more_descriptors: int = 2
    more_threads: int = 1


def process_figures(samples: Sequence[Sample], fps: float) -> dict[str, float]:
    """Figures of one node.

    Args:
        samples: of its last process, in ascending time, at least two.
        fps: frames per second, to turn hours into frames.

    Returns:
        ``memory_mb`` at the end; ``growth_mb``, ``slope_mb_per_hour`` and ``slope_percent_per_1e6_frames`` by a
        straight line through the last two thirds; ``descriptors`` and ``threads`` at the end, and how many more than at
        the beginning of that part; ``seconds`` of the whole.
    """
    start = samples[0].at + (samples[-1].at - samples[0].at) * _SETTLED
    settled = [sample for sample in samples if sample.at >= start]
    times = np.array([sample.at for sample in settled])
    memory = np.array([sample.memory_mb for sample in settled])
    slope = float(np.polyfit(times, memory, 1)[0]) if len(settled) > 2 else 0.0
    seconds = float(times[-1] - times[0])
    return {
        "memory_mb": settled[-1].memory_mb,
        "growth_mb": slope * seconds,
        "slope_mb_per_hour": slope * 3600,
        "slope_percent_per_1e6_frames": 100 * slope * (1e6 / fps) / float(memory.mean()),
        "descriptors": settled[-1].descriptors,
        "more_descriptors": settled[-1].descriptors - settled[0].descriptors,
        "threads": settled[-1].threads,
        "more_threads": settled[-1].threads - settled[0].threads,
        "seconds": samples[-1].at - samples[0].at,
    }


def latency_figures(published: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Figures of (publish time, header stamp) pairs in nanoseconds: ``p50_ms``, ``p99_ms``, and ``drift_ms``, the
    median of the last third minus that of the first."""
    if not published:
        return dict.fromkeys(("p50_ms", "p99_ms", "drift_ms"), math.nan)
    latency = np.array([(at - stamp) / 1e6 for at, stamp in published])
    third = max(1, len(latency) // 3)
    p50, p99 = np.percentile(latency, (50, 99))
    drift = np.median(latency[-third:]) - np.median(latency[:third])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "drift_ms": float(drift)}


def backward_steps(published: Sequence[tuple[int, int]]) -> int:
    """Number of messages whose stamp is not after that of the message before."""
    stamps = [stamp for _, stamp in published]
    return sum(b <= a for a, b in zip(stamps, stamps[1:], strict=False))


def broken_limits(report: dict[str, Any], limits: Limits) -> list[str]:
    """A sentence for each limit that the report breaks."""
    broken: list[str] = []

    def check(what: str, value: float, limit: float, unit: str) -> None:
        if not value <= limit:  # NaN breaks it too
            broken.append(f"{what} is {value:.3g} {unit}, but must not exceed {limit:g}.")

    for name, node in report["nodes"].items():
        if node["seconds"] >= _LONG_S and node["growth_mb"] > _NOISE_MB:
            slope = node["slope_percent_per_1e6_frames"]
            check(f"{name}: memory slope", slope, limits.slope_percent, "% per 1e6 frames")
        elif node["seconds"] < _LONG_S:
            check(f"{name}: memory growth", node["growth_mb"], limits.growth_mb, "MB")
        check(f"{name}: descriptors more", node["more_descriptors"], limits.more_descriptors, "")
        check(f"{name}: threads more", node["more_threads"], limits.more_threads, "")
    check("Restarts of nodes", report["restarts"], 0, "")
    check("Fraction of missed images", report["missed"] / max(report["images"], 1), limits.missed, "")
    check("Latency drift", report["latency"]["drift_ms"], limits.drift_ms, "ms")
    check("Outputs that went back", report["backward_stamps"], 0, "")
    if not report["outputs"]:
        broken.append("Nothing was detected: no message left the detection node.")
    return broken
