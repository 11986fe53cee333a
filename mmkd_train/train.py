"""Training of a detector: one YAML file in, a weights file, a CSV log and resumable checkpoints out.

    python -m mmkd_train teacher config/train/teacher_b7.yaml data.root=/data
    python -m mmkd_train train config/train/student_mnv3.yaml data.root=/data optim.steps=6000
    torchrun --nproc_per_node 4 -m mmkd_train train ...      # several GPUs, machines or CPU processes

A step's pictures depend only on (seed, step, slot), so a run that was killed resumes exactly with ``--resume``.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from mmkd_ros.inference import InferenceSession, WeightsError
from mmkd_ros.inference.weights import load_detector, save_detector
from mmkd_ros.network import Detector, count_macs, count_parameters
from mmkd_train.batches import StepBatches
from mmkd_train.cpu_training import fast_depthwise, keep_freed_memory
from mmkd_train.data.coco import CocoPairs, LabelRules
from mmkd_train.errors import UserError
from mmkd_train.evaluate import SCORE_THRESHOLD, evaluate
from mmkd_train.objective import detection_losses, distillation_losses, make_targets, total_loss
from mmkd_train.options import TrainOptions, load_options
from mmkd_train.teacher import Ensemble, Learner

HELP = "Train a detector on labelled RGB-thermal pairs: a teacher, or a student that has none."
_BAD_STEPS = 3  # this many losses in a row that are not finite end the run


def freeze(detector: Detector, stages: int, norms: bool) -> None:
    """Stop training the stem and the first ``stages`` of both backbones and, with ``norms``, keep the statistics of all
    their batch norms; call after train()."""
    for backbone in (detector.rgb_backbone, detector.thermal_backbone):
        net: Any = backbone.net
        frozen = [net.conv_stem, net.bn1, *list(net.blocks)[:stages]] if stages else []
        for module in frozen:
            module.requires_grad_(False).eval()
        if norms:
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()


def make_optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.AdamW:
    """AdamW with a smaller rate for the backbones and no decay on biases and scales."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(("backbone" in name, parameter.ndim > 1), []).append(parameter)
    optim = options.optim
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": optim.weight_decay if decay else 0.0,
                "lr": optim.lr * (optim.backbone_lr if backbone else 1.0),
                "base_lr": optim.lr * (optim.backbone_lr if backbone else 1.0),
            }
            for (backbone, decay), parameters in groups.items()
        ]
    )


def learning_rate(step: int, options: TrainOptions) -> float:
    """Factor on the base rate: linear warm-up, then half a cosine to 1 %."""
    optim = options.optim
    if step < optim.warmup:
        return (step + 1) / optim.warmup
    progress = (step - optim.warmup) / max(1, optim.steps - optim.warmup)
    return 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """ema <- d ema + (1 - d) model with d rising to ``decay``; integer buffers are copied."""
    decay = min(decay, (1.0 + step) / (10.0 + step))
    for kept, value in zip(ema.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(value.to(kept.dtype), 1.0 - decay)
        else:
            kept.copy_(value)


def build_detector(options: TrainOptions) -> Detector:
    """The network of a run, from scratch, from backbone weights or from another run's file.

    Raises:
        UserError: a file that cannot be used.
    """
    torch.manual_seed(options.seed)
    try:
        detector = Detector(options.detector, options.pretrained)
        if options.init:
            _take_over(detector, load_detector(Path(options.init))[0])
        if options.checkpoint_activations:
            for backbone in (detector.rgb_backbone, detector.thermal_backbone):
                backbone.net.set_grad_checkpointing(True)
    except (ValueError, RuntimeError, FileNotFoundError, WeightsError) as error:
        offline = " Without a network, set pretrained=FILE or pretrained=false." if options.pretrained is True else ""
        raise UserError(f"the network cannot be built: {error}{offline}") from error
    return detector


def _take_over(detector: Detector, source: Detector) -> None:
    """Start from the weights of another run. If it has other backbones, these stay as they are, and of the rest all is
    taken that has the same name and shape; what was not taken is printed.

    Raises:
        RuntimeError: the backbones agree and something else does not.
    """
    weights = source.state_dict()
    if source.config.backbone == detector.config.backbone:
        detector.load_state_dict(weights)
        return
    own = detector.state_dict()
    rest = [name for name in own if "backbone" not in name]
    fitting = {name: weights[name] for name in rest if name in weights and weights[name].shape == own[name].shape}
    detector.load_state_dict(fitting, strict=False)
    missing = ", ".join(name for name in rest if name not in fitting) or "none"
    print(f"init: {len(fitting)} of {len(rest)} tensors outside the backbones taken over; not: {missing}", flush=True)


class Checkpoint:
    """The state of a run on disk, replaced in one move so that a kill never leaves half a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "checkpoint.pt"

    def save(self, **state: Any) -> None:
        """Write tensors and numbers under their names."""
        partial = self.path.with_suffix(".tmp")
        torch.save(state, partial)
        os.replace(partial, self.path)

    def load(self) -> dict[str, Any]:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: there is none.
        """
        if not self.path.is_file():
            raise UserError(f"{self.path} does not exist: nothing to resume. Run without --resume.")
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return state


def train(options: TrainOptions, resume: bool = False) -> Path:
    """Run the whole training.

    Returns:
        The weights file (moving average), ``<output>/detector.safetensors``.

    Raises:
        UserError: data or configuration that cannot be used, or a loss that stays NaN.
    """
    torch.set_flush_denormal(True)  # Adam's moments of idle weights would turn denormal, which is slow on CPUs
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="no" if options.precision == "fp32" else options.precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    chief = accelerator.is_main_process
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    batches = StepBatches(options, accelerator.process_index, accelerator.num_processes)
    detector = build_detector(options)
    teacher: Ensemble | None = None
    learner = Learner(detector)
    if options.teacher.weights:
        teacher = Ensemble(options, accelerator.device)
        learner = Learner(detector, options.distill.pyramids, teacher.channels)
    learner.train()
    freeze(detector, options.optim.frozen_stages, options.optim.freeze_norms)
    optimizer = make_optimizer(learner, options)
    ema = copy.deepcopy(detector).eval()
    checkpoint = Checkpoint(folder)
    first = 0
    if resume:
        state = checkpoint.load()
        learner.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
    learner.to(accelerator.device)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    learner.to(memory_format=layout)  # type: ignore[call-overload]
    ema.to(accelerator.device)
    model, optimizer = accelerator.prepare(learner, optimizer)
    if chief:
        (folder / "options.json").write_text(json.dumps(options.to_dict(), indent=2) + "\n")
        height, width = options.train_size
        accelerator.print(
            f"{options.detector.backbone}: {count_parameters(detector) / 1e6:.2f} M parameters, "
            f"{count_macs(detector, height, width) / 1e9:.2f} GMAC at {height}x{width}; "
            f"{len(batches)} steps of {options.data.batch}"
        )
        for member in teacher.members if teacher is not None else ():
            accelerator.print(
                f"teacher {member.detector.config.backbone}: {count_parameters(member.detector) / 1e6:.2f} M "
                f"parameters, {count_macs(member.detector, height, width) / 1e9:.2f} GMAC, "
                f"sha256 {member.sha256[:12]}"
            )
    workers = 0 if accelerator.device.type == "cpu" else max(1, (os.cpu_count() or 2) // accelerator.num_processes - 1)
    loader = DataLoader(batches, batch_size=None, sampler=range(first, options.optim.steps), num_workers=workers)
    log = Log(folder / "log.csv", resume) if chief else None
    progress = tqdm(loader, initial=first, total=options.optim.steps, desc="train", disable=not chief, mininterval=10)
    bad, skipped, waiting = 0, 0, time.monotonic()
    for step, batch in zip(range(first, options.optim.steps), progress, strict=False):
        started = time.monotonic()
        factor = learning_rate(step, options)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        with accelerator.autocast(), fast_depthwise():
            output, pyramids_seen = model(*batch.student.inputs(options.detector, accelerator.device, layout))
        targets = make_targets(detector, batch, options.assign)
        terms = detection_losses(detector, output, batch, targets, options.loss)
        if teacher is not None and batch.teacher is not None and step >= options.distill.start:
            terms |= distillation_losses(
                output.logits, pyramids_seen, teacher(batch.teacher), batch, targets.foreground, options.distill
            )
        total = total_loss(terms, options.distill, step)
        finite = bool(accelerator.gather(torch.isfinite(total.detach()).reshape(1)).all())
        if finite:
            bad = 0
            optimizer.zero_grad(set_to_none=True)
            with fast_depthwise():  # for what checkpointed activations compute again
                accelerator.backward(total)
            accelerator.clip_grad_norm_(model.parameters(), options.optim.clip)
            optimizer.step()
            update_ema(ema, detector, options.optim.ema, step)
        else:
            bad, skipped = bad + 1, skipped + 1
            if bad >= _BAD_STEPS:
                raise UserError(
                    f"the loss was not finite {bad} times in a row at step {step}; lower optim.lr. "
                    f"{checkpoint.path} is kept."
                )
        if log is not None:
            log.add(step, factor, terms, data_s=started - waiting, step_s=time.monotonic() - started)
            progress.set_postfix_str(log.summary(), refresh=False)
        done = step + 1
        if chief and finite and (done % options.checkpoint_every == 0 or done == options.optim.steps):
            checkpoint.save(
                model=learner.state_dict(), ema=ema.state_dict(), optimizer=optimizer.state_dict(), step=done
            )
        if chief and done % options.evaluate_every == 0 and done < options.optim.steps:
            _evaluate(ema, options, folder, step=done)
        if done % options.evaluate_every == 0:
            accelerator.wait_for_everyone()
        waiting = time.monotonic()
    weights = folder / "detector.safetensors"
    if log is not None:
        metrics = _evaluate(ema, options, folder, step=options.optim.steps)
        save_detector(weights, ema.cpu(), {"training": options.to_dict(), "metrics": {"val": metrics}})
        accelerator.print(
            f"wrote {weights}; {skipped} steps skipped for a loss that was not finite; "
            f"{log.data_share:.0%} of the time was spent waiting for data"
        )
        if teacher is not None and options.teacher.cache:
            for member in teacher.members:
                accelerator.print(
                    f"answers of teacher {member.sha256[:12]}: {member.hits} read, {member.misses} computed, "
                    f"{member.unreadable} damaged ones replaced (this process)"
                )
    accelerator.end_training()
    return weights


def _evaluate(ema: Detector, options: TrainOptions, folder: Path, step: int) -> dict[str, Any]:
    """Metrics on the validation split, printed and appended to ``val.jsonl``; the weights so far are kept beside it."""
    save_detector(folder / "latest.safetensors", ema, {"training": options.to_dict(), "step": step})
    root = Path(options.data.root)
    rules = LabelRules.for_classes(ema.config.class_names, partial=options.data.partial)
    dataset = CocoPairs(root / options.data.val, root, rules)
    session = InferenceSession.from_detector(
        copy.deepcopy(ema),
        str(next(ema.parameters()).device),
        score_threshold=SCORE_THRESHOLD,
        threads=torch.get_num_threads(),
    )
    metrics = evaluate(session, dataset, progress=False)
    with (folder / "val.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, **metrics}) + "\n")
    per_class = {
        name: None if value is None else round(value["mAP50"], 3) for name, value in metrics["per_class"].items()
    }
    tqdm.write(f"step {step}: val mAP50 {metrics['mAP50']} {per_class}")
    return metrics


class Log:
    """``log.csv`` with one line a step (a term that is not there yet stays empty), and smoothed values for the progress
    bar."""

    _TERMS = ("cls", "reg", "kd", "feat_fused", "feat_rgb", "feat_thermal")

    def __init__(self, path: Path, append: bool) -> None:
        self._file = path.open("a" if append else "w", newline="")
        self._writer = csv.writer(self._file)
        if not append:
            self._writer.writerow(["step", "lr_factor", *self._TERMS, "data_s", "step_s"])
        self._smooth: dict[str, float] = {}
        self._seconds = np.zeros(2)

    def add(self, step: int, factor: float, terms: dict[str, Tensor], data_s: float, step_s: float) -> None:
        """One step: its loss terms, and the seconds spent waiting for data and computing."""
        values = {name: float(value.detach()) for name, value in terms.items()}
        cells = [f"{values[name]:.5f}" if name in values else "" for name in self._TERMS]
        self._writer.writerow([step, f"{factor:.5f}", *cells, f"{data_s:.4f}", f"{step_s:.4f}"])
        self._file.flush()
        self._seconds += (data_s, step_s)
        for name, value in values.items():
            if math.isfinite(value):
                self._smooth[name] = value if name not in self._smooth else 0.98 * self._smooth[name] + 0.02 * value

    @property
    def data_share(self) -> float:
        """Share of the time spent waiting for data."""
        return float(self._seconds[0] / max(self._seconds.sum(), 1e-9))

    def summary(self) -> str:
        """Smoothed terms in one line."""
        return " ".join(f"{name} {value:.3f}" for name, value in self._smooth.items()) + f" data {self.data_share:.0%}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("config", type=Path, help="YAML file with the fields of mmkd_train.options.TrainOptions")
    parser.add_argument("overrides", nargs="*", help="section.name=value")
    parser.add_argument("--resume", action="store_true", help="go on from the output folder's checkpoint")


def run(args: argparse.Namespace) -> int:
    """Train with labels only."""
    options = load_options(args.config, args.overrides)
    if options.teacher.weights:
        raise UserError("teacher.weights is given; use the command 'distill', or leave it out to train on labels.")
    keep_freed_memory()
    train(options, args.resume)
    return 0
