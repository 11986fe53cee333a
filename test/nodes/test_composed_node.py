"""Detection and tracking in one process answer over DDS as the two nodes do."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node_bench import Bench, Child
from vision_msgs.msg import Detection2DArray

Start = Callable[..., Child]


def figures(diagnostics: list[Any], node: str) -> dict[str, str]:
    """The newest values of one of the nodes on /diagnostics."""
    statuses = [status for message in diagnostics for status in message.status if node in status.name]
    return {pair.key: pair.value for pair in statuses[-1].values} if statuses else {}


def tracked(bench: Bench, tracks: list[Any], stamp: float, value: int) -> Any:
    """Publish a pair and wait for its tracks."""
    message, _ = bench.send_pair(stamp, value)
    return bench.wait(lambda: next((t for t in reversed(tracks) if t.header == message.header), None), "for tracks")


def change(bench: Bench, node: str, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return bool(bench.call(ChangeState, f"/{node}/change_state", request).success)


def test_pairs_become_detections_and_tracks(bench: Bench, start: Start, some_file: Path, tiny_appearance: Path) -> None:
    node = start("fake_composed", weights=str(some_file), appearance_weights=str(tiny_appearance), device="cpu")
    detections = bench.collect(Detection2DArray, "detections")
    tracks = bench.collect(Detection2DArray, "tracks")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.warm(tracks)
    detections.clear()
    assert {"detection_node", "tracker_node"} <= set(bench.node.get_node_names())
    # One subscription a camera, and none of the tracker to the detections: the other is the bench's own.
    assert bench.node.count_subscribers("/rgb/image_raw") == bench.node.count_subscribers("/thermal/image_raw") == 1
    assert bench.node.count_subscribers("/detections") == 1

    for number in range(6):
        answer = tracked(bench, tracks, 1000.0 + number * 0.1, 1)
    assert [int(detection.id) > 0 for detection in answer.detections] == [True]
    bench.wait(lambda: len(detections) == 6, "for the detections")
    assert [message.header for message in detections] == [message.header for message in tracks]
    assert all(len(message.detections) == 1 for message in detections)
    bench.wait(lambda: int(figures(diagnostics, "tracker_node").get("with_appearance", 0)) >= 6)
    values = figures(diagnostics, "tracker_node")
    assert values["motion_only"] == "0" and values["messages"] == values["messages_in"]

    node.process.send_signal(signal.SIGINT)
    assert node.exit_code() == 0 and "Traceback" not in node.log()


def test_each_node_keeps_its_own_life(bench: Bench, start: Start, some_file: Path) -> None:
    start("fake_composed", weights=str(some_file), appearance=False)
    detections = bench.collect(Detection2DArray, "detections")
    tracks = bench.collect(Detection2DArray, "tracks")
    bench.warm(tracks)
    assert change(bench, "tracker_node", Transition.TRANSITION_DEACTIVATE)
    tracks.clear()
    message, _ = bench.send_pair(1000.0, 1)
    bench.wait(lambda: any(found.header == message.header for found in detections), "for detections without tracker")
    time.sleep(0.3)
    assert not tracks
    assert change(bench, "tracker_node", Transition.TRANSITION_ACTIVATE)
    tracked(bench, tracks, 1001.0, 1)
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert change(bench, "detection_node", transition)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert change(bench, "detection_node", transition)
    bench.warm(tracks)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"weights": "/nowhere/w.safetensors", "appearance": False}, "There is no weights file /nowhere/w.safetensors"),
        ({"appearance_weights": "/nowhere/a.safetensors"}, "There is no weights file /nowhere/a.safetensors"),
        ({"appearence": False}, "did you mean 'appearance'?"),
    ],
)
def test_what_cannot_start_says_why_and_ends_with_1(start: Start, parameters: dict[str, Any], sentence: str) -> None:
    node = start("composed_node", **parameters)
    assert node.exit_code() == 1
    assert sentence in node.log() and "Traceback" not in node.log()
