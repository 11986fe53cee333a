"""Train, val and test from an owner's frames, so that frames which look alike never lie in two splits made here.

Frames follow each other in all of these sets, and a random split would put a picture and its neighbour of half a second
later into training and validation: the figures would measure memory. So whole groups are drawn, never frames:

1. The published test split stays as it is, and the published training part is divided into train and val.
   A set without a published test split gives up groups for that as well.
2. A group is a sequence (a drive, a camera view), or a block of consecutive numbers where the owner does not say where
   a sequence ends. Groups are drawn by seed, apart for day and night where that is known.
3. Where blocks meet, frames of the drawn split that are fewer than ``guard`` numbers away from the rest are left out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmkd_train.data.adapters.layout import Adapter, Frame

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How an owner's frames are divided.

    Raises:
        ValueError: shares that are negative or leave nothing for training, or ``every`` below 1.
    """

    val: float = 0.1
    """Share of the frames outside the published test split that validate."""
    test: float = 0.2
    """Share that tests, for sets without a published test split only."""
    every: int = 1
    """Keep each so manieth frame of a sequence; 20 on KAIST is the published test list."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.val, self.test) < 0 or self.val + self.test >= 1:
            raise ValueError(
                f"val and test are shares whose sum leaves something for training, got {self.val} and {self.test}."
            )
        if self.every < 1 or self.seed < 0:
            raise ValueError(f"every must be at least 1 and seed not negative, got {self.every} and {self.seed}.")


def group_of(frame: Frame, block: int) -> str:
    """Name of the group that a frame goes with."""
    return f"{frame.sequence}/{frame.number // block * block:05d}" if block else frame.sequence


def _thin(frames: Iterable[Frame], every: int) -> list[Frame]:
    """Each ``every``-th frame of each sequence: the numbers 19, 39, ... of a gapless one for 20."""
    sequences: dict[str, list[Frame]] = defaultdict(list)
    for frame in sorted(frames, key=lambda frame: (frame.sequence, frame.number)):
        sequences[frame.sequence].append(frame)
    return [frame for members in sequences.values() for frame in members[every - 1 :: every]]


def _draw(frames: Sequence[Frame], block: int, share: float, rng: np.random.Generator) -> set[str]:
    """Groups that hold about ``share`` of the frames by day, by night and of unknown light; a group is taken if the
    total comes nearer to the share with it."""
    groups: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[group_of(frame, block)].append(frame)
    drawn: set[str] = set()
    for light in (False, True, None):
        names = sorted(name for name, members in groups.items() if members[0].night is light)
        target = share * sum(len(groups[name]) for name in names)
        taken = 0
        for name in (names[position] for position in rng.permutation(len(names))):
            if abs(taken + len(groups[name]) - target) < abs(taken - target):
                drawn.add(name)
                taken += len(groups[name])
    return drawn


def _clear(frames: Iterable[Frame], others: Iterable[Frame], guard: int) -> list[Frame]:
    """The frames that are at least ``guard`` numbers away from all others of their sequence."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for other in others:
        numbers[other.sequence].append(other.number)
    for sequence in numbers.values():
        sequence.sort()

    def is_clear(frame: Frame) -> bool:
        near = numbers[frame.sequence]
        position = bisect_left(near, frame.number - guard + 1)
        return position == len(near) or near[position] >= frame.number + guard

    return [frame for frame in frames if is_clear(frame)] if guard else list(frames)


def divide(frames: Sequence[Frame], adapter: Adapter, options: SplitOptions) -> tuple[dict[str, list[Frame]], int]:
    """Divide the frames of one set; see the module.

    Returns:
        {"train", "val", "test"} -> frames, sorted by sequence and number; how many the guard left out.
    """
    rng = np.random.default_rng(options.seed)
    kept = _thin(frames, options.every)
    test = [frame for frame in kept if frame.split == "test"]
    rest = [frame for frame in kept if frame.split != "test"]
    published = any(frame.split == "test" for frame in frames)
    test_groups = set() if published else _draw(rest, adapter.block, options.test, rng)
    test += [frame for frame in rest if group_of(frame, adapter.block) in test_groups]
    rest = [frame for frame in rest if group_of(frame, adapter.block) not in test_groups]
    val_groups = _draw(rest, adapter.block, options.val, rng)
    train = [frame for frame in rest if group_of(frame, adapter.block) not in val_groups]
    val = [frame for frame in rest if group_of(frame, adapter.block) in val_groups]
    val = _clear(val, train, adapter.guard)
    if not published:
        test = _clear(test, train + val, adapter.guard)
    return {"train": train, "val": val, "test": test}, len(kept) - len(train) - len(val) - len(test)
