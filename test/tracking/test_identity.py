"""Track UUIDs: stable within a run, never the same in two."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from mmkd_ros.tracking import DeepSort
from mmkd_ros.tracking.identity import new_run, track_uuid

RUN = uuid.UUID("12345678-1234-4678-9234-567812345678")


def test_golden_value() -> None:
    # RFC 9562: SHA-1 of the namespace's bytes and the name, cut to 128 bits, with version 5 and the variant set
    assert track_uuid(RUN, 7) == bytes.fromhex("f0f70867f3a35aba9c1481a2492f9d29")


def test_same_run_and_id_give_the_same_uuid_and_numpy_ids_do() -> None:
    assert track_uuid(RUN, 7) == track_uuid(RUN, np.int64(7))  # type: ignore[arg-type]
    assert uuid.UUID(bytes=track_uuid(RUN, 7)).version == 5


def test_no_two_ids_and_no_two_runs_share_one() -> None:
    runs = [new_run() for _ in range(3)]
    assert len({track_uuid(run, i) for run in runs for i in range(1, 500)}) == 3 * 499


def test_each_tracker_has_a_run_of_its_own_and_keeps_it_over_a_reset() -> None:
    tracker = DeepSort()
    run = tracker.run
    tracker.reset()
    assert tracker.run == run
    assert DeepSort().run != run


@pytest.mark.parametrize("track_id", [0, -3])
def test_an_id_that_no_tracker_gives_is_refused(track_id: int) -> None:
    with pytest.raises(ValueError, match="count from 1"):
        track_uuid(RUN, track_id)
