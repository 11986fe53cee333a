"""``sync.policy``: the package's own pairing stage, or one of message_filters' synchronizers in its place."""

from __future__ import annotations

import importlib
import math
from typing import Any

from mmkd_ros.distribution import apt_package
from mmkd_ros.nodes.images import CameraImage
from mmkd_ros.pairing import Paired, Pairing, Sensor, State, SyncOptions

_COUNTERS = tuple(Pairing().counters)


def make_pairing(options: SyncOptions) -> Pairing[CameraImage] | FilterPairing:
    """The stage that ``options.policy`` names.

    Raises:
        ImportError: message_filters is asked for and not installed.
        ValueError: it is asked for together with stamp offsets, which it does not have.
    """
    return Pairing(options) if options.policy == "native" else FilterPairing(options)


class FilterPairing:
    """``message_filters.ApproximateTimeSynchronizer`` or ``TimeSynchronizer`` behind the interface of ``Pairing``.

    Pairs leave when the synchronizer gives them; an image without a partner never does. A pair that is not after the
    one before is dropped as ``late``, unless it is earlier by more than ``reset_jump_s``, which starts a new time line.

    Args:
        options: ``policy``, ``slop_s`` (of approximate_time alone) and ``max_queue``; both offsets must be 0.

    Raises:
        ImportError, ValueError: see ``make_pairing``.
    """

    def __init__(self, options: SyncOptions) -> None:
        try:
            self._filters: Any = importlib.import_module("message_filters")
        except ImportError as error:
            raise ImportError(
                f"sync.policy is '{options.policy}', which needs message_filters ({error}); install "
                f"{apt_package('message_filters')}, or set sync.policy to native."
            ) from error
        if options.rgb_offset_s or options.thermal_offset_s:
            raise ValueError("sync.rgb_offset_s and sync.thermal_offset_s work with sync.policy native alone; set 0.")
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self._arrival: dict[Sensor, float] = {"rgb": -math.inf, "thermal": -math.inf}
        self._out_stamp = -math.inf
        self._ready: list[Paired[CameraImage]] = []
        self.options = options

    @property
    def options(self) -> SyncOptions:
        """Those in use; setting them starts the synchronizer anew."""
        return self._options

    @options.setter
    def options(self, options: SyncOptions) -> None:
        self._options = options
        self._inputs: dict[Sensor, Any] = {"rgb": self._filters.SimpleFilter(), "thermal": self._filters.SimpleFilter()}
        inputs = list(self._inputs.values())
        if options.policy == "exact_time":
            synchronizer = self._filters.TimeSynchronizer(inputs, options.max_queue)
        else:
            synchronizer = self._filters.ApproximateTimeSynchronizer(inputs, options.max_queue, options.slop_s)
        synchronizer.registerCallback(self._take)
        self._synchronizer = synchronizer  # the inputs hold it weakly, if at all

    def push(
        self, sensor: Sensor, stamp: float, item: CameraImage, now: float, fingerprint: int | None = None
    ) -> list[Paired[CameraImage]]:
        """Take one image, as ``Pairing.push``; the fingerprint is not looked at."""
        if not stamp > 0.0:
            self.counters["invalid"] += 1
            return []
        self._arrival[sensor] = now
        self._inputs[sensor].signalMessage(item)
        ready, self._ready = self._ready, []
        return ready

    def poll(self, now: float) -> list[Paired[CameraImage]]:
        """Nothing: a synchronizer does not become ready by waiting."""
        return []

    def state(self, sensor: Sensor, now: float) -> State:
        """``ok``, ``silent`` after ``pause_s`` without an image, or ``never``."""
        if math.isinf(self._arrival[sensor]):
            return "never"
        return "ok" if now - self._arrival[sensor] < self._options.pause_s else "silent"

    def _take(self, rgb: CameraImage, thermal: CameraImage) -> None:
        """The synchronizer's callback; must not raise, since that would leave its lock closed for ever."""
        back = self._out_stamp - rgb.stamp
        if 0.0 <= back <= self._options.reset_jump_s:
            self.counters["late"] += 1
            return
        self.counters["reset"] += back > 0.0
        self.counters["paired"] += 1
        self._out_stamp = rgb.stamp
        self._ready.append(Paired(rgb, thermal, rgb.stamp))
