"""The worker turns to the newest items and outlives every failure."""

from __future__ import annotations

import threading

import pytest

from mmkd_ros.worker import LatestWorker

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
