"""The exported model alone, run without this package, answers what torch and its decoding answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mmkd_ros.inference.backends import graph
from mmkd_ros.inference.normalize import network_inputs
from mmkd_ros.inference.weights import load_detector, save_detector
from mmkd_ros.network import Detector, DetectorConfig
from mmkd_ros.network.anchors import decode_boxes
from mmkd_train.__main__ import main

CONFIG = DetectorConfig(
    backbone="mobilenetv3_small_100", input_size=(64, 96), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
)
REASON = "pip install --no-deps -r requirements/backends.txt"
SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}


@pytest.fixture()
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    detector = Detector(CONFIG)
    for head in (detector.class_head, detector.box_head):
        torch.nn.init.normal_(head.predict.weight, std=0.3)
    save_detector(tmp_path / "tiny.safetensors", detector, {})
    return tmp_path / "tiny.safetensors"


def images(modality: str) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(5)
    both = {
        "rgb": rng.integers(0, 256, (1, 64, 96, 3), np.uint8),
        "thermal": rng.integers(0, 256, (1, 64, 96), np.uint8),
        "present": np.ones(2, np.float32),
    }
    return both if modality == "both" else {modality: both[modality]}


def expected(weights: Path, given: dict[str, NDArray[Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(probabilities (A, C), boxes (A, 4))."""
    detector, _ = load_detector(weights)
    tensors = [torch.from_numpy(given[name]) if name in given else None for name in ("rgb", "thermal")]
    with torch.no_grad():
        output = detector(*network_inputs(tensors[0], tensors[1], CONFIG))
    return output.logits[0].softmax(-1)[:, :-1], decode_boxes(output.offsets[0], detector.anchors(64, 96))


def run_onnx(path: Path, given: dict[str, NDArray[Any]]) -> tuple[list[Any], dict[str, str]]:
    session = pytest.importorskip("onnxruntime", reason=REASON).InferenceSession(path)
    return session.run(["boxes", "scores", "labels"], given), session.get_modelmeta().custom_metadata_map


def run_openvino(path: Path, given: dict[str, NDArray[Any]]) -> tuple[list[Any], dict[str, str]]:
    openvino = pytest.importorskip("openvino", reason=REASON)
    model = openvino.Core().read_model(path)
    found = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(given)
    keys = ("config", "class_names", "weights_sha256", "modality", "thermal_contract")
    outputs = [found[name] for name in ("boxes", "scores", "labels")]
    return outputs, {key: model.get_rt_info(["framework", key]).astype(str) for key in keys}


@pytest.mark.parametrize(
    ("kind", "modality"), [("onnx", "both"), ("onnx", "rgb"), ("openvino", "both"), ("openvino", "thermal")]
)
def test_the_file_stands_alone(weights: Path, tmp_path: Path, kind: str, modality: str) -> None:
    for package in ("onnx", "onnxruntime" if kind == "onnx" else "openvino"):
        pytest.importorskip(package, reason=REASON)
    output = tmp_path / "out" / f"model{SUFFIX[kind]}"
    command = ["export", "--weights", str(weights), "--format", kind, "--output", str(output), "--modality", modality]
    assert main(command) == 0
    assert {path.suffix for path in output.parent.iterdir()} == ({".onnx"} if kind == "onnx" else {".xml", ".bin"})
    given = images(modality)
    (boxes, scores, labels), description = (run_onnx if kind == "onnx" else run_openvino)(output, given)
    probabilities, all_boxes = expected(weights, given)
    assert boxes.shape == (len(scores), 4) and len(scores) == len(labels) == min(1000, probabilities.numel())
    best, index = probabilities.flatten().topk(len(scores))
    np.testing.assert_allclose(scores, best.numpy(), atol=1e-3)
    # Equal scores may swap places: each answer is held to the nearest anchor with its label.
    for box, score, label in list(zip(boxes, scores, labels, strict=True))[:50]:
        near = (probabilities[:, label] - float(score)).abs() < 1e-3
        assert float((all_boxes[near] - torch.from_numpy(np.asarray(box))).abs().amax(1).min()) < 0.5
    assert len(set(index[:50].tolist())) == 50
    assert DetectorConfig.from_dict(json.loads(description["config"])) == CONFIG
    assert json.loads(description["class_names"]) == list(CONFIG.class_names) and description["modality"] == modality
    assert description["weights_sha256"] == load_detector(weights)[1]["sha256"]
    assert "uint8" in description["thermal_contract"]


def test_the_graph_decodes_as_the_session_does(weights: Path) -> None:
    detector, _ = load_detector(weights)
    given = images("both")
    with torch.no_grad():
        boxes, scores, labels = graph.DetectionGraph(detector, "both")(*map(torch.from_numpy, given.values()))
    probabilities, all_boxes = expected(weights, given)
    row, label = divmod(int(probabilities.argmax()), len(CONFIG.class_names))
    torch.testing.assert_close(boxes[0], all_boxes[row])
    assert int(labels[0]) == label and float(scores[0]) == pytest.approx(float(probabilities.max()))
    assert bool((scores.diff() <= 0).all())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--output", "model.xml"], "must end in .onnx"),
        (["--weights", "none.safetensors"], "does not exist"),
        (["--input-size", "100", "96"], "input_size must be (height, width) in multiples of 32"),
    ],
)
def test_what_cannot_be_written_is_said(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], sentence: str
) -> None:
    options = ["--weights", str(weights), "--format", "onnx", "--output", str(tmp_path / "model.onnx")]
    assert main(["export", *options, *change]) == 2  # of an option that is given twice the last counts
    assert sentence in capsys.readouterr().err


def test_another_input_size_is_exported_and_said(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason=REASON)
    options = ["--format", "onnx", "--output", str(tmp_path / "model.onnx"), "--input-size", "96", "128"]
    assert main(["export", "--weights", str(weights), *options]) == 0
    blank = {"rgb": np.zeros((1, 96, 128, 3), np.uint8), "thermal": np.zeros((1, 96, 128), np.uint8)}
    (boxes, _, _), description = run_onnx(tmp_path / "model.onnx", {**blank, "present": np.ones(2, np.float32)})
    assert len(boxes) > 0 and json.loads(description["config"])["input_size"] == [96, 128]


def test_a_missing_package_is_named(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert main(["export", "--weights", str(weights), "--format", "onnx", "--output", str(tmp_path / "m.onnx")]) == 2
    assert "package onnx cannot be imported" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.safetensors"]
