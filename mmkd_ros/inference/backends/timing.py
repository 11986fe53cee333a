"""Which engine is the fastest on this machine: images to try it with, and the stop watch. Free of torch."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 5
_NEAR = 1.1

Images = tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]
"""rgb (H, W, 3) or None, thermal (H, W) or None."""


def trial_images(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An RGB and a thermal image, the same everywhere, in which every pixel matters: grey ones would hide a wrong
    channel or row."""
    # Knuth's multiplicative hash of the index: noise without a random generator, whose stream may change.
    count = np.arange(4 * height * width, dtype=np.uint64)
    noise = ((count * np.uint64(2654435761)) % np.uint64(2**32) >> np.uint64(24)).astype(np.uint8)
    rgb, thermal = np.split(noise, [3 * height * width])
    return rgb.reshape(height, width, 3), thermal.reshape(height, width)


def milliseconds(
    calls: Mapping[str, Callable[..., object]], arguments: Sequence[object], rounds: int = _ROUNDS
) -> dict[str, float]:
    """Shortest time of ``call(*arguments)`` by name; the calls take turns, so that a busy moment hits all of them."""
    best = dict.fromkeys(calls, float("inf"))
    for number in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call(*arguments)
            if number:  # the first round warms up
                best[name] = min(best[name], 1e3 * (time.perf_counter() - started))
    return best


def fastest(times: Mapping[str, float]) -> tuple[str, str]:
    """(name of the shortest time, or the first name where that is no more than 10 % longer; why, in words).

    Times that are so near change places from run to run, and the first of the engines starts in half of the time of the
    second.
    """
    order, first = sorted(times, key=times.__getitem__), next(iter(times))
    best = first if times[first] <= _NEAR * times[order[0]] else order[0]
    why = "fastest here" if best == order[0] else "within 10 % of the fastest here"
    return best, f"{best}: {why}, " + ", ".join(f"{name} {times[name]:.1f} ms" for name in order) + " a pair"


def machine() -> str:
    """Processor and usable cores; a home folder may be shared by several machines."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = f"{model} (model unknown)"
    return f"{platform.machine()} {model} {len(os.sched_getaffinity(0))}"
