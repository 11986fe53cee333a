"""Pairs of several rigs go through one detector together, and one that fails takes no other with it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence

import numpy as np

from mmkd_ros.batching import Batcher
from mmkd_ros.types import Detections, ImagePair


def pair(stamp: float) -> ImagePair:
    return ImagePair(None, np.zeros((2, 2), np.uint8), stamp)


class Detector:
    """Answers with the stamp; ``bad`` stamps fail, and so do batches of more than ``room`` pairs or with a bad one."""

    def __init__(self, batch_size: int, room: int = 100, bad: tuple[float, ...] = ()) -> None:
        self.batch_size, self._room, self._bad = batch_size, room, bad
        self.calls: list[int] = []

    def __call__(self, pair: ImagePair) -> Detections:
        self.calls.append(1)
        if pair.stamp in self._bad:
            raise RuntimeError(f"{pair.stamp} is bad")
        nothing = np.zeros(0, np.float32)
        return Detections(nothing.reshape(0, 4), nothing, nothing.astype(np.int64), (), pair.stamp, pair.modality)

    def detect_batch(self, pairs: Sequence[ImagePair]) -> list[Detections | Exception]:
        self.calls.append(len(pairs))
        if len(pairs) > self._room or any(pair.stamp in self._bad for pair in pairs):
            raise MemoryError("all at once are too much")
        calls, self.calls = self.calls, []
        answers: list[Detections | Exception] = [self(pair) for pair in pairs]
        self.calls = calls
        return answers


def stamps(answers: list[Detections | Exception]) -> list[float | str]:
    return [answer.stamp if isinstance(answer, Detections) else str(answer) for answer in answers]


def test_as_many_at_a_time_as_the_detector_likes() -> None:
    for batch_size, calls in ((1, [1, 1, 1]), (2, [2, 1]), (8, [3])):
        detector = Detector(batch_size)
        batcher = Batcher(detector, 4)
        assert batcher.most == min(batch_size, 4)
        assert stamps(batcher([pair(1.0), pair(2.0), pair(3.0)])) == [1.0, 2.0, 3.0]
        assert detector.calls == calls
    assert batcher([]) == []


def test_one_bad_pair_harms_nobody_and_batches_go_on() -> None:
    detector = Detector(4, bad=(2.0,))
    batcher = Batcher(detector, 4)
    for _ in range(3):
        assert stamps(batcher([pair(1.0), pair(2.0), pair(3.0)])) == [1.0, "2.0 is bad", 3.0]
    assert batcher.most == 4
    detector.calls.clear()
    assert stamps(batcher([pair(1.0), pair(3.0)])) == [1.0, 3.0] and detector.calls == [2]


def test_a_batch_too_large_for_the_device_shrinks_for_good() -> None:
    detector = Detector(8, room=2)
    batcher = Batcher(detector, 8)
    pairs = [pair(float(number)) for number in range(1, 7)]
    assert stamps(batcher(pairs)) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert batcher.most == 3  # half of the six that were too many
    batcher(pairs)
    assert batcher.most == 1  # of three
    detector.calls.clear()
    assert stamps(batcher(pairs)) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] and detector.calls == [1] * 6


def test_images_of_a_pair_that_failed_are_freed_at_once() -> None:
    """Without the garbage collector, which comes late: a detector may fail for minutes."""
    batcher = Batcher(Detector(2, bad=(1.0, 2.0)), 2)
    images = [np.zeros((2, 2), np.uint8) for _ in range(2)]
    gone = [weakref.ref(image) for image in images]
    pairs = [ImagePair(None, image, stamp) for image, stamp in zip(images, (1.0, 2.0), strict=True)]
    del images
    gc.disable()
    try:
        answers = batcher(pairs)
        del pairs
        assert [reference() is None for reference in gone] == [True, True] and len(answers) == 2
    finally:
        gc.enable()


def test_one_rig_never_asks_for_a_batch() -> None:
    class Single:
        """A session without anything about batches."""

        def __call__(self, pair: ImagePair) -> Detections:
            return Detector(1)(pair)

    assert stamps(Batcher(Single(), 1)([pair(5.0)])) == [5.0]  # type: ignore[arg-type]
