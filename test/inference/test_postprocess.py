"""Decoding and suppression, held to a plain loop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmkd_ros.inference.network_model import decode
from mmkd_ros.inference.postprocess import Candidates, likely_anchors, nms, suppress


def plain_nms(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64], iou: float
) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        for j in kept:
            if labels[i] != labels[j]:
                continue
            side = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
            common = np.prod(np.maximum(side, 0))
            areas = [np.prod(boxes[k, 2:] - boxes[k, :2]) for k in (i, j)]
            if common / (sum(areas) - common) > iou:
                break
        else:
            kept.append(int(i))
    return kept


def crowd(seed: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Boxes that overlap, scores and labels."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(5, 40, (count, 2))), axis=1).astype(np.float32)
    scores = rng.permutation(np.linspace(0.05, 0.95, count)).astype(np.float32)
    labels = rng.integers(0, 3, count)
    return boxes, scores, labels


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_suppression_equals_the_plain_loop(seed: int, count: int) -> None:
    boxes, scores, labels = crowd(seed, count)
    assert nms(boxes, scores, labels, 0.5).tolist() == plain_nms(boxes, scores, labels, 0.5)


@pytest.mark.parametrize("seed", range(20))
def test_suppression_is_the_same_with_an_older_opencv(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2.dnn, "NMSBoxesBatched")
    boxes, scores, labels = crowd(seed, 60)
    boxes -= 30.0
    kept = nms(boxes.copy(), scores, labels, 0.5).tolist()
    assert kept == plain_nms(boxes, scores, labels, 0.5) and 0 < len(kept) < 60


def detect(
    logits: torch.Tensor, anchors: torch.Tensor, threshold: float, most: int, offsets: torch.Tensor | None = None
) -> Candidates:
    """Decoded and suppressed at IoU 0.5, as a session does it."""
    offsets = torch.zeros(len(logits), 4) if offsets is None else offsets
    return suppress(decode((logits.numpy(), offsets.numpy()), anchors, threshold), 0.5, most)


def test_detect_decodes_the_right_anchor_and_class() -> None:
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 70.0, 90.0], [20.0, 20.0, 30.0, 30.0]])
    logits = torch.full((3, 4), -5.0)
    logits[:, 3] = 5.0
    logits[1] = torch.tensor([-5.0, 4.0, -5.0, 0.0])
    boxes, scores, labels = detect(logits, anchors, 0.3, 10)
    np.testing.assert_allclose(boxes, [[50, 50, 70, 90]])
    np.testing.assert_allclose(scores, torch.softmax(logits[1], 0)[1:2].numpy(), rtol=1e-6)
    assert labels.tolist() == [1]


def test_detect_keeps_the_best_when_there_are_too_many() -> None:
    anchors = torch.arange(3000)[:, None] * 20.0 + torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    logits = torch.zeros(3000, 2)
    logits[:, 0] = torch.linspace(0, 4, 3000)
    _, scores, _ = detect(logits, anchors, 0.1, 7)
    assert len(scores) == 7
    assert (np.diff(scores) <= 0).all()
    assert scores[0] == pytest.approx(torch.softmax(logits[-1], 0)[0].item())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-4, 0.05, 0.3, 0.5, 0.9]), st.integers(1, 4))
def test_the_likely_anchors_are_those_of_the_whole_softmax(seed: int, threshold: float, classes: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (200, classes + 1)).astype(np.float32)
    rows, scores, labels = likely_anchors(logits, threshold)
    probabilities = torch.from_numpy(logits).softmax(dim=1)[:, :-1].numpy()
    every = dict(zip(zip(rows.tolist(), labels.tolist(), strict=True), scores.tolist(), strict=True))
    assert len(every) == len(rows) == int((probabilities > threshold).sum())
    for place, score in every.items():
        assert score == pytest.approx(float(probabilities[place]), rel=1e-5)


def test_nothing_above_the_threshold_is_an_empty_answer() -> None:
    boxes, scores, labels = detect(torch.tensor([[0.0, 9.0]]), torch.rand(1, 4), 0.5, 10)
    assert boxes.shape == (0, 4) and scores.shape == (0,) and labels.shape == (0,)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_nan_is_an_error_not_an_empty_street(wrong: float) -> None:
    with pytest.raises(FloatingPointError, match="NaN"):
        detect(torch.full((1, 2), wrong), torch.rand(1, 4), 0.5, 10)
    sure = torch.tensor([[9.0, 0.0]])
    with pytest.raises(FloatingPointError, match="NaN"):
        detect(sure, torch.rand(1, 4), 0.5, 10, torch.full((1, 4), wrong))
