"""Every engine answers as torch does in float32; 'auto' takes the fastest correct one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_detector import need

from mmkd_ros.inference import InferenceError, InferenceSession
from mmkd_ros.inference.backends import backend as backends
from mmkd_ros.inference.backends import cache, selection
from mmkd_ros.inference.backends.exported import ExportedBackend
from mmkd_ros.inference.backends.timing import trial_images
from mmkd_ros.inference.backends.torch_backend import TorchBackend
from mmkd_ros.inference.fold import fold_batch_norms
from mmkd_ros.inference.weights import load_detector, save_detector
from mmkd_ros.network import Detector
from mmkd_ros.types import ImagePair

ENGINES = sorted(backends.ENGINES)


@pytest.fixture()
def weights(lively_weights: Path) -> Path:
    return lively_weights


def reference(weights: Path) -> TorchBackend:
    detector, _ = load_detector(weights)
    fold_batch_norms(detector)
    return TorchBackend(detector, torch.device("cpu"))


@pytest.mark.parametrize("modality", ["both", "rgb", "thermal"])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_answers_as_torch_does(weights: Path, engine: str, modality: str) -> None:
    need(engine)
    right = reference(weights)
    backend = ExportedBackend(engine, right.detector, "tiny", 1)
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (64, 96, 3), np.uint8) if modality != "thermal" else None
    thermal = rng.integers(0, 256, (64, 96), np.uint8) if modality != "rgb" else None
    scores, boxes = selection.disagreement(backend, right, right.detector.anchors(64, 96), (rgb, thermal))
    assert scores < 1e-3 and boxes < 0.5
    # There was something to get wrong: an anchor answers differently from cell to cell.
    assert float(backend(rgb, thermal)[1][:864].reshape(96, 9, 4).std(axis=0).mean()) > 0.01
    # Exporting leaves the network as it was.
    norms = [module for module in right.detector.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_boxes_in_a_real_pair(shared_data: Path, repo_root: Path, engine: str) -> None:
    need(engine)
    rgb_path = sorted((shared_data / "pairs" / "rgb").rglob("*.jpg"))[0]
    thermal_path = next((shared_data / "pairs" / "thermal").rglob(f"{rgb_path.stem}.*"))
    rgb, thermal = cv2.imread(str(rgb_path)), cv2.imread(str(thermal_path), cv2.IMREAD_GRAYSCALE)
    assert rgb is not None and thermal is not None
    pair = ImagePair(np.asarray(rgb[..., ::-1]), np.asarray(thermal), 0.0)
    shipped = repo_root / "models" / "mmkd_student.safetensors"
    right = InferenceSession(shipped, "cpu", score_threshold=0.1)(pair)
    session = InferenceSession(shipped, backend=engine, score_threshold=0.1)
    found = session(pair)
    assert session.backend == engine and session.device == "cpu" and len(found) == len(right) > 0
    np.testing.assert_allclose(found.boxes, right.boxes, atol=0.5)
    np.testing.assert_allclose(found.scores, right.scores, atol=1e-3)
    assert found.labels.tolist() == right.labels.tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_is_an_error_in_every_engine(weights: Path, tmp_path: Path, engine: str) -> None:
    need(engine)
    detector, _ = load_detector(weights)
    detector.class_head.predict.bias.data[0] = float("nan")
    save_detector(tmp_path / "nan.safetensors", detector, {})
    with pytest.raises(InferenceError, match="NaN"):
        InferenceSession(tmp_path / "nan.safetensors", backend=engine)(ImagePair(*trial_images(64, 96), 0.0))


def test_a_damaged_graph_is_made_again(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    need("onnxruntime")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    InferenceSession(weights, backend="onnxruntime")
    (graph,) = (tmp_path / "mmkd_ros").glob("graph-*.onnx")
    sound = graph.read_bytes()
    graph.write_bytes(sound[:-100])
    InferenceSession(weights, backend="onnxruntime")
    assert "is damaged and is made again" in caplog.text
    assert cache.read_cache(graph.name) is not None and list((tmp_path / "mmkd_ros").iterdir()) == [graph]


def test_the_cache_gives_back_what_it_was_given_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.read_cache("a.bin") is None
    cache.write_cache("a.bin", b"content")
    assert cache.read_cache("a.bin") == b"content" and not caplog.records
    path = tmp_path / "mmkd_ros" / "a.bin"
    for damaged in (b"", path.read_bytes()[:-1], path.read_bytes() + b"x"):
        path.write_bytes(damaged)
        caplog.clear()
        assert cache.read_cache("a.bin") is None and "damaged" in caplog.text
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.write_cache("a.bin", b"content")
    assert "cannot be written" in caplog.text
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache_folder() == Path.home() / ".cache" / "mmkd_ros"


def test_names_differ_with_every_fact() -> None:
    names = {cache.cache_name("graph", ".onnx", *facts) for facts in (("a", 1), ("a", 2), ("b", 1), ("a", [1]))}
    assert len(names) == 4 and cache.cache_name("graph", ".onnx", "a", 1) in names


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_package_is_named(weights: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"'{engine}' needs onnx and {engine}.*requirements/backends.txt"):
        InferenceSession(weights, backend=engine)


def test_bad_choices(weights: Path) -> None:
    with pytest.raises(ValueError, match="backend 'abacus' is unknown; use one of torch, onnxruntime"):
        InferenceSession(weights, backend="abacus")
    on_cuda = reference(weights)
    on_cuda._device = torch.device("cuda")
    with pytest.raises(ValueError, match="'openvino' runs on the CPU only"):
        selection.open_backend("openvino", on_cuda, "tiny", 1)
    assert "do not use cuda" in selection.open_backend("auto", on_cuda, "tiny", 1)[1]


class FakeEngine:
    """Answers as torch does, but for a shift of the logits; counts how often it was made."""

    made: list[str] = []
    shift: dict[str, float] = {}
    device = "cpu"

    def __init__(self, name: str, detector: Detector, weights_sha256: str, threads: int) -> None:
        if name in self.shift and np.isinf(self.shift[name]):
            raise ValueError("it refuses the graph.")
        self.name = name
        self._right = TorchBackend(detector, torch.device("cpu"))
        self.made.append(name)

    def __call__(self, *images: Any) -> backends.Answer:
        logits, offsets = self._right(*images)
        wrong = np.zeros_like(logits)
        wrong[0, 0] = self.shift.get(self.name, 0.0)
        return logits + wrong, offsets


@pytest.fixture()
def fake_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakeEngine]:
    """Both engines installed, OpenVINO the fastest and torch the slowest; a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(selection, "ExportedBackend", FakeEngine)
    monkeypatch.setattr(selection, "engine_versions", lambda: {"onnxruntime": "1", "openvino": "2"})
    speed = {"torch": 9.0, "onnxruntime": 5.0, "openvino": 3.0}
    monkeypatch.setattr(selection, "milliseconds", lambda some, _: {name: speed[name] for name in some})
    monkeypatch.setattr(FakeEngine, "made", [])
    monkeypatch.setattr(FakeEngine, "shift", {})
    return FakeEngine


def test_auto_takes_the_fastest_and_remembers_it(weights: Path, fake_engines: type[FakeEngine]) -> None:
    first = InferenceSession(weights, "cpu", backend="auto")
    assert first.backend == "openvino"
    assert first.backend_reason == "openvino: fastest here, openvino 3.0 ms, onnxruntime 5.0 ms, torch 9.0 ms a pair"
    assert fake_engines.made == ["onnxruntime", "openvino"]
    again = InferenceSession(weights, "cpu", backend="auto")
    assert again.backend == "openvino" and fake_engines.made[2:] == ["openvino"]
    assert again.backend_reason == first.backend_reason


@pytest.mark.parametrize(("shift", "sentence"), [(0.5, "scores differ"), (np.nan, "differ"), (np.inf, "refuses")])
def test_auto_leaves_out_what_is_wrong(
    weights: Path, fake_engines: type[FakeEngine], caplog: pytest.LogCaptureFixture, shift: float, sentence: str
) -> None:
    fake_engines.shift["openvino"] = shift
    with caplog.at_level(logging.WARNING):
        session = InferenceSession(weights, "cpu", backend="auto")
    assert session.backend == "onnxruntime"
    assert "Backend openvino is left out" in caplog.text and sentence in caplog.text


def test_a_remembered_engine_that_no_longer_starts_is_replaced(
    weights: Path, fake_engines: type[FakeEngine], caplog: pytest.LogCaptureFixture
) -> None:
    InferenceSession(weights, "cpu", backend="auto")
    fake_engines.shift["openvino"] = np.inf
    assert InferenceSession(weights, "cpu", backend="auto").backend == "onnxruntime"
    assert "does not start" in caplog.text


def test_auto_without_engines_is_torch(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "engine_versions", dict)
    session = InferenceSession(weights, "cpu", backend="auto")
    assert session.backend == "torch" and "requirements/backends.txt" in session.backend_reason
