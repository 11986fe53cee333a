"""Processor time, memory, descriptors and threads of running processes, from /proc (Linux)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS, _PAGE_BYTES = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """One look at a process.

    Attributes:
        at: seconds on the clock of whoever looks.
        process: its id.
        processor_s: processor seconds it has used so far.
        memory_mb: resident megabytes (1e6 bytes).
        descriptors, threads: those that are open, and alive.
    """

    at: float
    process: int
    processor_s: float
    memory_mb: float
    descriptors: int
    threads: int


def look(process: int, at: float) -> Sample | None:
    """Sample a process; None when it is gone."""
    try:
        # The name of the program, in brackets, may hold spaces.
        values = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        descriptors = len(os.listdir(f"/proc/{process}/fd"))
        ticks, threads, pages = int(values[11]) + int(values[12]), int(values[17]), int(values[21])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None
    return Sample(at, process, ticks / _TICKS, pages * _PAGE_BYTES / 1e6, descriptors, threads)


class ProcessWatch:
    """Looks at processes again and again."""

    def __init__(self) -> None:
        self._samples: dict[str, list[Sample]] = {}

    def __call__(self, process_ids: Mapping[str, int]) -> None:
        """Look at them once; one that has ended is left out."""
        for name, process in process_ids.items():
            sample = look(process, time.monotonic())
            if sample is not None:
                self._samples.setdefault(name, []).append(sample)

    def figures(self) -> dict[str, dict[str, float]]:
        """By process: "cpu_percent" of one core over the time watched, and the largest resident "memory_mb"."""
        found = {}
        for name, samples in self._samples.items():
            first, last = samples[0], samples[-1]
            share = (last.processor_s - first.processor_s) / (last.at - first.at) if last.at > first.at else 0.0
            peak = max(sample.memory_mb for sample in samples)
            found[name] = {"cpu_percent": round(100 * share, 1), "memory_mb": round(peak, 1)}
        return found
