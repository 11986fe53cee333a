"""Supervised training of a detector: one YAML file in, a weights file, a CSV log and resumable checkpoints out.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmkd_ros.inference import InferenceSession, WeightsError
from mmkd_ros.inference.preprocess import PAD, network_inputs
from mmkd_ros.inference.weights import load_detector, save_detector
from mmkd_ros.network import Detector, DetectorConfig, DetectorOutput, count_macs, count_parameters
from mmkd_ros.network.anchors import anchors_per_level, encode_boxes
from mmkd_train.assign import assign
from mmkd_train.data.augment import augment
from mmkd_train.data.coco import CocoPairs, LabelRules, Sample
from mmkd_train.errors import UserError
from mmkd_train.evaluate import SCORE_THRESHOLD, evaluate
from mmkd_train.losses import classification_loss, mask_unlabelled, regression_loss
from mmkd_train.options import TrainOptions, load_options

HELP = "Train a detector on RGB-thermal pairs (supervised)."
_ATSS_CELLS = 9
_BAD_STEPS = 3  # this many losses in a row that are not finite end the run


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one process learns from in one step.

    Attributes:
        rgb: (B, H, W, 3) uint8; thermal: (B, H, W) uint8; a missing one is grey.
        present: (B, 2) bool, which of (rgb, thermal) is real.
        boxes, labels, ignore: per picture, as in :class:`Sample`.
        labelled: (B, C) bool.
    """

    rgb: Tensor
    thermal: Tensor
    present: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    ignore: list[Tensor]
    labelled: Tensor


def collate(samples: list[Sample]) -> Batch:
    """Samples of one size -> a batch."""
    height, width = samples[0].size
    rgb = np.full((len(samples), height, width, 3), PAD, np.uint8)
    thermal = np.full((len(samples), height, width), PAD, np.uint8)
    for index, sample in enumerate(samples):
        if sample.rgb is not None:
            rgb[index] = sample.rgb
        if sample.thermal is not None:
            thermal[index] = sample.thermal
    return Batch(
        torch.from_numpy(rgb),
        torch.from_numpy(thermal),
        torch.tensor([[sample.rgb is not None, sample.thermal is not None] for sample in samples]),
        [torch.from_numpy(sample.boxes) for sample in samples],
        [torch.from_numpy(sample.labels) for sample in samples],
        [torch.from_numpy(sample.ignore) for sample in samples],
        torch.from_numpy(np.stack([sample.labelled for sample in samples])),
    )


class StepBatches(Dataset[Batch]):
    """Item s is this process's part of step s's batch: the same whenever and wherever it is asked for."""

    def __init__(self, options: TrainOptions, rank: int = 0, processes: int = 1) -> None:
        self.options = options
        data, root = options.data, Path(options.data.root)
        rules = LabelRules.for_classes(options.detector.class_names, data.merge, data.partial)
        self.sets: dict[str, CocoPairs] = {}
        for kind, name, count in (
            ("pairs", data.train, data.pairs_per_batch),
            ("thermal_only", data.thermal_only, data.thermal_only_per_batch),
        ):
            if count:
                self.sets[kind] = CocoPairs(root / name, root, rules, keep_images=True)
        kinds = ["pairs"] * data.pairs_per_batch + ["thermal_only"] * data.thermal_only_per_batch
        kinds += ["synthetic"] * data.synthetic_per_batch
        self.slots = [(slot, kind) for slot, kind in enumerate(kinds)][rank::processes]
        self._pool: dict[int, Sample] = {}
        if not self.slots:
            raise UserError(f"{processes} processes cannot share a batch of {len(kinds)}; raise data.*_per_batch.")

    def __len__(self) -> int:
        return self.options.optim.steps

    def __getitem__(self, step: int) -> Batch:
        height, width = self.options.train_size
        samples = []
        for slot, kind in self.slots:
            rng = np.random.default_rng((self.options.seed, step, slot))
            if kind == "synthetic":
                sample = self._rendered(int(rng.integers(self.options.data.synthetic_pool)))
            else:
                source = self.sets[kind]
                sample = source[int(rng.integers(len(source)))]
            samples.append(augment(sample, height, width, self.options.augment, rng))
        return collate(samples)

    def _rendered(self, index: int) -> Sample:
        """Picture ``index`` of the synthetic pool, a quarter larger than the training pictures so that zooming in stays
        sharp."""
        if index not in self._pool:
            height, width = (side * 5 // 4 for side in self.options.train_size)
            rng = np.random.default_rng((self.options.seed, index))
            self._pool[index] = synthetic_sample(rng, height, width, self.options.detector)
        return self._pool[index]


def synthetic_sample(rng: np.random.Generator, height: int, width: int, config: DetectorConfig) -> Sample:
    """A rendered scene as a training sample; its classes are matched by name, those that the detector lacks are
    dropped."""
    from mmkd_train.data.synthetic import CLASS_NAMES, training_sample

    frame = training_sample(rng, height, width)
    index = np.array([config.class_names.index(name) if name in config.class_names else -1 for name in CLASS_NAMES])
    labels = index[frame.labels]
    keep = labels >= 0
    return Sample(
        frame.rgb,
        np.asarray(frame.thermal, np.uint8),
        frame.boxes[keep],
        labels[keep],
        np.zeros(int(keep.sum()), bool),
        np.array([name in CLASS_NAMES for name in config.class_names], bool),
    )


def detection_losses(
    detector: Detector, output: DetectorOutput, batch: Batch, options: TrainOptions
) -> dict[str, Tensor]:
    """L_cls and L_reg of one batch, see :mod:`mmkd_train.losses`."""
    height, width = batch.thermal.shape[1:]
    anchors = detector.anchors(height, width)
    per_level = anchors_per_level(detector.config, height, width)
    classes = len(detector.config.class_names)
    targets = [
        assign(
            anchors,
            per_level,
            boxes.to(anchors.device),
            labels.to(anchors.device),
            ignore.to(anchors.device),
            classes,
            _ATSS_CELLS,
            detector.config.anchors_per_cell,
        )
        for boxes, labels, ignore in zip(batch.boxes, batch.labels, batch.ignore, strict=True)
    ]
    labels = torch.stack([target.labels for target in targets])
    boxes = torch.stack([target.boxes for target in targets])
    foreground = (labels >= 0) & (labels < classes)
    logits = mask_unlabelled(output.logits.float(), batch.labelled.to(anchors.device))
    offsets = encode_boxes(boxes, anchors[None].expand_as(boxes))
    return {
        "cls": classification_loss(logits, labels, options.loss),
        "reg": options.loss.regression_weight * regression_loss(output.offsets.float(), offsets, foreground),
    }


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


def make_optimizer(detector: Detector, options: TrainOptions) -> torch.optim.AdamW:
    """AdamW with a smaller rate for the backbones and no decay on biases and scales."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
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
            source, _ = load_detector(Path(options.init))
            detector.load_state_dict(source.state_dict())
    except (ValueError, RuntimeError, FileNotFoundError, WeightsError) as error:
        raise UserError(f"the network cannot be built: {error}") from error
    return detector


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
        mixed_precision=options.precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    chief = accelerator.is_main_process
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    batches = StepBatches(options, accelerator.process_index, accelerator.num_processes)
    detector = build_detector(options)
    detector.train()
    freeze(detector, options.optim.frozen_stages, options.optim.freeze_norms)
    optimizer = make_optimizer(detector, options)
    ema = copy.deepcopy(detector).eval()
    checkpoint = Checkpoint(folder)
    first = 0
    if resume:
        state = checkpoint.load()
        detector.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
    detector.to(accelerator.device)
    ema.to(accelerator.device)
    model, optimizer = accelerator.prepare(detector, optimizer)
    if chief:
        (folder / "options.json").write_text(json.dumps(options.to_dict(), indent=2) + "\n")
        height, width = options.train_size
        accelerator.print(
            f"{options.detector.backbone}: {count_parameters(detector) / 1e6:.2f} M parameters, "
            f"{count_macs(detector, height, width) / 1e9:.2f} GMAC at {height}x{width}; "
            f"{len(batches)} steps of {options.data.batch}"
        )
    workers = 0 if accelerator.device.type == "cpu" else max(1, (os.cpu_count() or 2) // accelerator.num_processes - 1)
    loader = DataLoader(batches, batch_size=None, sampler=range(first, options.optim.steps), num_workers=workers)
    log = _Log(folder / "log.csv", resume) if chief else None
    progress = tqdm(loader, initial=first, total=options.optim.steps, desc="train", disable=not chief, mininterval=10)
    bad, waiting = 0, time.monotonic()
    for step, batch in zip(range(first, options.optim.steps), progress, strict=False):
        started = time.monotonic()
        factor = learning_rate(step, options)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        with accelerator.autocast():
            rgb, thermal = network_inputs(
                batch.rgb.to(accelerator.device), batch.thermal.to(accelerator.device), options.detector
            )
            output = model(rgb, thermal, batch.present.to(accelerator.device))
        losses = detection_losses(detector, output, batch, options)
        total = sum(losses.values(), torch.zeros((), device=accelerator.device))
        finite = bool(accelerator.gather(torch.isfinite(total.detach()).reshape(1)).all())
        if finite:
            bad = 0
            optimizer.zero_grad(set_to_none=True)
            accelerator.backward(total)
            accelerator.clip_grad_norm_(model.parameters(), options.optim.clip)
            optimizer.step()
            update_ema(ema, detector, options.optim.ema, step)
        else:
            bad += 1
            if bad >= _BAD_STEPS:
                raise UserError(
                    f"the loss was not finite {bad} times in a row at step {step}; lower optim.lr. "
                    f"{checkpoint.path} is kept."
                )
        if log is not None:
            log.add(step, factor, losses, data_s=started - waiting, step_s=time.monotonic() - started)
            progress.set_postfix_str(log.summary(), refresh=False)
        done = step + 1
        if chief and finite and (done % options.checkpoint_every == 0 or done == options.optim.steps):
            checkpoint.save(
                model=detector.state_dict(), ema=ema.state_dict(), optimizer=optimizer.state_dict(), step=done
            )
        if chief and done % options.evaluate_every == 0 and done < options.optim.steps:
            _evaluate(ema, options, folder, step=done)
        if done % options.evaluate_every == 0:
            accelerator.wait_for_everyone()
        waiting = time.monotonic()
    weights = folder / "detector.safetensors"
    if chief:
        metrics = _evaluate(ema, options, folder, step=options.optim.steps)
        save_detector(weights, ema.cpu(), {"training": options.to_dict(), "metrics": {"val": metrics}})
        accelerator.print(f"wrote {weights}")
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


class _Log:
    """``log.csv`` with one line a step, and smoothed values for the progress bar."""

    def __init__(self, path: Path, append: bool) -> None:
        self._file = path.open("a" if append else "w", newline="")
        self._writer = csv.writer(self._file)
        self._names: list[str] = []
        self._append = append
        self._smooth: dict[str, float] = {}

    def add(self, step: int, factor: float, losses: dict[str, Tensor], data_s: float, step_s: float) -> None:
        values = {name: float(value.detach()) for name, value in losses.items()}
        if not self._names:
            self._names = list(values)
            if not self._append:
                self._writer.writerow(["step", "lr_factor", *self._names, "data_s", "step_s"])
        self._writer.writerow(
            [step, f"{factor:.5f}", *(f"{value:.5f}" for value in values.values()), f"{data_s:.4f}", f"{step_s:.4f}"]
        )
        self._file.flush()
        for name, value in {**values, "data_share": data_s / max(data_s + step_s, 1e-9)}.items():
            if math.isfinite(value):
                self._smooth[name] = value if name not in self._smooth else 0.98 * self._smooth[name] + 0.02 * value

    def summary(self) -> str:
        return " ".join(f"{name} {value:.3f}" for name, value in self._smooth.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("config", type=Path, help="YAML file with the fields of mmkd_train.options.TrainOptions")
    parser.add_argument("overrides", nargs="*", help="section.name=value")
    parser.add_argument("--resume", action="store_true", help="go on from the output folder's checkpoint")


def run(args: argparse.Namespace) -> int:
    """Train."""
    train(load_options(args.config, args.overrides), args.resume)
    return 0
