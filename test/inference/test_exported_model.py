"""An exported model as weights: the answers of the torch session in a process that cannot import torch, and every file
that does not fit is refused with a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_detector import need

from mmkd_ros.inference import InferenceError, InferenceSession, WeightsError, exported_model, sealed
from mmkd_ros.inference.backends.backend import ENGINES, OPENVINO_BF16
from mmkd_ros.inference.backends.timing import trial_images
from mmkd_ros.inference.weights import load_detector, save_detector
from mmkd_ros.types import Detections, ImagePair
from mmkd_train import export as exporting

KINDS = [("onnx", "onnxruntime"), ("onnx", "openvino"), ("openvino", "openvino")]
SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}
THRESHOLD = 0.3

# Answers for a pair, for each camera alone, and the sentence for a file that needs torch.
WITHOUT_TORCH = """
import json, sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "timm")))  # importing one of them is an ImportError now
import numpy as np
from mmkd_ros.inference import InferenceSession, WeightsError
from mmkd_ros.inference.backends.timing import trial_images
from mmkd_ros.types import ImagePair

weights, model, backend = sys.argv[1:]
rgb, thermal = trial_images(120, 180)
session = InferenceSession(model, backend=backend, score_threshold=0.3)
session.warm_up()
answers = [session(ImagePair(*images, 0.0)) for images in ((rgb, thermal), (rgb, None), (None, thermal))]
try:
    InferenceSession(weights)
except WeightsError as error:
    sentence = str(error)
print(json.dumps({
    "answers": [[part.tolist() for part in (a.boxes, a.scores, a.labels)] for a in answers],
    "names": session.class_names, "size": session.input_size, "sha256": session.weights_sha256,
    "engine": [session.backend, session.device, session.backend_reason], "sentence": sentence,
}))
"""


@pytest.fixture(scope="module")
def exported(lively_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The detector's file as ONNX and OpenVINO model."""
    need("openvino")
    need("onnxruntime")
    folder = tmp_path_factory.mktemp("exported")
    for kind, suffix in SUFFIX.items():
        exporting.export(lively_weights, kind, folder / f"tiny{suffix}")
    return {kind: folder / f"tiny{suffix}" for kind, suffix in SUFFIX.items()}


def run_without_torch(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def assert_same(found: list[list[Any]], right: Detections) -> None:
    boxes, scores, labels = (np.asarray(part) for part in found)
    assert len(scores) == len(right) > 0
    np.testing.assert_allclose(scores, right.scores, atol=1e-3)
    np.testing.assert_allclose(boxes, right.boxes, atol=0.5)
    assert labels.tolist() == right.labels.tolist()


@pytest.mark.parametrize(("kind", "engine"), KINDS)
def test_a_robot_without_torch_gets_the_same_boxes(
    lively_weights: Path, exported: dict[str, Path], kind: str, engine: str
) -> None:
    answer = run_without_torch(lively_weights, exported[kind], engine)
    session = InferenceSession(lively_weights, "cpu", score_threshold=THRESHOLD)
    rgb, thermal = trial_images(120, 180)
    for found, images in zip(answer["answers"], ((rgb, thermal), (rgb, None), (None, thermal)), strict=True):
        assert_same(found, session(ImagePair(*images, 0.0)))
    assert tuple(answer["names"]) == session.class_names and tuple(answer["size"]) == session.input_size
    assert answer["sha256"] == session.weights_sha256
    assert answer["engine"] == [engine, "cpu", f"{engine}: as asked"]
    assert "tiny.safetensors needs torch and timm" in answer["sentence"] and "mmkd_train export" in answer["sentence"]


def test_auto_times_the_engines_and_remembers(exported: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    first = InferenceSession(exported["onnx"], backend="auto")
    assert first.backend in (*ENGINES, OPENVINO_BF16) and "fastest here" in first.backend_reason
    caplog.clear()
    again = InferenceSession(exported["onnx"], backend="auto")
    assert (again.backend, again.backend_reason) == (first.backend, first.backend_reason) and not caplog.records


def test_nan_is_an_error_in_an_exported_model(lively_weights: Path, tmp_path: Path) -> None:
    need("onnxruntime")
    detector, _ = load_detector(lively_weights)
    detector.class_head.predict.bias.data[5] = float("nan")
    save_detector(tmp_path / "nan.safetensors", detector, {})
    exporting.export(tmp_path / "nan.safetensors", "onnx", tmp_path / "nan.onnx")
    with pytest.raises(WeightsError, match="answered NaN to a trial pair"):
        InferenceSession(tmp_path / "nan.onnx", backend="onnxruntime")


def test_nan_of_one_pair_is_an_inference_error(exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    session = InferenceSession(exported["onnx"], backend="onnxruntime")

    def broken(*_: Any) -> Any:
        raise FloatingPointError("the network answered NaN")

    monkeypatch.setattr(exported_model, "_run", broken)
    with pytest.raises(InferenceError, match="NaN.*skipped"):
        session(ImagePair(*trial_images(64, 96), 0.0))


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_flipped_bit_anywhere_is_found(exported: dict[str, Path], tmp_path: Path, kind: str) -> None:
    content = exported[kind].read_bytes()
    beside = exported[kind].with_suffix(".bin").read_bytes() if kind == "openvino" else b""
    path = tmp_path / exported[kind].name
    for whole in (content, beside):
        for place in np.linspace(0, len(whole) - 1, 7, dtype=int) if whole else ():
            flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
            path.write_bytes(flipped if whole is content else content)
            path.with_suffix(".bin").write_bytes(flipped if whole is beside else beside)
            with pytest.raises(WeightsError, match=r"sha256|not written by"):
                InferenceSession(path, backend="openvino")


def test_files_that_do_not_fit(exported: dict[str, Path], tmp_path: Path) -> None:
    lone = tmp_path / "lone.xml"
    lone.write_bytes(exported["openvino"].read_bytes())
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(b"\x08\x08")
    short = tmp_path / "short.onnx"
    short.write_bytes(exported["onnx"].read_bytes()[:-3])
    for path, sentence in (
        (tmp_path / "none.onnx", "cannot be read"),
        (lone, "lone.bin cannot be read"),
        (foreign, "was not written by `python -m mmkd_train export` of this version, or is truncated; write it again"),
        (short, "is truncated|does not match its own sha256"),
    ):
        with pytest.raises(WeightsError, match=sentence):
            InferenceSession(path, backend="auto")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "0"}, "has format 0, this version reads 1; export it again"),
        ({"modality": "rgb"}, "takes rgb images only; export it with --modality both"),
        ({"trial": json.dumps([[[0.0, 0.0, 9.0, 9.0]], [0.99], [0]])}, "answers otherwise than torch did"),
    ],
)
def test_models_that_do_not_fit(
    exported: dict[str, Path], tmp_path: Path, change: dict[str, str], sentence: str
) -> None:
    onnx = pytest.importorskip("onnx")
    proto = onnx.load(exported["onnx"])
    for entry in proto.metadata_props:
        entry.value = {**change, "seal": sealed.UNSEALED}.get(entry.key, entry.value)
    (tmp_path / "changed.onnx").write_bytes(sealed.seal(proto.SerializeToString()))
    with pytest.raises((WeightsError, ValueError), match=sentence):
        InferenceSession(tmp_path / "changed.onnx", backend="onnxruntime")


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("onnx", {"backend": "torch"}, "backend 'torch' cannot run .*use 'auto' or 'onnxruntime' or 'openvino'"),
        ("openvino", {"backend": "onnxruntime"}, "cannot run .*tiny.xml; use 'auto' or 'openvino'"),
        ("onnx", {"device": "cuda"}, "was built without CUDA; install onnxruntime-gpu in its place"),
        ("onnx", {"device": "cuda:x"}, "device 'cuda:x' is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:1'"),
        ("onnx", {"device": "cuda", "backend": "openvino"}, "runs on the CPU; use device 'cpu', or an .onnx file with"),
        ("onnx", {"device": "cuda", "backend": "torch"}, "runs on the CPU; use device 'cpu', or an .onnx file with"),
        ("openvino", {"device": "cuda"}, "runs on the CPU; use device 'cpu', or an .onnx file with"),
        ("onnx", {"half": "on", "backend": "onnxruntime"}, "half 'on' needs CUDA, or on a CPU the engine 'openvino'"),
        ("onnx", {"input_size": (64, 64)}, r"exported for input size \[64, 96\], not \[64, 64\]; leave input_size at"),
        ("onnx", {"input_size": (64,)}, r"must be height and width in pixels, or 0 and 0, got \[64\]"),
    ],
)
def test_choices_that_do_not_fit(exported: dict[str, Path], kind: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        InferenceSession(exported[kind], **{"backend": "auto", **options})


def test_a_missing_engine_is_named(exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="package onnxruntime cannot be imported.*requirements/backends.txt"):
        InferenceSession(exported["onnx"], backend="onnxruntime")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs onnxruntime or openvino, and none works here.*backends.txt"):
        InferenceSession(exported["onnx"], backend="auto")
