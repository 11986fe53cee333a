"""Memory: bounded galleries, no list of the dead, whatever the length of the run."""

from __future__ import annotations

from mmkd_train.tracking_eval.soak import held_bytes, soak


def test_the_tracker_is_as_heavy_after_20000_frames_as_after_1000() -> None:
    weights = list(soak(20_000, marks=20))
    assert [weight.frames for weight in weights] == list(range(1000, 20_001, 1000))
    assert weights[-1].ids > 3000 and all(weight.tracks < 60 for weight in weights)
    # The block of frames repeats, so a mark meets the same living tracks. What may differ: the digits of a counter.
    assert max(weight.tracker_bytes for weight in weights[1:]) <= weights[1].tracker_bytes + 2048


def test_the_scales_see_what_grows() -> None:
    class Hoarder:
        def __init__(self) -> None:
            self.dead: list[dict[str, int]] = []

    hoarder = Hoarder()
    before = held_bytes(hoarder)
    hoarder.dead += [{"id": number} for number in range(1000)]
    assert held_bytes(hoarder) - before > 100_000
