"""The detection node around a detector that looks at one pixel; run as a script it is a node process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmkd_ros.nodes.detection_node import DetectionNode
from mmkd_ros.nodes.lifecycle import run
from mmkd_ros.types import Detections, ImagePair

CLASS_NAMES = ("person", "car")
FAILS, BREAKS = 200, 201


class FakeSession:
    """Finds as many objects as the first pixel says; two values of it stand for a failing network.

    Attributes:
        calls: stamps of the pairs it was given, with their modality.
        batches: number of pairs of each call for several; such a call fails as a whole where one of its pairs does.
        batch_size: pairs that it likes at a time.
        gate: closed, it holds each call until it is opened.
    """

    class_names = CLASS_NAMES
    device = backend = "fake"
    backend_reason = "fake: for tests"
    weights_sha256 = "0" * 64
    batch_size = 1

    def __init__(self, weights: Any, **options: Any) -> None:
        self.options = options
        self.calls: list[tuple[float, str]] = []
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def change(self, **options: Any) -> None:
        self.options |= options

    def warm_up(self) -> None:
        """Nothing to warm."""

    def warm_up_batches(self, most: int) -> None:
        """Nothing to warm."""

    def detect_batch(self, pairs: Sequence[ImagePair]) -> list[Detections | Exception]:
        self.batches.append(len(pairs))
        return [self(pair) for pair in pairs]

    def __call__(self, pair: ImagePair) -> Detections:
        self.calls.append((pair.stamp, pair.modality))
        self.gate.wait()
        seen = pair.rgb if pair.rgb is not None else pair.thermal
        assert seen is not None
        count = int(seen.flat[0])
        if count == FAILS:
            from mmkd_ros.inference import InferenceError

            raise InferenceError("the device failed.")
        if count == BREAKS:
            raise KeyError("a mistake in the code")
        boxes = np.array([[i, 2.0 * i, i + 10.0, 2.0 * i + 20.0] for i in range(count)], np.float32).reshape(-1, 4)
        scores = np.linspace(0.9, 0.5, count, dtype=np.float32)
        return Detections(boxes, scores, np.arange(count) % 2, CLASS_NAMES, pair.stamp, pair.modality)


if __name__ == "__main__":
    sys.exit(run(lambda: DetectionNode(FakeSession)))
