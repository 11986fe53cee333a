"""The nodes on a robot that has no torch: exported models and cached graphs run, what needs torch says so."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from node_bench import Bench, Child
from vision_msgs.msg import Detection2DArray

Start = Callable[..., Child]


@pytest.fixture(autouse=True)
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime, and an empty cache of this test."""
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install --no-deps -r requirements/backends.txt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def start_node(start: Start, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a node without torch: ``start_node("detection_node", weights=...)``."""

    def _start(node: str, **parameters: Any) -> Child:
        monkeypatch.setenv("MMKD_TEST_NODE", node)
        return start("without_torch", **parameters)

    return _start


@pytest.mark.parametrize("kind", ["exported", "cached"])
def test_both_nodes_need_no_torch(
    bench: Bench, start_node: Start, tiny_weights: Path, tiny_appearance: Path, tmp_path: Path, kind: str
) -> None:
    from mmkd_ros.inference import InferenceSession
    from mmkd_ros.tracking.appearance import AppearanceEncoder
    from mmkd_train.export import export

    files = [tiny_weights, tiny_appearance]
    if kind == "exported":
        files = [export(path, "onnx", tmp_path / f"{path.stem}.onnx")[0] for path in files]
    else:  # by an earlier start, with torch
        InferenceSession(tiny_weights, "cpu", backend="onnxruntime")
        AppearanceEncoder(tiny_appearance, "cpu", backend="onnxruntime")
    weights, looks = map(str, files)
    node = start_node("composed_node", weights=weights, appearance_weights=looks, backend="onnxruntime")
    tracks = bench.collect(Detection2DArray, "tracks")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.warm(tracks)

    def figures() -> dict[str, str]:
        statuses = [s for message in diagnostics for s in message.status if "detection_node" in s.name]
        return {pair.key: pair.value for pair in statuses[-1].values} if statuses else {}

    bench.wait(figures, "for diagnostics")
    assert figures()["backend"] == "onnxruntime" and len(figures()["weights_sha256"]) == 64
    assert figures()["dropped.inference"] == figures()["dropped.internal"] == "0"
    assert "Traceback" not in node.log()


def test_weights_without_a_graph_say_so(start_node: Start, tiny_weights: Path) -> None:
    node = start_node("detection_node", weights=str(tiny_weights))
    assert node.exit_code() == 1
    assert "needs torch and timm, which cannot be imported" in node.log()
    assert "python -m mmkd_train export" in node.log() and "Traceback" not in node.log()


def test_appearance_without_a_graph_says_so(start_node: Start, tiny_appearance: Path) -> None:
    node = start_node("tracker_node", appearance_weights=str(tiny_appearance))
    assert node.exit_code() == 1
    assert "appearance needs torch" in node.log() and "set appearance to false" in node.log()
    assert "Traceback" not in node.log()
