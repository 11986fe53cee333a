"""Running figures."""

from __future__ import annotations

import math

from mmkd_ros.metrics import EventRate, RecentValues


def test_percentiles_are_those_of_the_recent_values() -> None:
    values = RecentValues(size=5)
    assert all(math.isnan(p) for p in values.percentiles(50, 95))
    for value in (1000.0, 1.0, 2.0, 3.0, 4.0, 5.0):
        values.add(value)
    assert values.percentiles(0, 50, 100) == [1.0, 3.0, 5.0]


def test_a_rate_follows_the_recent_past() -> None:
    rate = EventRate(window_s=2.0)
    assert rate.per_second(0.0) == 0.0
    for i in range(50):
        rate.add(i * 0.1)
    assert abs(rate.per_second(4.9) - 10.0) <= 0.5
    assert rate.per_second(100.0) == 0.0
