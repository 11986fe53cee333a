"""The tracker node over real DDS."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from node_bench import Bench, Child, found
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray

Start = Callable[..., Child]


def answer(bench: Bench, tracks: list[Any], message: Any) -> Any:
    """Publish detections and wait for the tracks of this very header."""
    bench.publisher(Detection2DArray, "/detections").publish(message)
    return bench.wait(lambda: next((t for t in reversed(tracks) if t.header == message.header), None), "for tracks")


def warm(bench: Bench, tracks: list[Any]) -> None:
    for number in range(600):
        if tracks:
            break
        bench.publisher(Detection2DArray, "/detections").publish(found(1.0 + number * 0.1))
        time.sleep(0.1)
    bench.wait(lambda: tracks)


def test_detections_become_tracks_with_an_identity(bench: Bench, start: Start) -> None:
    node = start("tracker_node", **{"appearance": False, "tracker.coast_s": 0.0})
    tracks = bench.collect(Detection2DArray, "tracks")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    warm(bench, tracks)

    ids = set()
    for number in range(8):
        stamp = 1000.0 + number * 0.1
        message = answer(bench, tracks, found(stamp, (10.0 + number, 10.0), (22.0, 12.0)))
        ids |= {d.id for d in message.detections}
    assert len(ids) == 2 and all(int(identity) > 0 for identity in ids)
    assert len(message.detections) == 2
    for detection in message.detections:
        assert detection.header == message.header
        assert detection.results[0].hypothesis.class_id == "person"
        assert detection.results[0].hypothesis.score == pytest.approx(0.8, abs=1e-6)
    assert min(abs(d.bbox.center.position.x - 17.0) for d in message.detections) < 2.0

    # Frames without objects age the tracks and are answered.
    assert list(answer(bench, tracks, found(1000.8)).detections) == []
    again = answer(bench, tracks, found(1000.9, (19.0, 10.0), (22.0, 12.0)))
    assert {d.id for d in again.detections} <= ids

    # A frame out of order changes nothing and is counted.
    before = len(tracks)
    bench.publisher(Detection2DArray, "/detections").publish(found(1000.85, (19.0, 10.0)))
    bench.wait(lambda: bench.figures(diagnostics).get("dropped.late") == "1", "for the late frame")
    assert len(tracks) == before

    # A recording that starts again gives new identities.
    for number in range(8):
        message = answer(bench, tracks, found(50.0 + number * 0.1, (10.0 + number, 10.0)))
    assert len(message.detections) == 1 and message.detections[0].id not in ids
    bench.wait(lambda: bench.figures(diagnostics).get("resets") == "1")
    assert "all tracks are forgotten" in node.log() and "Traceback" not in node.log()


def test_numbers_that_are_none_harm_nobody(bench: Bench, start: Start) -> None:
    node = start("tracker_node", appearance=False)
    tracks = bench.collect(Detection2DArray, "tracks")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    warm(bench, tracks)
    for number in range(5):
        message = found(1000.0 + number * 0.1, (10.0, 10.0), (float("nan"), 5.0), (5.0, float("inf")))
        message.detections[0].bbox.size_x = 8.0
        result = answer(bench, tracks, message)
    assert len(result.detections) == 1
    bench.wait(lambda: bench.figures(diagnostics).get("dropped.box") == "10")
    assert bench.figures(diagnostics)["refused.score"] == "0"  # what the tracker itself leaves out is told too
    message = found(1000.5, (10.0, 10.0), (40.0, 40.0))
    message.detections[1].results[0].hypothesis.score = 80.0  # percent: no score
    assert len(answer(bench, tracks, message).detections) == 1
    answer(bench, tracks, found(1000.6, *[(float(x), 10.0) for x in range(2, 602)]))  # more than are tracked
    bench.wait(lambda: bench.figures(diagnostics).get("refused.excess") == "100")
    assert bench.figures(diagnostics)["refused.score"] == "1"
    assert node.process.poll() is None and "Detections were left out" in node.log()


def test_appearance_is_used_where_the_images_are_and_missed_without_harm(
    bench: Bench, start: Start, tiny_appearance: Path
) -> None:
    node = start("tracker_node", appearance_weights=str(tiny_appearance), device="cpu", image_reliability="reliable")
    tracks = bench.collect(Detection2DArray, "tracks")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.wait(lambda: bench.node.count_subscribers("/rgb/image_raw") > 0, "for the tracker")
    warm(bench, tracks)

    def figure(name: str) -> int:
        return int(bench.figures(diagnostics).get(name, -1))

    for number in range(5):
        stamp = 1000.0 + number * 0.1
        bench.send_pair(stamp, value=50)
        time.sleep(0.1)
        message = answer(bench, tracks, found(stamp, (12.0, 10.0)))
    assert len(message.detections) == 1
    bench.wait(lambda: figure("with_appearance") + figure("motion_only") == 5)
    assert figure("with_appearance") > 0
    missed = figure("motion_only")

    identity = message.detections[0].id
    message = answer(bench, tracks, found(1000.5, (12.0, 10.0)))  # no image has this stamp
    bench.wait(lambda: figure("motion_only") == missed + 1, "for the fall back to motion")
    assert [d.id for d in message.detections] == [identity]
    assert "tracked by motion alone" in node.log()


def test_the_reset_service_forgets_the_tracks_but_not_the_count_of_ids(bench: Bench, start: Start) -> None:
    node = start("tracker_node", appearance=False)
    tracks = bench.collect(Detection2DArray, "tracks")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    warm(bench, tracks)
    for number in range(5):
        message = answer(bench, tracks, found(1000.0 + number * 0.1, (10.0, 10.0)))
    (before,) = {d.id for d in message.detections}

    told = bench.call(Trigger, "/tracker_node/reset", Trigger.Request())
    assert told.success and "forgotten" in told.message

    assert list(answer(bench, tracks, found(1000.5, (10.0, 10.0))).detections) == []
    for number in range(5):
        message = answer(bench, tracks, found(1000.6 + number * 0.1, (10.0, 10.0)))
    (after,) = {d.id for d in message.detections}
    assert int(after) > int(before)
    bench.wait(lambda: bench.figures(diagnostics).get("resets") == "1")
    assert "Traceback" not in node.log()


def test_camera_motion_is_looked_for_in_every_frame_with_images(bench: Bench, start: Start) -> None:
    start(
        "tracker_node",
        **{"appearance": False, "tracker.motion_compensation": "affine", "image_reliability": "reliable"},
    )
    tracks = bench.collect(Detection2DArray, "tracks")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.wait(lambda: bench.node.count_subscribers("/rgb/image_raw") > 0, "for the tracker")
    warm(bench, tracks)
    for number in range(4):  # a picture without corners, and half of the frames without objects
        stamp = 1000.0 + number * 0.1
        bench.send_pair(stamp, value=50)
        time.sleep(0.1)
        answer(bench, tracks, found(stamp, *[(12.0, 10.0)] * (number % 2)))

    def skipped() -> int:
        return sum(int(bench.figures(diagnostics).get(f"camera_motion.{why}", 0)) for why in ("first", "blank"))

    bench.wait(lambda: skipped() == 4, "for four frames that show no motion")


def test_missing_appearance_weights_end_the_node(start: Start) -> None:
    node = start("tracker_node", appearance_weights="/nowhere/a.safetensors")
    assert node.exit_code() == 1
    assert "There is no weights file /nowhere/a.safetensors" in node.log()


def test_an_option_of_the_tracker_out_of_range_ends_the_node(start: Start) -> None:
    node = start("tracker_node", **{"appearance": False, "tracker.n_init": 0})
    assert node.exit_code() == 1
    assert "'tracker.n_init' is 0, but must be 1 to 1000" in node.log()
