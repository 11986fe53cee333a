"""Decoding and suppression, held to a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmkd_ros.inference.postprocess import detect, nms


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


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_suppression_equals_the_plain_loop(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(5, 40, (count, 2))), axis=1).astype(np.float32)
    scores = rng.permutation(np.linspace(0.05, 0.95, count)).astype(np.float32)
    labels = rng.integers(0, 3, count)
    assert nms(boxes, scores, labels, 0.5).tolist() == plain_nms(boxes, scores, labels, 0.5)


def test_detect_decodes_the_right_anchor_and_class() -> None:
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 70.0, 90.0], [20.0, 20.0, 30.0, 30.0]])
    logits = torch.full((3, 4), -5.0)
    logits[:, 3] = 5.0
    logits[1] = torch.tensor([-5.0, 4.0, -5.0, 0.0])
    boxes, scores, labels = detect(logits, torch.zeros(3, 4), anchors, 0.3, 0.5, 10)
    np.testing.assert_allclose(boxes, [[50, 50, 70, 90]])
    np.testing.assert_allclose(scores, torch.softmax(logits[1], 0)[1:2].numpy())
    assert labels.tolist() == [1]


def test_detect_keeps_the_best_when_there_are_too_many() -> None:
    anchors = torch.arange(3000)[:, None] * 20.0 + torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    logits = torch.zeros(3000, 2)
    logits[:, 0] = torch.linspace(0, 4, 3000)
    _, scores, _ = detect(logits, torch.zeros(3000, 4), anchors, 0.1, 0.5, 7)
    assert len(scores) == 7
    assert (np.diff(scores) <= 0).all()
    assert scores[0] == pytest.approx(torch.softmax(logits[-1], 0)[0].item())


def test_nothing_above_the_threshold_is_an_empty_answer() -> None:
    boxes, scores, labels = detect(torch.tensor([[0.0, 9.0]]), torch.zeros(1, 4), torch.rand(1, 4), 0.5, 0.5, 10)
    assert boxes.shape == (0, 4) and scores.shape == (0,) and labels.shape == (0,)


def test_nan_is_an_error_not_an_empty_street() -> None:
    with pytest.raises(FloatingPointError, match="NaN"):
        detect(torch.full((1, 2), float("nan")), torch.zeros(1, 4), torch.rand(1, 4), 0.5, 0.5, 10)
