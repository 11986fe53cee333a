"""True boxes of a scene -> detections as a detector of a certain quality would give, with simulated appearance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmkd_train.data.synthetic import CLASS_NAMES
from mmkd_train.tracking_eval.scenes import Truth
from mmkd_train.tracking_eval.sequences import MIN_SCORE, Sequence, make_detections


@dataclass(frozen=True, slots=True)
class Degradation:
    """How far detections are from the truth.

    Attributes:
        miss: share of the boxes that are missed, in stretches.
        stretch_s: mean seconds of such a stretch.
        weak: share of the stretches in which the box is found after all, with a score of 0.1 to 0.5.
        jitter: standard deviation of every box side, as a share of the box's width or height.
        false_alarms: mean number per frame, scored evenly between 0.1 and 0.8.
        alarm_s: mean seconds that a false alarm stays.
    """

    miss: float
    jitter: float
    false_alarms: float
    stretch_s: float = 0.4
    weak: float = 0.5
    alarm_s: float = 0.2


LEVELS = {
    "easy": Degradation(miss=0.05, jitter=0.02, false_alarms=0.2),
    "medium": Degradation(miss=0.15, jitter=0.05, false_alarms=1.0),
    "hard": Degradation(miss=0.3, jitter=0.08, false_alarms=3.0),
}


class _Looks:
    """Simulated appearance vectors of length one, as far apart as those of the shipped encoder on a recorded clip
    (docs/tracking.md): 0.07 within one object, more when it is half hidden, 0.6 between two of a class."""

    DIMENSION = 64
    _SHARED = 0.42  # mean cosine of two objects of a class
    _NOISE, _NOISE_HIDDEN = 0.08, 0.4  # variance per vector, and what hiding all of the object would add

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._classes = _unit(rng.normal(size=(len(CLASS_NAMES), self.DIMENSION)))
        self._own: dict[int, NDArray[np.float64]] = {}

    def __call__(self, identity: int, label: int, visible: float) -> NDArray[np.float32]:
        if identity not in self._own:
            own = _unit(self._rng.normal(size=self.DIMENSION))
            self._own[identity] = math.sqrt(self._SHARED) * self._classes[label] + math.sqrt(1 - self._SHARED) * own
        variance = (self._NOISE + self._NOISE_HIDDEN * (1 - visible)) / self.DIMENSION
        noisy = self._own[identity] + self._rng.normal(0, math.sqrt(variance), self.DIMENSION)
        return _unit(noisy).astype(np.float32)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


class _Box(NamedTuple):
    """A detection in the making: true objects have identities above zero, false alarms below."""

    identity: int
    box: NDArray[np.float64]
    label: int
    visible: float
    score: float


def degrade(truth: Truth, level: Degradation, seed: int) -> Sequence:
    """Detections as a detector of that quality would give, with simulated appearance vectors.

    Whether an object is missed, and whether a false alarm stays, is a Markov chain in time, so that shares and mean
    seconds are the same at every frame rate.

    Args:
        truth: of a scene.
        level: the quality.
        seed: equal seeds give equal detections.
    """
    rng = np.random.default_rng(seed)
    looks = _Looks(rng)
    found_again, alarm_ends = (1 - math.exp(-1 / (truth.fps * s)) for s in (level.stretch_s, level.alarm_s))
    lost = min(1.0, found_again * level.miss / (1 - level.miss))
    missed: dict[int, bool] = {}  # objects in a stretch of misses, and whether they are found weakly
    alarms: list[_Box] = []
    alarm_count = 0
    detections, vectors = [], []
    for frame, here in enumerate(zip(truth.ids, truth.boxes, truth.labels, truth.visible, strict=True)):
        found: list[_Box] = []
        for identity, box, label, visible in zip(
            here[0].tolist(), here[1], here[2].tolist(), here[3].tolist(), strict=True
        ):
            if identity in missed:
                if rng.random() < found_again:
                    del missed[identity]
            elif rng.random() < lost:
                missed[identity] = bool(rng.random() < level.weak)
            if identity not in missed:
                score = float(rng.normal(0.85 - 0.3 * (1 - visible), 0.1))
                found.append(_Box(identity, box, label, visible, score))
            elif missed[identity]:
                found.append(_Box(identity, box, label, visible, float(rng.uniform(MIN_SCORE, 0.5))))
        alarms = [alarm for alarm in alarms if rng.random() >= alarm_ends]
        for _ in range(int(rng.poisson(level.false_alarms * alarm_ends))):
            alarm_count += 1
            alarms.append(_false_alarm(-alarm_count, truth.size, rng))
        kept = _jittered(found + alarms, level.jitter, truth.size, rng)
        detections.append(
            make_detections(
                np.array([each.box for each in kept]).reshape(-1, 4),
                np.array([each.score for each in kept]),
                np.array([each.label for each in kept]),
                CLASS_NAMES,
                frame / truth.fps,
            )
        )
        rows = [looks(each.identity, each.label, each.visible) for each in kept]
        vectors.append(np.array(rows, np.float32).reshape(-1, looks.DIMENSION))
    return Sequence(truth.name, truth.fps, truth.ids, truth.boxes, detections, vectors)


def _false_alarm(identity: int, size: tuple[int, int], rng: np.random.Generator) -> _Box:
    """A box of any class somewhere in the image, scored evenly from weak to 0.8."""
    extent = rng.uniform((15, 30), (60, 120))
    corner = rng.uniform((0, 0), size - extent)
    label = int(rng.integers(len(CLASS_NAMES)))
    return _Box(identity, np.concatenate((corner, corner + extent)), label, 1.0, float(rng.uniform(MIN_SCORE, 0.8)))


def _jittered(found: list[_Box], jitter: float, size: tuple[int, int], rng: np.random.Generator) -> list[_Box]:
    """Boxes off by a share of their size, clipped to the image; the best scored first, as a detector gives them."""
    kept = []
    for each in found:
        scale = np.tile(each.box[2:] - each.box[:2], 2)
        moved = np.clip(each.box + rng.normal(0, jitter, 4) * scale, 0, np.tile(size, 2))
        if each.score >= MIN_SCORE and (moved[2:] - moved[:2] >= 1).all():
            kept.append(each._replace(box=moved, score=min(each.score, 1.0)))
    return sorted(kept, key=lambda each: -each.score)
