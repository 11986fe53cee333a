"""Which engine runs a weights file, that it answers as torch does in float32, and the graphs in the cache."""

from __future__ import annotations

import errno
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_detector import need

from mmkd_ros.inference import (
    InferenceSession,
    WeightsError,
    cached_graph,
    export_process,
    exported_model,
    exporting,
    loading,
)
from mmkd_ros.inference.backends import backend as backends
from mmkd_ros.inference.backends import cache, openvino_backend
from mmkd_ros.inference.backends.onnx_backend import CompiledGraph
from mmkd_ros.inference.backends.timing import fastest
from mmkd_ros.inference.errors import TorchMissingError
from mmkd_ros.inference.sealed import Sealed, compile_sealed
from mmkd_ros.inference.weights import load_detector, load_weights, save_detector, save_weights
from mmkd_ros.tracking.association import iou_matrix
from mmkd_ros.types import ImagePair

ENGINES = sorted(backends.ENGINES)

# Without torch in this process; the child may import it.
WITHOUT_TORCH = """
import sys
from mmkd_ros.inference import InferenceSession
from mmkd_ros.inference.backends.timing import trial_images
from mmkd_ros.types import ImagePair
session = InferenceSession(sys.argv[1], "cpu", backend=sys.argv[2])
session.warm_up()
session(ImagePair(*trial_images(64, 96), 0.0))
print(session.backend, sorted({"torch", "timm", "torchvision"} & set(sys.modules)))
"""


@pytest.fixture()
def weights(lively_weights: Path) -> Path:
    return lively_weights


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make packages look as if they were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in packages else find(name))


@pytest.mark.parametrize("modality", ["both", "rgb", "thermal"])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_answers_as_torch_does(weights: Path, engine: str, modality: str) -> None:
    need(engine)
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (64, 96, 3), np.uint8) if modality != "thermal" else None
    thermal = rng.integers(0, 256, (64, 96), np.uint8) if modality != "rgb" else None
    pair = ImagePair(rgb, thermal, 0.0)
    right = InferenceSession(weights, "cpu", score_threshold=0.3)(pair)
    session = InferenceSession(weights, backend=engine, score_threshold=0.3)
    session.warm_up()
    found = session(pair)
    assert (session.backend, session.device, session.backend_reason) == (engine, "cpu", f"{engine}: as asked")
    assert session.weights_sha256 == load_detector(weights)[1]["sha256"]
    assert len(found) == len(right) > 0
    np.testing.assert_allclose(found.boxes, right.boxes, atol=0.5)
    np.testing.assert_allclose(found.scores, right.scores, atol=1e-3)
    assert found.labels.tolist() == right.labels.tolist()


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


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_this_process_never_imports_torch(weights: Path, tmp_path: Path, engine: str) -> None:
    need("onnxruntime")
    command = [sys.executable, "-c", WITHOUT_TORCH, str(weights), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[0] in ENGINES and done.stdout.endswith(" []\n")


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_that_answer_nan_are_refused(weights: Path, tmp_path: Path, engine: str) -> None:
    need(engine)
    detector, _ = load_detector(weights)
    detector.class_head.predict.bias.data[0] = float("nan")
    save_detector(tmp_path / "nan.safetensors", detector, {})
    with pytest.raises(WeightsError, match="NaN"):
        InferenceSession(tmp_path / "nan.safetensors", backend=engine)


def test_a_graph_is_exported_once_and_a_damaged_one_again(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    need("onnxruntime")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    exports: list[Path] = []
    export = cached_graph._export

    def counted(file: Path, path: Path, size: tuple[int, int]) -> None:
        exports.append(path)
        export(file, path, size)

    monkeypatch.setattr(cached_graph, "_export", counted)
    with caplog.at_level(logging.INFO):
        InferenceSession(weights, backend="onnxruntime")
    assert "is exported, once and for all later starts" in caplog.text
    InferenceSession(weights, backend="onnxruntime")
    (graph,) = (tmp_path / "mmkd_ros").iterdir()
    assert exports == [graph] and graph.suffix == ".onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    InferenceSession(weights, backend="onnxruntime")
    assert "is made again" in caplog.text and exports == [graph, graph]
    assert list((tmp_path / "mmkd_ros").iterdir()) == [graph]
    InferenceSession(weights, backend="onnxruntime", input_size=(96, 128))
    assert len(exports) == 3 and exports[2] != graph


def test_a_cache_that_cannot_be_written_costs_time_alone(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    need("onnxruntime")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    session = InferenceSession(weights, backend="onnxruntime")
    assert session.backend == "onnxruntime" and "cannot be written; the export will be made again" in caplog.text


def test_torch_is_needed_where_no_graph_is_cached(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("onnxruntime")
    InferenceSession(weights, "cpu", backend="onnxruntime")
    hide(monkeypatch, "torch", "timm")
    assert InferenceSession(weights, "cpu", backend="onnxruntime").backend == "onnxruntime"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for backend in ("onnxruntime", "auto"):
        with pytest.raises(TorchMissingError, match=r"needs torch and timm.*or give a model written by .*export`"):
            InferenceSession(weights, "cpu", backend=backend)


@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])
def test_bad_weights_keep_their_sentences(weights: Path, tmp_path: Path, backend: str) -> None:
    """Some are found in this process, some in the child."""
    need("onnxruntime")
    content = bytearray(weights.read_bytes())
    content[-50] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(content)
    tensors, metadata = load_weights(weights)
    save_weights(tmp_path / "kind.safetensors", tensors, {**metadata, "kind": "appearance_encoder"})
    save_weights(tmp_path / "none.safetensors", tensors, {"kind": metadata["kind"]})
    metadata["config"] = {**metadata["config"], "class_names": ["person"]}
    save_weights(tmp_path / "classes.safetensors", tensors, metadata)
    for name, sentence in (
        ("missing", "does not exist"),
        ("flipped", "does not match its own sha256"),
        ("kind", "holds 'appearance_encoder', not a detector"),
        ("none", "lacks the metadata config, thermal_contract"),
        ("classes", "does not fit the network that it describes"),
    ):
        with pytest.raises(WeightsError, match=sentence):
            InferenceSession(tmp_path / f"{name}.safetensors", "cpu", backend=backend)
    with pytest.raises(ValueError, match=r"input_size must be \(height, width\) in multiples of 32"):
        InferenceSession(weights, "cpu", backend=backend, input_size=(50, 96))


def test_a_child_that_fails_is_told(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("onnxruntime")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match="the export of .* failed \\(exit code 1\\); use backend 'torch'"):
        InferenceSession(weights, backend="onnxruntime")
    session = InferenceSession(weights, "cpu", backend="auto")
    assert session.backend == "torch" and "exit code 1" in session.backend_reason

    def hangs(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("export", 300)

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(ValueError, match="took more than 300 s; use backend 'torch'"):
        InferenceSession(weights, backend="onnxruntime")


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
    hide(monkeypatch, engine)
    with pytest.raises(ValueError, match=f"'{engine}' needs {engine}, not installed.*requirements/backends.txt"):
        InferenceSession(weights, backend=engine)


def test_bad_choices(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="backend 'abacus' is unknown; use one of torch, onnxruntime"):
        InferenceSession(weights, backend="abacus")
    with pytest.raises(ValueError, match="'openvino' runs on the CPU only"):
        InferenceSession(weights, "cuda", backend="openvino")
    monkeypatch.setattr(exported_model, "computes_in_bf16", lambda: False)
    with pytest.raises(ValueError, match="half 'on' needs CUDA"):
        InferenceSession(weights, "cpu", backend="auto", half="on")


@pytest.mark.parametrize("driver", [True, False])
def test_auto_looks_for_the_driver_before_it_imports_torch(driver: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    need("onnxruntime")

    def load(name: str) -> None:
        if not driver:
            raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(backends.ctypes, "CDLL", load)
    asked: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: not asked.append(True))
    engines, reason = backends.choose_engines("auto", "auto")
    assert (not engines, asked) == ((True, [True]) if driver else (False, []))
    assert backends.choose_engines("cpu", "auto")[0] and len(asked) == driver
    assert backends.choose_engines("cuda:1", "auto") == ((), "torch: the other engines do not use cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert backends.choose_engines("auto", "auto")[0]


class FakeEngines:
    """Both engines in one: ONNX Runtime runs the graph under either name.

    Attributes:
        opened: names, in order.
        wrong: names of those that answer otherwise, and of those that refuse the graph.
    """

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.wrong: dict[str, str] = {}

    def compile(self, file: Sealed, engine: str, threads: int, gpu: object = None) -> CompiledGraph:
        assert gpu is None
        self.opened.append(engine)
        if self.wrong.get(engine) == "refuses":
            raise ValueError("it refuses the graph.")
        graph = compile_sealed(file, "onnxruntime", threads)

        def shifted(images: dict[str, Any]) -> list[Any]:
            boxes, scores, labels = graph.run(images)
            return [boxes, scores + 0.5, labels]

        return CompiledGraph(shifted, graph.metadata) if engine in self.wrong else graph


@pytest.fixture()
def engines(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngines:
    """OpenVINO the fastest, on a processor without bfloat16; no choice is remembered."""
    need("onnxruntime")
    fake, names = FakeEngines(), ["onnxruntime", "openvino"]
    speed = {"onnxruntime": 5.0, "openvino": 3.0, "openvino bf16": 2.0}
    monkeypatch.setattr(exported_model, "computes_in_bf16", lambda: False)
    monkeypatch.setattr(loading, "choose_engines", lambda *_: (names, ""))
    monkeypatch.setattr(exported_model, "installed", lambda _: True)
    monkeypatch.setattr(exported_model, "package_version", lambda _: "1")
    monkeypatch.setattr(exported_model, "machine", lambda: str(tmp_path))
    monkeypatch.setattr(exported_model, "compile_sealed", fake.compile)
    monkeypatch.setattr(exported_model, "milliseconds", lambda some, _: {name: speed[name] for name in some})
    return fake


@pytest.mark.parametrize(
    ("times", "choice"),
    [
        ((5.0, 4.0), "openvino: fastest here, openvino 4.0 ms, onnxruntime 5.0 ms a pair"),
        ((4.3, 4.0), "onnxruntime: within 10 % of the fastest here, openvino 4.0 ms, onnxruntime 4.3 ms a pair"),
        ((4.0, 4.3), "onnxruntime: fastest here, onnxruntime 4.0 ms, openvino 4.3 ms a pair"),
    ],
)
def test_the_first_engine_wins_unless_another_is_clearly_faster(times: tuple[float, float], choice: str) -> None:
    best, why = fastest(dict(zip(("onnxruntime", "openvino"), times, strict=True)))
    assert why == choice and why.startswith(f"{best}:")


def test_auto_takes_the_fastest_and_remembers_it(weights: Path, engines: FakeEngines) -> None:
    first = InferenceSession(weights, "cpu", backend="auto")
    assert first.backend == "openvino"
    assert first.backend_reason == "openvino: fastest here, openvino 3.0 ms, onnxruntime 5.0 ms a pair"
    assert engines.opened == ["onnxruntime", "openvino", "openvino"]
    again = InferenceSession(weights, "cpu", backend="auto")
    assert again.backend == "openvino" and engines.opened[3:] == ["openvino"]
    assert again.backend_reason == first.backend_reason


def test_bfloat16_is_one_engine_more_where_the_processor_has_it(
    weights: Path, engines: FakeEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert InferenceSession(weights, "cpu", backend="auto").backend == "openvino"
    monkeypatch.setattr(exported_model, "computes_in_bf16", lambda: True)
    session = InferenceSession(weights, "cpu", backend="auto")
    assert session.backend == "openvino bf16" and "openvino 3.0 ms, onnxruntime 5.0 ms" in session.backend_reason
    assert InferenceSession(weights, "cpu", backend="auto", half="off").backend == "openvino"
    assert InferenceSession(weights, "cpu", backend="openvino").backend == "openvino"
    for backend in ("auto", "openvino"):
        asked = InferenceSession(weights, "cpu", backend=backend, half="on")
        assert asked.backend_reason == "openvino bf16: as asked"
    engines.wrong["openvino bf16"] = "shifts"
    monkeypatch.setattr(exported_model, "machine", lambda: "another")
    assert InferenceSession(weights, "cpu", backend="auto").backend == "openvino"


@pytest.mark.parametrize(
    ("flags", "has_it"),
    [
        ("processor : 0\nflags\t: fpu avx512_bf16 vnni\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t: fpu avx512f\n", False),
        (None, False),
    ],
)
def test_what_computes_in_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, has_it: bool
) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(openvino_backend, "_CPU", tmp_path / "cpuinfo")
    assert openvino_backend.computes_in_bf16() is has_it


def test_bfloat16_finds_the_same_objects_in_real_pairs(shared_data: Path, repo_root: Path) -> None:
    """The stated tolerance: an object above 0.4 keeps its class, has an overlap of 0.8 and its score within 0.06."""
    need("openvino")
    if not openvino_backend.computes_in_bf16():
        pytest.skip("this processor does not compute in bfloat16")
    shipped = repo_root / "models" / "mmkd_student.safetensors"
    exact = InferenceSession(shipped, "cpu", "openvino", score_threshold=0.4, half="off")
    half = InferenceSession(shipped, "cpu", "openvino", score_threshold=0.34, half="on")
    compared = 0
    for path in sorted((shared_data / "pairs" / "rgb").rglob("*.jpg"))[::60]:
        rgb = cv2.imread(str(path))
        thermal = cv2.imread(str(shared_data / "pairs" / "thermal" / path.name), cv2.IMREAD_GRAYSCALE)
        assert rgb is not None and thermal is not None
        pair = ImagePair(np.asarray(rgb[..., ::-1]), np.asarray(thermal), 0.0)
        right, found = exact(pair), half(pair)
        overlaps = iou_matrix(right.boxes.astype(float), found.boxes.astype(float))
        near = np.abs(right.scores[:, None] - found.scores) <= 0.06
        assert ((overlaps >= 0.8) & near & (right.labels[:, None] == found.labels)).any(axis=1).all()
        compared += len(right)
    assert compared > 10


@pytest.mark.parametrize(("fault", "sentence"), [("shifts", "answers otherwise than torch"), ("refuses", "refuses")])
def test_auto_leaves_out_what_is_wrong(
    weights: Path, engines: FakeEngines, caplog: pytest.LogCaptureFixture, fault: str, sentence: str
) -> None:
    engines.wrong["openvino"] = fault
    assert InferenceSession(weights, "cpu", backend="auto").backend == "onnxruntime"
    assert "Backend openvino is left out" in caplog.text and sentence in caplog.text
    engines.wrong["onnxruntime"] = fault
    session = InferenceSession(weights, "cpu", backend="auto")
    assert session.backend == "torch" and "The network is run by torch" in caplog.text


def test_a_remembered_engine_that_no_longer_starts_is_replaced(
    weights: Path, engines: FakeEngines, caplog: pytest.LogCaptureFixture
) -> None:
    InferenceSession(weights, "cpu", backend="auto")
    engines.wrong["openvino"] = "refuses"
    assert InferenceSession(weights, "cpu", backend="auto").backend == "onnxruntime"
    assert "does not start" in caplog.text


def test_auto_without_engines_is_torch(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "onnxruntime", "openvino")
    session = InferenceSession(weights, "cpu", backend="auto")
    assert session.backend == "torch" and "requirements/backends.txt" in session.backend_reason


def test_an_export_that_cannot_be_written_names_the_folder(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "export_weights", full)
    monkeypatch.setattr(export_process.signal, "alarm", lambda _: None)  # this process lives on
    code = export_process.main(weights, tmp_path / "graph.onnx", (0, 0))
    assert code == cached_graph.UNFIT_CHOICE
    said = capsys.readouterr().err
    assert f"the export into {tmp_path} failed" in said and "XDG_CACHE_HOME" in said and "No space" in said
