"""Pairs of several rigs through one detector: together where that pays, and none spoils another. No ROS.

In: pairs. Out: for each its detections, or the error that it ended with.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from mmkd_ros.types import Detections, ImagePair


class BatchDetector(Protocol):
    """What is asked of a session, such as ``InferenceSession``."""

    @property
    def batch_size(self) -> int:
        """Most pairs that are worth running in one call; 1: one after the other is as fast."""

    def __call__(self, pair: ImagePair) -> Detections:
        """Detect in one pair."""

    def detect_batch(self, pairs: Sequence[ImagePair]) -> list[Detections | Exception]:
        """Detect in several pairs; raises what hits all of them."""


class Batcher:
    """Runs pairs through a detector, as many at a time as it likes.

    A batch that fails as a whole is run again pair by pair, so that its errors are those of each pair alone. Where all
    of them then succeed, the batch was too large for the device, and later ones are half as large.

    Attributes:
        most: pairs of one call from now on.

    Args:
        detector: a session.
        most: pairs of one call that will be asked for; 1 never asks ``detector`` for more.
    """

    def __init__(self, detector: BatchDetector, most: int) -> None:
        self._detector = detector
        self.most = most if most == 1 else max(1, min(most, detector.batch_size))

    def __call__(self, pairs: Sequence[ImagePair]) -> list[Detections | Exception]:
        """One answer a pair, in their order."""
        answers: list[Detections | Exception] = []
        while len(answers) < len(pairs):
            answers += self._run(pairs[len(answers) : len(answers) + self.most])
        return answers

    def _run(self, pairs: Sequence[ImagePair]) -> list[Detections | Exception]:
        if len(pairs) == 1:
            return [self._alone(pairs[0])]
        with suppress(Exception):  # whatever it was: each pair alone tells whose fault it is
            return self._detector.detect_batch(pairs)
        answers = [self._alone(pair) for pair in pairs]
        if not any(isinstance(answer, Exception) for answer in answers):
            self.most = len(pairs) // 2
        return answers

    def _alone(self, pair: ImagePair) -> Detections | Exception:
        try:
            return self._detector(pair)
        except Exception as error:
            return error.with_traceback(None)  # which would keep the images alive
