"""Training for real, on a made-up set: the loss falls, the answer is found, a killed run resumes exactly."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from made_up import training_options as options
from made_up import write_training_sets

from mmkd_ros.inference.weights import load_detector, save_detector
from mmkd_train.ablate import load_ablation, plan
from mmkd_train.batches import StepBatches
from mmkd_train.errors import UserError
from mmkd_train.options import load_options
from mmkd_train.train import build_detector, train

YAML = """
seed: 3
train_size: [96, 160]
evaluate_every: 1000
checkpoint_every: 2
model: {backbone: mobilenetv3_small_100, input_size: [96, 96], bifpn_channels: 16, bifpn_repeats: 1, head_repeats: 1}
data: {pairs_per_batch: 3, thermal_only_per_batch: 1, synthetic_per_batch: 0}
augment: {zoom_min: 0.9, zoom_max: 1.2, darken: 0.0}
optim: {steps: 4, lr: 3.0e-3, backbone_lr: 1.0, warmup: 5, frozen_stages: 0, freeze_norms: false, ema: 0.9}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_training_sets(root, YAML)
    return root


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps the precision of a process's first run; this test's own begins and ends with none."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def logged(output: Path, column: str) -> list[float]:
    with (output / "log.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def test_the_loss_falls(data: Path, tmp_path: Path) -> None:
    weights = train(options(data, tmp_path, "optim.steps=40"))
    cls, reg = logged(tmp_path, "cls"), logged(tmp_path, "reg")
    assert len(cls) == 40
    assert np.mean(cls[-8:]) < 0.7 * np.mean(cls[:8])
    assert np.mean(reg[-8:]) < 0.96 * np.mean(reg[:8])
    detector, metadata = load_detector(weights)
    assert detector.config.backbone == "mobilenetv3_small_100"
    assert metadata["metrics"]["val"]["pairs"] == 4
    assert metadata["training"]["seed"] == 3


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_run_resumes_exactly(data: Path, tmp_path: Path, precision: str) -> None:
    how = ("optim.steps=6", f"precision={precision}", f"checkpoint_activations={str(precision == 'bf16').lower()}")
    whole, _ = load_detector(train(options(data, tmp_path / "whole", *how)))
    parts = options(data, tmp_path / "parts", *how)

    class Killed(Exception):
        pass

    fetch = StepBatches.__getitem__

    def killed_at_five(self: StepBatches, step: int):  # type: ignore[no-untyped-def]
        if step == 5:
            raise Killed
        return fetch(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepBatches, "__getitem__", killed_at_five)
        with pytest.raises(Killed):
            train(parts)
    resumed, _ = load_detector(train(parts, resume=True))
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_batches_depend_on_seed_step_and_slot_alone(data: Path, tmp_path: Path) -> None:
    run = options(data, tmp_path)
    alone = StepBatches(run)[3]
    first, second = StepBatches(run, 0, 2)[3], StepBatches(run, 1, 2)[3]
    thermal = alone.student.thermal
    assert torch.equal(thermal[0::2], first.student.thermal) and torch.equal(thermal[1::2], second.student.thermal)
    assert torch.equal(StepBatches(run)[3].student.rgb, alone.student.rgb)
    assert not torch.equal(StepBatches(run)[2].student.thermal, thermal)
    assert alone.teacher is None
    assert alone.student.present[3].tolist() == [False, True]  # the thermal-only slot


def test_a_loss_that_stays_nan_ends_the_run_and_keeps_the_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mmkd_train.objective as module

    real = module.classification_loss
    calls = iter(range(100))

    def poisoned(*args, **kwargs):  # type: ignore[no-untyped-def]
        loss = real(*args, **kwargs)
        return loss * float("nan") if next(calls) in (1, 4, 5, 6) else loss

    monkeypatch.setattr(module, "classification_loss", poisoned)
    with pytest.raises(UserError, match="not finite 3 times in a row at step 6"):
        train(options(data, tmp_path, "optim.steps=20"))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 4
    assert all(torch.isfinite(value).all() for value in state["model"].values() if value.dtype.is_floating_point)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optim.stepz=3", "stepz"),
        ("optim.steps=0", "steps >= 1"),
        ("train_size=[100,160]", "multiples of 32"),
        ("precision=int4", "precision"),
        ("model.fusion=magic", "fusion"),
        ("nonsense", "section.name=value"),
        ("loss.classification=magic", "classification"),
    ],
)
def test_bad_options_are_refused_by_name(data: Path, tmp_path: Path, override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        options(data, tmp_path, override)


def test_every_shipped_configuration_is_valid(repo_root: Path) -> None:
    found = sorted((repo_root / "config/train").glob("*.yaml"))
    assert len(found) >= 5
    for path in found:
        assert load_options(path).optim.steps > 0
    ablation = load_ablation(repo_root / "config/ablation.yaml")
    runs = plan(replace(ablation, config=str(repo_root / ablation.config)), ["teacher.weights=t.safetensors"])
    assert len(runs) == len(ablation.rows) * len(ablation.seeds) >= 3 * 6
    assert not runs[0].options.teacher.weights and runs[1].options.teacher.weights


def test_weights_to_start_from_must_fit(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be built.*none.safetensors"):
        train(options(data, tmp_path, "init=none.safetensors"))
    with pytest.raises(UserError, match="cannot be built.*mobilenetv3_tiny"):
        train(options(data, tmp_path, "model.backbone=mobilenetv3_tiny"))


def test_a_start_from_other_backbones_takes_the_rest(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = build_detector(options(data, tmp_path, "model.backbone=mobilenetv3_large_100"))
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.fill_(0.125)
    save_detector(tmp_path / "source.safetensors", source, {})
    other = options(data, tmp_path, f"init={tmp_path / 'source.safetensors'}")
    before = build_detector(replace(other, init="")).state_dict()
    started = build_detector(other)
    printed = capsys.readouterr().out
    for name, tensor in started.named_parameters():
        if "backbone" in name or name in printed:  # of another width: as without a start
            assert torch.equal(tensor, before[name]), name
        else:
            assert (tensor == 0.125).all(), name
    assert "tensors outside the backbones taken over; not: " in printed
    assert "head" not in printed
    with pytest.raises(UserError, match="cannot be built"):  # the same backbones: all must agree
        build_detector(replace(other, model={**source.config.to_dict(), "bifpn_channels": 24}))


def test_transplant_makes_a_student_closer_to_its_source_than_chance() -> None:
    from mmkd_ros.network.backbone import import_timm
    from mmkd_train.pretrain import _stage_outputs, mimicry_errors, transplant

    torch.manual_seed(0)
    timm = import_timm()
    teacher = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3, 4)).eval()
    student = timm.create_model("mobilenetv3_large_100", features_only=True, out_indices=(2, 3, 4)).eval()
    last = transplant(student, teacher)
    assert len(last) == 160 and len(set(last.tolist())) == 160
    stage = student.blocks[3][0]
    assert torch.equal(stage.conv_pw.weight, teacher.blocks[3][0].conv_pw.weight)  # 240 of 240 channels: a plain copy
    outputs = _stage_outputs(teacher, torch.rand(1, 3, 64, 64))
    assert torch.stack(mimicry_errors(outputs, outputs)).tolist() == [0.0] * 6
