"""ONNX Runtime on CUDA, as far as a machine without a GPU can tell: the real graph under providers that only claim to
be there. What a real card answers is held to torch's answer at every start, as on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_detector import need

from mmkd_ros.inference import InferenceSession
from mmkd_ros.inference.backends.timing import trial_images
from mmkd_ros.types import ImagePair
from mmkd_train import export as exporting

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.fixture(scope="module")
def exported(lively_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("onnxruntime")
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    exporting.export(lively_weights, "onnx", path)
    return path


class Runtime:
    """What the fake ONNX Runtime was built with, what of it starts, what was asked of it."""

    def __init__(self) -> None:
        self.built = [TENSORRT, CUDA, CPU]
        self.starts = [TENSORRT, CUDA, CPU]
        self.wrong: list[str] = []
        self.asked: list[list[Any]] = []

    def session(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """A stand-in for its InferenceSession."""
        runtime = self

        class Session:
            def __init__(self, model: bytes, options: object, providers: list[Any]) -> None:
                runtime.asked.append(providers)
                names = [each if isinstance(each, str) else each[0] for each in providers]
                self._providers = [name for name in names if name in runtime.starts]
                self._real = real(model, options, providers=[CPU])

            def get_providers(self) -> list[str]:
                return self._providers

            def get_modelmeta(self) -> Any:
                return self._real.get_modelmeta()

            def run(self, names: None, images: dict[str, Any]) -> list[Any]:
                boxes, scores, labels = self._real.run(names, images)
                return [boxes + 3.0 * (self._providers[0] in runtime.wrong), scores, labels]

        return Session


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runtime:
    onnxruntime = pytest.importorskip("onnxruntime")
    fake = Runtime()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: fake.built)
    monkeypatch.setattr(onnxruntime, "InferenceSession", fake.session(onnxruntime.InferenceSession))
    return fake


@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])
def test_a_card_runs_an_exported_file(
    exported: Path, runtime: Runtime, tmp_path: Path, backend: str, lively_weights: Path
) -> None:
    session = InferenceSession(exported, "cuda:1", backend, score_threshold=0.3)
    assert session.backend in ("onnxruntime tensorrt", "onnxruntime cuda") and session.device == "cuda:1"
    assert all(name in session.backend_reason for name in ("fastest here", "tensorrt", "cuda"))
    first, second, *_ = runtime.asked
    cache = str(tmp_path / "cache" / "mmkd_ros" / "tensorrt")
    assert first == [
        (
            TENSORRT,
            {
                "device_id": 1,
                "trt_fp16_enable": True,
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": cache,
            },
        ),
        (CUDA, {"device_id": 1}),
        CPU,
    ]
    assert second == [(CUDA, {"device_id": 1}), CPU] and Path(cache).is_dir()
    pair = ImagePair(*trial_images(64, 96), 0.0)
    right = InferenceSession(lively_weights, "cpu", "torch", score_threshold=0.3)(pair)
    np.testing.assert_allclose(session(pair).boxes, right.boxes, atol=0.5)
    asked = len(runtime.asked)
    again = InferenceSession(exported, "cuda:1", backend)
    assert again.backend == session.backend and len(runtime.asked) == asked + 1  # remembered, not timed again


def test_a_card_runs_safetensors_where_onnxruntime_is_asked_for(lively_weights: Path, runtime: Runtime) -> None:
    session = InferenceSession(lively_weights, "cuda", "onnxruntime", half="off")
    assert session.backend.startswith("onnxruntime ")
    assert runtime.asked[0][0][1]["trt_fp16_enable"] is False and runtime.asked[0][0][1]["device_id"] == 0


def test_what_does_not_start_or_answers_otherwise_is_left_out(
    exported: Path, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.starts = [CUDA, CPU]  # ONNX Runtime goes on by the next provider, and says so in its own log alone
    with caplog.at_level(logging.WARNING):
        session = InferenceSession(exported, "cuda", "onnxruntime")
    assert session.backend == "onnxruntime cuda"
    assert "onnxruntime tensorrt is left out" in caplog.text and f"does not start {TENSORRT} on GPU 0" in caplog.text
    runtime.starts, runtime.wrong = [TENSORRT, CUDA, CPU], [CUDA]
    assert InferenceSession(exported, "cuda", "onnxruntime", threads=2).backend == "onnxruntime tensorrt"
    runtime.wrong = [TENSORRT, CUDA]
    with pytest.raises(
        ValueError, match="none of onnxruntime tensorrt, onnxruntime cuda works here; use backend 'torch'"
    ):
        InferenceSession(exported, "cuda", "onnxruntime", threads=3)


def test_half_on_means_tensorrt(exported: Path, runtime: Runtime) -> None:
    assert InferenceSession(exported, "cuda", "onnxruntime", half="on").backend == "onnxruntime tensorrt"
    runtime.built = [CUDA, CPU]
    assert InferenceSession(exported, "cuda", "onnxruntime").backend == "onnxruntime cuda"
    with pytest.raises(ValueError, match="half 'on' needs TensorRT in ONNX Runtime"):
        InferenceSession(exported, "cuda", "onnxruntime", half="on")


def test_a_build_without_cuda_is_named(lively_weights: Path, runtime: Runtime) -> None:
    runtime.built = [CPU]
    with pytest.raises(ValueError, match="was built without CUDA; install onnxruntime-gpu in its place"):
        InferenceSession(lively_weights, "cuda", "onnxruntime")


def test_a_folder_that_cannot_be_written_costs_time_alone(
    exported: Path, runtime: Runtime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    session = InferenceSession(exported, "cuda", "onnxruntime", half="on")
    assert session.backend == "onnxruntime tensorrt" and runtime.asked[0][0][1]["trt_engine_cache_enable"] is False
    assert "TensorRT will compile again at every start" in caplog.text


def test_the_processor_is_not_asked_for_a_card(exported: Path, runtime: Runtime) -> None:
    assert InferenceSession(exported, "cpu", "onnxruntime").backend == "onnxruntime"
    assert runtime.asked == [[CPU]]
