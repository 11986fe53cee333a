"""Looking at processes: this one, and one that is not there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mmkd_train.process_watch import ProcessWatch, look


def test_this_process_can_be_looked_at() -> None:
    before = look(os.getpid(), 1.0)
    assert before is not None and (before.at, before.process) == (1.0, os.getpid())
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    assert before.memory_mb == pytest.approx(int(told["VmRSS"].split()[0]) * 1024 / 1e6, rel=0.1)
    assert before.threads == int(told["Threads"]) >= threading.active_count()
    with open(os.devnull), open(os.devnull):
        after = look(os.getpid(), 2.0)
    assert after is not None and after.descriptors == before.descriptors + 2
    assert look(2**22 + 1, 1.0) is None


def test_a_process_is_watched_until_it_ends() -> None:
    watch = ProcessWatch()
    watch({"this": os.getpid(), "gone": 2**22 + 1})
    sum(i * i for i in range(200_000))
    watch({"this": os.getpid()})
    assert watch.figures().keys() == {"this"}
    assert watch.figures()["this"]["memory_mb"] > 10 and watch.figures()["this"]["cpu_percent"] >= 0
