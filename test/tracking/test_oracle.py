"""The tracker against the slow one-object-at-a-time oracle: the same boxes under the same ids, up to renaming."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracles.deepsort_oracle import DeepSortOracle

from mmkd_ros.tracking import DeepSort, TrackerOptions
from mmkd_ros.types import Detections
from mmkd_train.track_file import read_detections

NAMES = ("person", "car")
MOT = (
    "ADL-Rundle-6",
    "ETH-Bahnhof",
    "ETH-Sunnyday",
    "KITTI-13",
    "KITTI-17",
    "PETS09-S2L1",
    "TUD-Campus",
    "Venice-2",
)
Frame = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32] | None]


def compare(frames: Iterable[Frame], options: TrackerOptions, max_age_frames: int) -> int:
    """Run both and compare every frame; returns the number of boxes compared."""
    tracker = DeepSort(options)
    oracle = DeepSortOracle(
        options.max_cosine_distance,
        options.max_iou_distance,
        options.n_init,
        max_age_frames,
        options.gallery_size,
        options.class_aware,
        options.motion_weight,
        options.min_overlap,
    )
    renamed: dict[int, int] = {}
    compared = 0
    for number, (boxes, labels, vectors) in enumerate(frames):
        stamp = 1000 + number / options.nominal_rate_hz
        tracks = tracker.update(Detections(boxes, np.ones(len(boxes), np.float32), labels, NAMES, stamp), vectors)
        known: list[NDArray[np.float64] | None] = [None] * len(boxes)
        if vectors is not None:
            for d in np.flatnonzero(vectors.any(axis=1)):
                vector = vectors[d].astype(np.float64)
                known[d] = vector / np.linalg.norm(vector)
        expected = oracle.update(boxes.astype(np.float64), labels, known)
        assert len(tracks) == len(expected), f"frame {number}"
        free = dict(zip(tracks.ids.tolist(), tracks.boxes.astype(np.float64), strict=True))
        for identity, box in expected.items():
            if identity not in renamed:  # a new object: the oracle's box says which one it is
                unnamed = [i for i in free if i not in renamed.values()]
                assert unnamed, f"frame {number}: no new track for the oracle's {identity}"
                renamed[identity] = min(unnamed, key=lambda i: float(np.abs(free[i] - box).max()))
            got = free[renamed[identity]]
            assert np.abs(got - box).max() <= 1e-6 * max(1.0, float(np.abs(box).max())), f"frame {number}"
            compared += 1
        assert {renamed[identity] for identity in expected} == set(free)
    assert len(set(renamed.values())) == len(renamed)
    return compared


def wandering(
    seed: int, frames: int, objects: int, miss: float, appearance: bool, unknown: float, classes: int
) -> list[Frame]:
    """Objects that wander about a small picture, with misses, false alarms and noisy looks."""
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform(0, 400, (objects, 2)), rng.normal(0, 3, (objects, 2))
    size = rng.uniform((15, 30), (60, 120), (objects, 2))
    label, look = rng.integers(0, classes, objects), rng.normal(size=(objects, 12))
    result: list[Frame] = []
    for _ in range(frames):
        place = place + speed
        speed = speed + rng.normal(0, 0.5, speed.shape)
        size = size * np.exp(rng.normal(0, 0.01, size.shape))
        seen = rng.random(objects) >= miss
        false = int(rng.integers(0, 3))
        corner = np.concatenate((place[seen] + rng.normal(0, 1, (seen.sum(), 2)), rng.uniform(0, 400, (false, 2))))
        extent = np.concatenate((size[seen], rng.uniform(15, 120, (false, 2))))
        vectors = np.concatenate((look[seen] + rng.normal(0, 0.2, (seen.sum(), 12)), rng.normal(size=(false, 12))))
        vectors[rng.random(len(vectors)) < unknown] = 0
        labels = np.concatenate((label[seen], rng.integers(0, classes, false)))
        order = rng.permutation(len(labels))
        boxes = np.concatenate((corner, corner + extent), axis=1)[order].astype(np.float32)
        result.append((boxes, labels[order], vectors[order].astype(np.float32) if appearance else None))
    return result


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.integers(0, 8),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.booleans(),
    st.sampled_from([0.0, 0.3]),
    st.integers(1, 2),
    st.booleans(),
    st.sampled_from([10.0, 30.0]),
    st.integers(1, 12),
    st.sampled_from([(0.0, 0.0), (0.5, 0.05)]),
)
def test_made_up_sequences(
    seed: int,
    frames: int,
    objects: int,
    miss: float,
    appearance: bool,
    unknown: float,
    classes: int,
    class_aware: bool,
    rate: float,
    max_age: int,
    published_or_default: tuple[float, float],
) -> None:
    motion_weight, min_overlap = published_or_default
    options = replace(
        TrackerOptions.published(rate),
        motion_weight=motion_weight,
        min_overlap=min_overlap,
        max_age_s=max_age / rate,
        gallery_size=1 + seed % 7,
        n_init=1 + seed % 4,
        class_aware=class_aware,
    )
    compare(wandering(seed, frames, objects, miss, appearance, unknown, classes), options, max_age)


def test_made_up_sequences_do_give_tracks() -> None:
    options = replace(TrackerOptions.published(30.0), class_aware=True)
    for appearance in (False, True):
        assert compare(wandering(1, 80, 6, 0.1, appearance, 0.1, 2), options, 30) > 200


@pytest.mark.parametrize("appearance", [False, True], ids=["boxes", "appearance"])
@pytest.mark.parametrize("name", MOT)
def test_recorded_detections(name: str, appearance: bool, shared_data: Path) -> None:
    path = shared_data / "mot" / name / "det" / "det.txt"
    if not path.is_file():
        pytest.skip(f"no detections at {path}")
    numbers, values = read_detections(path)
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(8, 16))

    def frames() -> Iterable[Frame]:
        for number in range(1, min(int(numbers[-1]), 400) + 1):
            rows = values[numbers == number]
            boxes = np.concatenate((rows[:, :2], rows[:, :2] + rows[:, 2:4]), axis=1).astype(np.float32)
            vectors = None
            if appearance:  # the file has no pictures: a look per region of the picture, noisy and at times unknown
                region = (rows[:, 0] // 200).astype(int) % 8
                vectors = (looks[region] + rng.normal(0, 0.15, (len(rows), 16))).astype(np.float32)
                vectors[rng.random(len(rows)) < 0.1] = 0
            yield boxes, np.zeros(len(rows), np.int64), vectors

    assert compare(frames(), TrackerOptions.published(25.0), 30) > 200
