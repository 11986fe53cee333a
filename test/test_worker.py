"""The worker turns to the newest items and outlives every failure."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from mmkd_ros.worker import FairWorker, LatestWorker

PATIENCE_S = 60.0


class Bench:
    """A worker whose work can be held up."""

    def __init__(self, room: int = 1) -> None:
        self.begun: list[int] = []
        self.failures: list[Exception] = []
        self.started, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        self.worker: LatestWorker[int] = LatestWorker(self.work, self.failures.append, room)

    def work(self, item: int) -> None:
        self.begun.append(item)
        self.started.release()
        assert self.gate.acquire(timeout=PATIENCE_S)
        if item < 0:
            raise ValueError("negative")

    def begins(self) -> None:
        assert self.started.acquire(timeout=PATIENCE_S)


@pytest.mark.parametrize(("room", "expected"), [(1, [0, 9]), (3, [0, 7, 8, 9])])
def test_what_is_old_gives_way(room: int, expected: list[int]) -> None:
    bench = Bench(room)
    bench.worker.put(0)
    bench.begins()
    for item in range(1, 10):
        bench.worker.put(item)
    for _ in expected[1:]:
        bench.gate.release()
        bench.begins()
    bench.gate.release()
    assert bench.worker.stop()
    assert bench.begun == expected
    assert bench.worker.superseded == 9 - room


def test_a_failure_costs_one_item() -> None:
    bench = Bench()
    for item in (-1, 5):
        bench.worker.put(item)
        bench.begins()
        bench.gate.release()
        while len(bench.failures) < 1:
            threading.Event().wait(0.001)
    assert bench.worker.stop()
    assert bench.begun == [-1, 5] and [str(error) for error in bench.failures] == ["negative"]


def test_stopping_drops_what_waits_and_tells_of_work_that_hangs() -> None:
    bench = Bench()
    bench.worker.put(0)
    bench.begins()
    bench.worker.put(1)
    assert not bench.worker.stop(timeout_s=0.01)
    bench.gate.release()
    assert bench.worker.stop()
    assert bench.begun == [0]


class FairBench:
    """A worker for several sources whose work can be held up."""

    def __init__(self, most: int) -> None:
        self.begun: list[dict[str, int]] = []
        self.started, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        self.worker: FairWorker[int] = FairWorker(self.work, lambda error: None, most)
        self.worker.put("first", 0)
        self.begins()

    def work(self, items: dict[str, int]) -> None:
        self.begun.append(items)
        self.started.release()
        assert self.gate.acquire(timeout=PATIENCE_S)
        if -1 in items.values():
            raise ValueError("negative")

    def begins(self) -> None:
        assert self.started.acquire(timeout=PATIENCE_S)

    def go_on(self, calls: int) -> list[dict[str, int]]:
        """Let the work in hand end, and so many calls begin; these are returned."""
        for _ in range(calls):
            self.gate.release()
            self.begins()
        return self.begun[-calls:]

    def end(self) -> None:
        self.gate.release()
        assert self.worker.stop()


def test_a_source_that_floods_takes_no_turn_of_another() -> None:
    bench = FairBench(most=1)
    for number in range(100):
        bench.worker.put("fast", number)
    bench.worker.put("slow", 7)
    for number in range(100, 150):
        bench.worker.put("fast", number)
    (call,) = bench.go_on(1)
    assert call == {"fast": 149}
    bench.worker.put("fast", 150)
    assert bench.go_on(2) == [{"slow": 7}, {"fast": 150}]
    bench.end()
    assert bench.worker.superseded == Counter(fast=149)


def test_what_waits_is_taken_together_and_nothing_is_waited_for() -> None:
    bench = FairBench(most=3)
    for source in "abcd":
        bench.worker.put(source, ord(source))
    assert bench.go_on(1) == [{"a": 97, "b": 98, "c": 99}]
    bench.worker.put("a", 1)
    assert bench.go_on(1) == [{"d": 100, "a": 1}]  # the one left over comes first; b and c are not there
    bench.end()


def test_a_failure_of_one_call_does_not_end_the_thread() -> None:
    bench = FairBench(most=2)
    bench.worker.put("a", -1)
    bench.go_on(1)
    bench.worker.put("b", 2)
    assert bench.go_on(1) == [{"b": 2}]
    bench.end()
