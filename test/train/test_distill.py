"""A tiny teacher is trained and a tiny student distilled from it for real: the loss falls, the teacher is untouched,
its answers are remembered, a killed run resumes bit-exact."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from made_up import training_options as options
from made_up import write_training_sets

from mmkd_ros.inference.weights import load_detector, save_detector
from mmkd_ros.network import Detector, DetectorConfig
from mmkd_train.__main__ import main
from mmkd_train.batches import StepBatches
from mmkd_train.errors import UserError
from mmkd_train.options import load_options
from mmkd_train.teacher import Ensemble, Learner, Teacher, check_fit
from mmkd_train.train import train

YAML = """
seed: 3
train_size: [96, 160]
evaluate_every: 1000
checkpoint_every: 2
model: {backbone: mobilenetv3_small_100, input_size: [96, 96], bifpn_channels: 16, bifpn_repeats: 1, head_repeats: 1}
data: {pairs_per_batch: 3, thermal_only_per_batch: 1, synthetic_per_batch: 0, views: 2}
augment: {zoom_min: 0.9, zoom_max: 1.2, drop_rgb: 0.3, drop_thermal: 0.3}
optim: {steps: 6, lr: 3.0e-3, backbone_lr: 1.0, warmup: 5, frozen_stages: 0, freeze_norms: false, ema: 0.9}
distill: {warmup: 2}
"""
ALL = ("fused", "rgb", "thermal")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_training_sets(root, YAML)
    return root


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wider network of the same class, trained for a few steps."""
    wider = ("model.bifpn_channels=24", "channels_last=true", "optim.steps=60")
    return train(options(data, tmp_path_factory.mktemp("teacher"), *wider))


def column(output: Path, name: str) -> list[str]:
    with (output / "log.csv").open() as file:
        return [row[name] for row in csv.DictReader(file)]


def test_a_student_learns_from_its_teacher_and_the_teacher_does_not_change(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    before = hashlib.sha256(teacher.read_bytes()).hexdigest()
    assert main(["distill", str(data / "config.yaml"), f"data.root={data}", f"output={tmp_path}", "optim.steps=40",
                 f"teacher.weights={teacher}"]) == 0  # fmt: skip
    assert hashlib.sha256(teacher.read_bytes()).hexdigest() == before
    for name, share in (("kd", 0.8), ("feat_fused", 0.9), ("feat_rgb", 0.9), ("feat_thermal", 0.9), ("cls", 0.8)):
        values = [float(value) for value in column(tmp_path, name) if value]
        assert np.mean(values[-8:]) < share * np.mean(values[:8]), name
    student, metadata = load_detector(tmp_path / "detector.safetensors")
    assert not any("adapter" in name for name in student.state_dict())
    assert metadata["training"]["teacher"]["weights"] == str(teacher)


def test_the_teacher_is_frozen(data: Path, teacher: Path, tmp_path: Path) -> None:
    run = options(data, tmp_path, f"teacher.weights={teacher}")
    frozen = Teacher(teacher, run.detector, ALL, torch.device("cpu"))
    kept = {name: value.clone() for name, value in frozen.detector.state_dict().items()}
    batch = StepBatches(run)[0]
    assert batch.teacher is not None
    answer = frozen(batch.teacher)
    assert not answer.logits.requires_grad and not frozen.detector.training
    assert all(torch.equal(value, kept[name]) for name, value in frozen.detector.state_dict().items())
    assert batch.teacher.present.tolist() == [[True, True]] * 3 + [[False, True]]  # dropout is the student's alone
    assert answer.pyramids["rgb"][0][3].abs().max() == 0  # the thermal-only picture
    assert answer.pyramids["rgb"][0][0].abs().max() > 0


def test_answers_are_remembered_by_weights_and_pixels(data: Path, teacher: Path, tmp_path: Path) -> None:
    run = options(data, tmp_path, f"teacher.weights={teacher}")
    cpu, cache = torch.device("cpu"), tmp_path / "cache"
    pictures = StepBatches(run)[0].teacher
    assert pictures is not None
    plain = Teacher(teacher, run.detector, ALL, cpu)(pictures)
    first, again = (Teacher(teacher, run.detector, ALL, cpu, cache) for _ in range(2))
    computed, read = first(pictures), again(pictures)
    assert (first.hits, first.misses, again.hits, again.misses) == (0, 4, 4, 0)
    assert torch.equal(computed.logits, read.logits)
    for name in ALL:
        for a, b, c in zip(computed.pyramids[name], read.pyramids[name], plain.pyramids[name], strict=True):
            assert torch.equal(a, b)
            torch.testing.assert_close(a, c, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(computed.logits, plain.logits, rtol=2e-3, atol=2e-3)

    changed = replace(pictures, rgb=pictures.rgb.clone())
    changed.rgb[0, 0, 0, 0] ^= 1
    again(changed)
    assert again.misses == 1
    other = Teacher(teacher, run.detector, ALL, cpu, cache)
    other.sha256 = "0" * 64
    other(pictures)
    assert other.misses == 4

    damaged = sorted(cache.rglob("*.safetensors"))
    for path in damaged:
        path.write_bytes(path.read_bytes()[:100])
    mended = Teacher(teacher, run.detector, ALL, cpu, cache)
    assert torch.equal(mended(pictures).logits, computed.logits)
    assert (mended.unreadable, mended.misses) == (4, 4)
    assert mended(pictures) is not None and mended.hits == 4


def test_a_teacher_of_twice_the_resolution_answers_for_the_same_cells(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    run = options(data, tmp_path, f"teacher.weights={teacher}", "teacher.scale=2", "augment.drop_thermal=0")
    batch = StepBatches(run)[0]
    assert batch.teacher is not None
    assert batch.teacher.thermal.shape[1:] == (192, 320) and batch.student.thermal.shape[1:] == (96, 160)
    detector = Detector(run.detector).eval()
    output = detector(*batch.student.inputs(run.detector, torch.device("cpu")))
    large = Teacher(teacher, run.detector, ALL, torch.device("cpu"), scale=2)
    answer = large(batch.teacher)
    assert [a.shape[-2:] for a in answer.pyramids["fused"]] == [o.shape[-2:] for o in output.fused[:4]]
    reach = answer.logits.shape[1]
    assert reach == output.logits.shape[1] - 9 * output.fused[4].shape[-2] * output.fused[4].shape[-1]
    torch.testing.assert_close(large.detector.anchors(192, 320)[-reach:] / 2, detector.anchors(96, 160)[:reach])
    cached = Teacher(teacher, run.detector, ALL, torch.device("cpu"), tmp_path / "cache", scale=2)
    torch.testing.assert_close(cached(batch.teacher).logits, answer.logits, rtol=2e-3, atol=2e-3)
    train(replace(run, optim=replace(run.optim, steps=2)))
    with pytest.raises(UserError, match="scale"):
        options(data, tmp_path, "teacher.scale=3")


def test_an_ensemble_answers_with_the_mean_of_the_class_scores(data: Path, teacher: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = tmp_path / "other.safetensors"
    save_detector(other, Detector(replace(options(data, tmp_path).detector, bifpn_channels=16)), {})
    names = (f"teacher.weights={teacher}", f"teacher.ensemble=[{other}]", f"teacher.cache={tmp_path / 'cache'}")
    run = options(data, tmp_path, *names)
    cpu = torch.device("cpu")
    pictures = StepBatches(run)[0].teacher
    assert pictures is not None
    first = Teacher(teacher, run.detector, ALL, cpu)(pictures)
    second = Teacher(other, run.detector, (), cpu)(pictures)
    ensemble = Ensemble(run, cpu)
    answer = ensemble(pictures)
    torch.testing.assert_close(answer.logits, (first.logits + second.logits) / 2, rtol=2e-3, atol=2e-3)
    assert not torch.allclose(answer.logits, first.logits, atol=1e-2)
    for ours, theirs in zip(answer.pyramids["fused"], first.pyramids["fused"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)
    assert torch.equal(ensemble(pictures).logits, answer.logits)
    assert [(member.hits, member.misses) for member in ensemble.members] == [(4, 4), (4, 4)]
    train(replace(run, optim=replace(run.optim, steps=2)))
    with pytest.raises(UserError, match="ensemble"):
        options(data, tmp_path, f"teacher.ensemble=[{other}]")


def test_views_come_back_in_every_run(data: Path, teacher: Path, tmp_path: Path) -> None:
    def views(*overrides: str) -> set[bytes]:
        batches = StepBatches(options(data, tmp_path, f"teacher.weights={teacher}", *overrides))
        found = [batches[step].teacher for step in range(30)]
        return {picture.numpy().tobytes() for pictures in found if pictures is not None for picture in pictures.thermal}

    first, second = views("seed=1"), views("seed=2")
    assert len(first) <= 2 * 15 and len(first & second) > 0.6 * len(first)
    assert len(views("data.views=0")) > 2 * 30


def test_a_killed_distillation_resumes_exactly(data: Path, teacher: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, then --resume: the same bits as a run that was left alone."""
    common = [
        f"data.root={data}",
        f"teacher.weights={teacher}",
        f"teacher.cache={tmp_path / 'cache'}",
        "optim.steps=60",
    ]
    whole = train(load_options(data / "config.yaml", [*common, f"output={tmp_path / 'whole'}"]))
    command = [sys.executable, "-m", "mmkd_train", "distill", str(data / "config.yaml"), *common]
    command.append(f"output={tmp_path / 'parts'}")
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "parts" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL, "it ended before it could be killed"
    step = torch.load(checkpoint, weights_only=True)["step"]
    assert 2 <= step < 60
    assert subprocess.run([*command, "--resume"], env=environment, capture_output=True, timeout=300).returncode == 0
    resumed, _ = load_detector(tmp_path / "parts" / "detector.safetensors")
    for (name, a), b in zip(load_detector(whole)[0].state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_adapters_bring_the_students_pyramids_to_the_teachers_width() -> None:
    learner = Learner(
        Detector(DetectorConfig(backbone="mobilenetv3_small_100", input_size=(64, 64), bifpn_channels=16)), ALL, 24
    ).eval()
    rgb, thermal = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    _, pyramids = learner(rgb, thermal, torch.tensor([[True, True], [False, True]]))
    assert set(pyramids) == set(ALL) and {level.shape[1] for level in pyramids["rgb"]} == {24}
    _, pyramids = learner(rgb, thermal, torch.tensor([[False, True], [False, True]]))
    assert set(pyramids) == {"fused", "thermal"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("class_names", ("person",)), ("anchor_scale", 2.0), ("anchor_octaves", 2), ("anchor_ratios", (1.0,))],
)
def test_teacher_and_student_must_speak_of_the_same_anchors(field: str, value: object) -> None:
    with pytest.raises(UserError, match=field):
        check_fit(DetectorConfig(), DetectorConfig.from_dict({field: value}))
    check_fit(DetectorConfig(), DetectorConfig(bifpn_channels=128, backbone="tf_efficientnet_b7"))


def test_commands_refuse_what_cannot_be_meant(
    data: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = [str(data / "config.yaml"), f"data.root={data}", f"output={tmp_path}"]
    for arguments, sentence in (
        (["distill", *config], "there is no teacher"),
        (["train", *config, f"teacher.weights={teacher}"], "use the command 'distill'"),
        (["distill", *config, "teacher.weights=none.safetensors"], "none.safetensors"),
        (["distill", *config, f"teacher.weights={teacher}", "data.views=0", "teacher.cache=c"], "needs data.views > 0"),
        (["distill", *config, f"teacher.weights={teacher}", "model.anchor_octaves=2"], "anchor_octaves"),
        (["distill", *config, f"teacher.weights={teacher}", "distill.temperature=0"], "temperature > 0"),
        (["distill", *config, f"teacher.weights={teacher}", "distill.weighting=magic"], "weighting"),
    ):
        assert main(arguments) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "log.csv").exists()


def test_unlabelled_pairs_teach_through_the_teacher_alone(data: Path, teacher: Path, tmp_path: Path) -> None:
    for folder in ("clip/rgb", "clip/thermal"):
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "000.png"), np.full((96, 96, 3), 90, np.uint8))
    run = options(
        data, tmp_path, f"teacher.weights={teacher}", f"data.unlabelled=[{tmp_path}/clip]",
        "data.unlabelled_per_batch=2", "data.pairs_per_batch=0", "data.thermal_only_per_batch=0", "optim.steps=3",
    )  # fmt: skip
    train(run)
    assert {float(value) for value in column(tmp_path, "cls")} == {0.0}
    assert all(float(value) > 0 for value in column(tmp_path, "kd"))
    with pytest.raises(UserError, match="holds no pair"):
        StepBatches(load_options(data / "config.yaml", [f"data.root={data}", "data.unlabelled=[annotations]",
                                                        "data.unlabelled_per_batch=1"]))  # fmt: skip


def test_checkpointed_activations_give_the_same_gradients(data: Path, tmp_path: Path) -> None:
    from mmkd_train.objective import detection_losses, make_targets
    from mmkd_train.train import build_detector, freeze

    gradients = []
    for switch in ("false", "true"):
        run = options(data, tmp_path, f"checkpoint_activations={switch}")
        batch, detector = StepBatches(run)[0], build_detector(run)
        detector.train()
        freeze(detector, 0, norms=True)  # a live batch norm would see its batch twice
        output = detector(*batch.student.inputs(run.detector, torch.device("cpu")))
        terms = detection_losses(detector, output, batch, make_targets(detector, batch, run.assign), run.loss)
        (terms["cls"] + terms["reg"]).backward()
        gradients.append([p.grad.clone() for p in detector.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 100
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
