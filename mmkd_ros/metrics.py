"""Running figures about a stream: percentiles of recent values and the rate of events. No ROS, safe across threads."""

from __future__ import annotations

import math
from collections import deque

import numpy as np


class RecentValues:
    """The last ``size`` values of something that is measured again and again."""

    def __init__(self, size: int = 300) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        """Take one value."""
        self._values.append(value)

    def percentiles(self, *ranks: float) -> list[float]:
        """Percentiles (0..100) of the values kept; NaN while there is none."""
        values = list(self._values)
        return [float(p) for p in np.percentile(values, ranks)] if values else [math.nan] * len(ranks)


class EventRate:
    """Events per second over the last ``window_s``."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._window = window_s
        self._times: deque[float] = deque(maxlen=10_000)

    def add(self, now: float) -> None:
        """Count one event at ``now``, seconds on a steady clock."""
        self._times.append(now)

    def per_second(self, now: float) -> float:
        """Events per second; 0 without any in the window."""
        recent = [time for time in list(self._times) if now - time <= self._window]
        return len(recent) / self._window if recent else 0.0
