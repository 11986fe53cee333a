"""Assignment against its definition, losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd_ros.network import DetectorConfig
from mmkd_ros.network.anchors import anchors_per_level, make_anchors
from mmkd_train.assign import AssignOptions, assign, pairwise_iou
from mmkd_train.losses import (
    DistillOptions,
    LossOptions,
    classification_loss,
    feature_loss,
    kd_loss,
    mask_unlabelled,
    overlap_and_giou,
    regression_loss,
)
from mmkd_train.objective import total_loss

CONFIG = DetectorConfig(input_size=(128, 160))
ANCHORS = make_anchors(CONFIG, 128, 160)
LEVELS = anchors_per_level(CONFIG, 128, 160)


def run(boxes: torch.Tensor, labels: torch.Tensor, ignore: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return assign(ANCHORS, LEVELS, boxes, labels, ignore, 3, CONFIG.anchors_per_cell, AssignOptions())


def test_iou_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    b = torch.tensor([[5.0, 0.0, 15.0, 10.0], [20.0, 20.0, 30.0, 30.0], [0.0, 0.0, 10.0, 10.0]])
    torch.testing.assert_close(pairwise_iou(a, b), torch.tensor([[1 / 3, 0.0, 1.0]]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 8))
def test_every_object_has_an_anchor_and_every_positive_is_one_of_its_objects(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 80
    boxes = torch.cat((corner, corner + 6 + torch.rand(count, 2, generator=generator) * 40), dim=1)
    labels = torch.randint(0, 3, (count,), generator=generator)
    targets, target_boxes = run(boxes, labels, torch.zeros(count, dtype=torch.bool))
    positive = targets < 3
    assert positive.any() and (targets >= 0).all()
    owner = (target_boxes[positive][:, None] == boxes[None]).all(-1)
    assert owner.any(1).all()
    assert torch.equal(targets[positive], labels[owner.float().argmax(1)])
    # An object of which an anchor is the best keeps it, unless a later one shares that very anchor.
    assert owner.any(0).float().mean() >= 1 - 1 / count
    overlap = pairwise_iou(ANCHORS[positive], boxes)[owner]
    assert overlap.min() > 0.1


def test_empty_street_is_all_background_and_ignored_regions_do_not_count() -> None:
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
    assert (run(*none)[0] == 3).all()
    targets, _ = run(torch.tensor([[0.0, 0.0, 80.0, 128.0]]), torch.tensor([0]), torch.tensor([True]))
    centre = (ANCHORS[:, 0] + ANCHORS[:, 2]) / 2
    small = (ANCHORS[:, 2] - ANCHORS[:, 0]) < 20
    assert (
        targets[small & (centre < 60) & (ANCHORS[:, 1] > 0) & (ANCHORS[:, 3] < 128) & (ANCHORS[:, 0] > 0)] == -1
    ).all()
    assert (targets[centre > 120] == 3).all()


def test_focal_loss_golden_value() -> None:
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [5.0, 0.0]]])  # one class + background
    targets = torch.tensor([[0, 1, -1]])
    options = LossOptions(focal_gamma=2.0, focal_alpha=0.25)
    p_object = math.exp(2) / (math.exp(2) + 1)
    p_background = math.e / (math.e + 1)
    expected = 0.25 * (1 - p_object) ** 2 * -math.log(p_object) + 0.75 * (1 - p_background) ** 2 * -math.log(
        p_background
    )
    assert classification_loss(logits, targets, options).item() == pytest.approx(expected, rel=1e-5)


def test_hard_negatives_golden_value() -> None:
    logits = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [-3.0, 0.0], [2.0, 0.0]]])
    targets = torch.tensor([[0, 1, 1, 1]])
    options = LossOptions(classification="hard_negatives", negatives_per_positive=2)
    expected = math.log(2) + math.log(1 + math.e) + math.log(1 + math.exp(2))  # the two worst of three
    assert classification_loss(logits, targets, options).item() == pytest.approx(expected, rel=1e-5)


def test_smooth_l1_golden_value() -> None:
    offsets = torch.tensor([[[0.5, 3.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]]])
    loss = regression_loss(offsets, torch.zeros(1, 2, 4), torch.tensor([[True, False]]))
    assert loss.item() == pytest.approx(0.5 * 0.25 + (3.0 - 0.5))


def test_losses_of_an_empty_street_are_finite_and_zero_where_they_should_be() -> None:
    assert regression_loss(torch.rand(1, 5, 4), torch.zeros(1, 5, 4), torch.zeros(1, 5, dtype=torch.bool)).item() == 0.0
    loss = classification_loss(torch.rand(1, 5, 4), torch.full((1, 5), 3), LossOptions())
    assert math.isfinite(loss.item()) and loss.item() > 0


def test_unlabelled_classes_are_neither_punished_nor_taught() -> None:
    logits = torch.tensor([[[0.0, 9.0, 0.0]]], requires_grad=True)  # a confident answer of class 1 on background
    free = classification_loss(
        mask_unlabelled(logits, torch.tensor([[True, False]])), torch.tensor([[2]]), LossOptions()
    )
    assert free.item() == pytest.approx(0.5 * 0.5**1.5 * math.log(2), rel=1e-4)
    free.backward()
    assert logits.grad is not None and logits.grad[0, 0, 1].item() == 0.0


def test_min_overlap_leaves_an_object_its_best_anchor_and_no_loose_one() -> None:
    boxes = torch.tensor([[20.0, 30.0, 44.0, 80.0], [90.0, 60.0, 97.0, 66.0]])
    labels, ignore = torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool)
    free, _ = run(boxes, labels, ignore)
    strict, owners = assign(
        ANCHORS, LEVELS, boxes, labels, ignore, 3, CONFIG.anchors_per_cell, AssignOptions(min_overlap=0.5)
    )
    overlap = pairwise_iou(ANCHORS, boxes)
    assert (strict == 0).sum() < (free == 0).sum()
    assert overlap[strict == 0, 0].min() >= 0.5
    assert (strict == 1).sum() >= 1 and torch.equal(owners[strict == 1][0], boxes[1])
    with pytest.raises(ValueError, match="min_overlap"):
        AssignOptions(min_overlap=1.0)


def test_giou_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0], [3.0, 3.0, 4.0, 5.0]])
    targets = torch.tensor([[1.0, 0.0, 3.0, 2.0], [2.0, 0.0, 3.0, 1.0], [3.0, 3.0, 4.0, 5.0]])
    iou, giou = overlap_and_giou(boxes, targets)
    torch.testing.assert_close(iou, torch.tensor([1 / 3, 0.0, 1.0]))
    torch.testing.assert_close(giou, torch.tensor([1 / 3, -1 / 3, 1.0]))  # the second pair: hull 3, union 2


def test_quality_focal_golden_value() -> None:
    logits = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    targets, quality = torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.0]])
    options = LossOptions(focal_gamma=2.0, focal_alpha=0.25, quality_target=True)
    p = math.e / (math.e + 1)
    foreground = 0.25 * (0.6 - p) ** 2 * (-0.6 * math.log(p) - 0.4 * math.log(1 - p))
    background = 0.75 * (1 - p) ** 2 * -math.log(p)
    assert classification_loss(logits, targets, options, quality).item() == pytest.approx(
        foreground + background, rel=1e-5
    )
    with pytest.raises(ValueError, match="quality_target"):
        LossOptions(classification="hard_negatives", quality_target=True)


def test_kd_golden_values() -> None:
    student = torch.tensor([[[0.0, 0.0], [2.0, 0.0]]])
    teacher = torch.tensor([[[2.0, 0.0], [0.0, 4.0]]])
    foreground = torch.tensor([[True, False]])

    def kl(p: float, q: float) -> float:
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    first, second = kl(sigmoid(1.0), 0.5), kl(sigmoid(-2.0), sigmoid(1.0))  # logits halved by T = 2
    w1, w2 = sigmoid(2.0), sigmoid(-4.0)
    for weighting, expected in (
        ("none", 4 * (first + second) / 2),
        ("foreground", 4 * first),
        ("teacher_confidence", 4 * (w1 * first + w2 * second) / max(1.0, w1 + w2)),
    ):
        loss = kd_loss(student, teacher, 2.0, weighting, foreground)  # type: ignore[arg-type]
        assert loss.item() == pytest.approx(expected, rel=1e-5), weighting
    assert kd_loss(teacher, teacher, 3.0, "none", foreground).item() == pytest.approx(0.0, abs=1e-6)
    assert kd_loss(student, teacher, 2.0, "foreground", torch.zeros(1, 2, dtype=torch.bool)).item() == 0.0


def test_feature_losses_golden_values() -> None:
    student = [torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), torch.zeros(1, 1, 1, 2)]
    teacher = [torch.tensor([[[[2.0, 1.0, 4.0, 3.0]]]]), torch.full((1, 1, 1, 2), 3.0)]
    assert feature_loss(student, teacher, "mse").item() == pytest.approx((1.0 + 9.0) / 2)
    correlation = 0.6  # Pearson's of (1, 2, 3, 4) and (2, 1, 4, 3); constant channels normalise to zero
    assert feature_loss(student, teacher, "pkd").item() == pytest.approx((1 - correlation) / 2, rel=1e-4)
    scaled = [level * 7.0 - 2.0 for level in teacher]
    assert feature_loss(student, scaled, "pkd").item() == pytest.approx((1 - correlation) / 2, rel=1e-4)


def test_the_total_weighs_its_terms_and_warms_distillation_up() -> None:
    terms = {name: torch.tensor(value) for name, value in
             {"cls": 1.0, "reg": 2.0, "kd": 10.0, "feat_fused": 4.0, "feat_rgb": 8.0}.items()}  # fmt: skip
    options = DistillOptions(alpha=2.0, beta=0.5, gamma=0.1, start=10, warmup=4)
    assert total_loss(terms, options, 9).item() == pytest.approx(6.0)
    assert total_loss(terms, options, 11).item() == pytest.approx(6.0 + 0.5 * (0.5 * 6.0 + 1.0))
    assert total_loss(terms, options, 500).item() == pytest.approx(6.0 + 3.0 + 1.0)
    assert total_loss({name: terms[name] for name in ("cls", "reg")}, options, 500).item() == pytest.approx(6.0)
    assert DistillOptions(beta=0).pyramids == () and DistillOptions(feature_of="fused").pyramids == ("fused",)


@pytest.mark.parametrize("bad", [{"temperature": 0}, {"gamma": -1}, {"weighting": "magic"}, {"feature_kind": "l7"}])
def test_bad_distillation_options(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        DistillOptions(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [{"classification": "magic"}, {"focal_alpha": 2.0}, {"negatives_per_positive": 0}])
def test_bad_options(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        LossOptions(**bad)  # type: ignore[arg-type]
