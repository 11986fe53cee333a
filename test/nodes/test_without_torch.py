"""The nodes on a robot that has no torch: an exported model runs, what needs torch says so."""

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


@pytest.fixture(scope="module")
def exported(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny detector as ONNX model."""
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install --no-deps -r requirements/backends.txt")
    from mmkd_train.export import export

    (path,) = export(tiny_weights, "onnx", tmp_path_factory.mktemp("exported") / "tiny.onnx")
    return path


@pytest.fixture
def start_node(start: Start, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a node without torch: ``start_node("detection_node", weights=...)``."""

    def _start(node: str, **parameters: Any) -> Child:
        monkeypatch.setenv("MMKD_TEST_NODE", node)
        return start("without_torch", **parameters)

    return _start


def test_an_exported_model_needs_no_torch(bench: Bench, start_node: Start, exported: Path) -> None:
    node = start_node("composed_node", weights=str(exported), backend="onnxruntime", appearance=False)
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


def test_weights_that_need_torch_say_so(start_node: Start, tiny_weights: Path) -> None:
    node = start_node("detection_node", weights=str(tiny_weights))
    assert node.exit_code() == 1
    assert "needs torch and timm, which cannot be imported" in node.log()
    assert "python -m mmkd_train export" in node.log() and "Traceback" not in node.log()


def test_appearance_needs_torch_and_says_so(start_node: Start) -> None:
    node = start_node("tracker_node")
    assert node.exit_code() == 1
    assert "appearance needs torch" in node.log() and "set appearance to false" in node.log()
    assert "Traceback" not in node.log()
