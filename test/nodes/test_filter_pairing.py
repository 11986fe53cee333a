"""``sync.policy`` through message_filters: around the real one where it is, else a stand-in with its interface."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from node_bench import Child, header

from mmkd_ros.nodes.filter_pairing import FilterPairing, make_pairing
from mmkd_ros.nodes.images import CameraImage
from mmkd_ros.pairing import Paired, Pairing, SyncOptions

INSTALLED = importlib.util.find_spec("message_filters") is not None
Start = Callable[..., Child]


class SimpleFilter:
    """As message_filters': callbacks are called in turn with the messages and their own arguments."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Any, tuple[Any, ...]]] = {}

    def registerCallback(self, callback: Any, *arguments: Any) -> int:  # noqa: N802 - its name there
        self.callbacks[len(self.callbacks)] = (callback, arguments)
        return len(self.callbacks) - 1

    def signalMessage(self, *messages: Any) -> None:  # noqa: N802
        for callback, arguments in self.callbacks.values():
            callback(*messages, *arguments)


class TimeSynchronizer(SimpleFilter):
    """Gives the messages of equal stamps; keeps the ``queue_size`` latest of each input."""

    def __init__(self, fs: list[SimpleFilter], queue_size: int) -> None:
        super().__init__()
        self.queues: list[dict[int, Any]] = [{} for _ in fs]
        self.queue_size = queue_size
        for source, queue in zip(fs, self.queues, strict=True):
            source.registerCallback(self.add, queue)

    def add(self, message: Any, queue: dict[int, Any]) -> None:
        queue[message.header.stamp.sec * 10**9 + message.header.stamp.nanosec] = message
        while len(queue) > self.queue_size:
            del queue[min(queue)]
        for stamps in self.matches():
            self.signalMessage(*(q.pop(stamp) for q, stamp in zip(self.queues, stamps, strict=True)))

    def matches(self) -> list[tuple[int, ...]]:
        return [(stamp, stamp) for stamp in sorted(set(self.queues[0]) & set(self.queues[1]))]


class ApproximateTimeSynchronizer(TimeSynchronizer):
    def __init__(self, fs: list[SimpleFilter], queue_size: int, slop: float) -> None:
        super().__init__(fs, queue_size)
        self.slop = slop

    def matches(self) -> list[tuple[int, ...]]:
        near = [(a, b) for a, b in itertools.product(*self.queues) if abs(a - b) <= self.slop * 1e9]
        return near[:1]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    if INSTALLED:
        return
    module: Any = ModuleType("message_filters")
    module.SimpleFilter, module.TimeSynchronizer = SimpleFilter, TimeSynchronizer
    module.ApproximateTimeSynchronizer = ApproximateTimeSynchronizer
    monkeypatch.setitem(sys.modules, "message_filters", module)


def picture(camera: str, stamp: float) -> CameraImage:
    shape = (4, 4, 3) if camera == "rgb" else (4, 4)
    return CameraImage(np.zeros(shape, np.uint8), header(stamp, camera))


def push(pairing: FilterPairing, camera: Any, stamp: float) -> list[Paired[CameraImage]]:
    return pairing.push(camera, stamp, picture(camera, stamp), stamp)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("policy", "pairs"), [("exact_time", 1), ("approximate_time", 2)])
def test_the_synchronizer_decides_what_is_a_pair(policy: str, pairs: int) -> None:
    pairing = make_pairing(SyncOptions(policy=policy, slop_s=0.02))
    assert isinstance(pairing, FilterPairing)
    ready: list[Paired[CameraImage]] = []
    for rgb, thermal in ((1.0, 1.0), (1.1, 1.11), (1.2, 1.3)):
        ready += push(pairing, "rgb", rgb) + push(pairing, "thermal", thermal) + pairing.poll(thermal)
    assert [pair.stamp for pair in ready] == [1.0, 1.1][:pairs]
    assert all(pair.rgb and pair.thermal for pair in ready)
    assert pairing.counters["paired"] == pairs
    assert pairing.state("rgb", 1.4) == "ok" and pairing.state("rgb", 5.0) == "silent"


@pytest.mark.usefixtures("stand_in")
def test_the_output_never_goes_back_and_a_loop_starts_anew() -> None:
    pairing = make_pairing(SyncOptions(policy="exact_time"))
    assert isinstance(pairing, FilterPairing) and pairing.state("rgb", 1.0) == "never"
    stamps = []
    for stamp in (10.0, 10.1, 9.9, 10.2, 10.2, 1.0, 1.1, 0.0):
        stamps += [pair.stamp for camera in ("rgb", "thermal") for pair in push(pairing, camera, stamp)]
    assert stamps == [10.0, 10.1, 10.2, 1.0, 1.1]
    assert {name: n for name, n in pairing.counters.items() if n} == {"paired": 5, "late": 2, "reset": 1, "invalid": 2}


@pytest.mark.usefixtures("stand_in")
def test_live_options_reach_the_synchronizer() -> None:
    pairing = make_pairing(SyncOptions(policy="approximate_time", slop_s=0.01))
    assert not push(pairing, "rgb", 1.0) + push(pairing, "thermal", 1.03)
    pairing.options = SyncOptions(policy="approximate_time", slop_s=0.05)
    assert isinstance(pairing, FilterPairing)
    assert not push(pairing, "rgb", 2.0)
    assert len(push(pairing, "thermal", 2.03)) == 1


@pytest.mark.usefixtures("stand_in")
def test_offsets_are_refused() -> None:
    with pytest.raises(ValueError, match="policy native alone"):
        make_pairing(SyncOptions(policy="exact_time", thermal_offset_s=0.02))


def test_native_is_the_stage_of_the_package() -> None:
    assert isinstance(make_pairing(SyncOptions()), Pairing)


@pytest.mark.skipif(INSTALLED, reason="message_filters is installed")
def test_a_policy_that_cannot_be_had_is_refused_at_configure(start: Start, some_file: Path) -> None:
    node = start("fake_detector", weights=str(some_file), **{"sync.policy": "approximate_time"})
    assert node.exit_code() == 1
    assert "install ros-jazzy-message-filters, or set sync.policy to native" in node.log()
    assert "Traceback" not in node.log()
