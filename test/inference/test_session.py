"""The session: images of any size and either modality in, boxes in pixels of the original image out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmkd_ros.batching import Batcher
from mmkd_ros.inference import InferenceError, InferenceSession
from mmkd_ros.inference.backends.backend import ENGINES, installed
from mmkd_ros.inference.preprocess import PAD, letterbox
from mmkd_ros.inference.weights import save_detector
from mmkd_ros.network import Detector, DetectorConfig
from mmkd_ros.types import Detections, ImagePair

CONFIG = DetectorConfig(
    backbone="mobilenetv3_small_100", input_size=(64, 96), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
)


def always_finds(detector: Detector) -> None:
    """Make every anchor answer 'car' with the anchor itself as the box."""
    detector.class_head.predict.weight.data.zero_()
    bias = detector.class_head.predict.bias.data.view(-1, 4)
    bias[:] = torch.tensor([-9.0, 3.0, -9.0, 0.0])
    detector.box_head.predict.weight.data.zero_()


@pytest.fixture()
def session(tmp_path: Path) -> InferenceSession:
    detector = Detector(CONFIG)
    always_finds(detector)
    save_detector(tmp_path / "tiny.safetensors", detector, {})
    return InferenceSession(tmp_path / "tiny.safetensors", "cpu")


@pytest.mark.parametrize("modality", ["both", "rgb", "thermal"])
def test_boxes_lie_in_the_original_image(session: InferenceSession, modality: str) -> None:
    rgb = np.zeros((480, 640, 3), np.uint8)[..., ::-1] if modality != "thermal" else None
    thermal = np.zeros((512, 640), np.uint16) if modality != "rgb" else None
    found = session(ImagePair(rgb, thermal, 12.5))
    height = 512 if modality == "thermal" else 480
    assert found.stamp == 12.5 and found.modality == modality
    assert len(found) > 0 and set(found.labels.tolist()) == {1}
    assert (found.boxes[:, :2] >= 0).all() and (found.boxes[:, 2] <= 640).all() and (found.boxes[:, 3] <= height).all()
    assert found.boxes[:, 3].max() > 0.8 * height  # the scale back is not lost
    assert found.boxes.dtype == np.float32


def test_letterbox_keeps_the_aspect_and_pads_grey() -> None:
    canvas, scale = letterbox(np.zeros((50, 200), np.uint8), 64, 96)
    assert scale == pytest.approx(96 / 200)
    assert (canvas[:24] == 0).all() and (canvas[24:] == PAD).all()


@pytest.mark.parametrize("size", [(50, 200), (20, 30)])
def test_letterbox_does_not_mind_how_the_pixels_lie(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
    for view in (
        pixels[..., 2::-1],
        pixels[..., :3],
        np.ascontiguousarray(pixels[..., :3])[..., ::-1],
        pixels[::2, :, :3],
    ):
        np.testing.assert_array_equal(letterbox(view, 64, 96)[0], letterbox(np.ascontiguousarray(view), 64, 96)[0])


def test_session_describes_itself(session: InferenceSession) -> None:
    assert session.class_names == ("person", "car", "bicycle")
    assert session.device == "cpu" and session.input_size == (64, 96) and len(session.weights_sha256) == 64
    session.warm_up()


def test_nan_raises_and_the_session_lives_on(session: InferenceSession) -> None:
    weight = session._model.detector.class_head.predict.bias
    before = weight.detach().clone()
    pair = ImagePair(np.zeros((64, 96, 3), np.uint8), None, 0.0)
    with torch.no_grad():
        weight.fill_(float("nan"))
    with pytest.raises(InferenceError, match="NaN.*skipped"):
        session(pair)
    with torch.no_grad():
        weight.copy_(before)
    assert len(session(pair)) > 0


def mixed_pairs() -> list[ImagePair]:
    """Pairs of several sizes, some without one of the cameras."""
    rng = np.random.default_rng(3)

    def rgb(height: int, width: int) -> np.ndarray:
        return rng.integers(0, 256, (height, width, 3), np.uint8)

    def thermal(height: int, width: int) -> np.ndarray:
        return rng.integers(0, 60000, (height, width), np.uint16)

    return [
        ImagePair(rgb(48, 64), thermal(32, 40), 1.0),
        ImagePair(rgb(64, 96), None, 2.0),
        ImagePair(None, thermal(24, 32), 3.0),
        ImagePair(rgb(120, 100), thermal(120, 100), 4.0),
    ]


def decided(detector: Detector) -> Detector:
    """Scores far from each other, so that rounding does not decide which box wins."""
    with torch.no_grad():
        detector.class_head.predict.bias.zero_()
        detector.class_head.predict.weight.normal_(0.0, 2000.0)
    return detector


def assert_alike(together: Sequence[Detections | Exception], session: InferenceSession, pairs: list[ImagePair]) -> None:
    """A batch has the boxes that each pair has alone."""
    for pair, found in zip(pairs, together, strict=True):
        alone = session(pair)
        assert isinstance(found, Detections) and len(found) == len(alone) > 0
        assert (found.stamp, found.modality) == (pair.stamp, pair.modality)
        order, other = np.lexsort(found.boxes.T), np.lexsort(alone.boxes.T)  # equal scores may swap places
        np.testing.assert_allclose(found.boxes[order], alone.boxes[other], atol=1e-3)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-3)


@pytest.mark.parametrize("chosen", [(0, 1, 2, 3), (1, 1), (2, 2), (0, 3), (1, 2), (2,)])
def test_a_batch_has_the_boxes_that_each_pair_has_alone(chosen: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    session = InferenceSession.from_detector(decided(Detector(CONFIG)), score_threshold=0.5)
    assert session.batch_size == 1  # measured: on a CPU more at a time are no faster
    pairs = [mixed_pairs()[index] for index in chosen]
    assert_alike(session.detect_batch(pairs), session, pairs)


@pytest.mark.parametrize("backend", ENGINES)
def test_an_engine_takes_a_batch_one_by_one(tmp_path: Path, backend: str) -> None:
    if not installed(backend):
        pytest.skip(f"{backend} is not installed")
    torch.manual_seed(1)
    save_detector(tmp_path / "random.safetensors", decided(Detector(CONFIG)), {})
    session = InferenceSession(tmp_path / "random.safetensors", "cpu", backend=backend, score_threshold=0.5)
    assert session.batch_size == 1
    assert_alike(session.detect_batch(mixed_pairs()), session, mixed_pairs())


def test_nan_in_a_batch_hits_one_pair_alone(session: InferenceSession, monkeypatch: pytest.MonkeyPatch) -> None:
    network = session._model._network  # type: ignore[attr-defined]
    batch = network.batch

    def spoiled(images: Any) -> Any:
        answers = batch(images)
        answers[1][0][5, 2] = np.nan
        return answers

    monkeypatch.setattr(network, "batch", spoiled)
    first, second, third = session.detect_batch([mixed_pairs()[index] for index in (0, 1, 3)])
    assert isinstance(first, Detections) and isinstance(third, Detections)
    assert isinstance(second, InferenceError) and "NaN" in str(second)


def test_a_device_that_fails_is_told_for_the_whole_batch(
    session: InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(images: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(session._model._network, "batch", fails)  # type: ignore[attr-defined]
    pairs = mixed_pairs()[:2]
    with pytest.raises(InferenceError, match="out of memory"):
        session.detect_batch(pairs)
    monkeypatch.setattr(type(session._model), "batch_size", 4)
    answers = Batcher(session, 2)(pairs)
    assert [type(answer) for answer in answers] == [Detections, Detections]


def test_batches_are_warmed_up_as_far_as_they_are_of_use(
    session: InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    network = session._model._network  # type: ignore[attr-defined]
    batch = network.batch
    monkeypatch.setattr(network, "batch", lambda images: (sizes.append(len(images)), batch(images))[1])
    session.warm_up_batches(4)
    assert sizes == []
    monkeypatch.setattr(type(session._model), "batch_size", 3)
    session.warm_up_batches(4)
    assert sizes == [2, 3]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"score_threshold": 1.5}, "score_threshold"),
        ({"nms_iou": 0.0}, "nms_iou"),
        ({"max_detections": 0}, "max_detections"),
        ({"half": "on"}, "needs CUDA"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, object], sentence: str) -> None:
    save_detector(tmp_path / "tiny.safetensors", Detector(CONFIG), {})
    with pytest.raises(ValueError, match=sentence):
        InferenceSession(tmp_path / "tiny.safetensors", **options)  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_half_precision_on_cuda_agrees_with_float32(tmp_path: Path) -> None:
    save_detector(tmp_path / "tiny.safetensors", Detector(CONFIG), {})
    pair = ImagePair(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8), None, 0.0)
    exact = InferenceSession(tmp_path / "tiny.safetensors", "cpu", score_threshold=0.001)(pair)
    half = InferenceSession(tmp_path / "tiny.safetensors", "cuda", score_threshold=0.001)(pair)
    np.testing.assert_allclose(np.sort(half.scores)[-5:], np.sort(exact.scores)[-5:], atol=0.01)


def test_thresholds_may_change_between_pairs(session: InferenceSession) -> None:
    pair = ImagePair(np.zeros((64, 96, 3), np.uint8), None, 0.0)
    session.change(score_threshold=0.0, max_detections=7)
    assert len(session(pair)) == 7
    session.change(score_threshold=0.999)
    assert len(session(pair)) == 0 and session.options.max_detections == 7
    with pytest.raises(ValueError, match="threads cannot change"):
        session.change(threads=2)
    with pytest.raises(ValueError, match="score_threshold"):
        session.change(score_threshold=3.0)
