"""`appearance`: train and measure the embedding that the tracker compares objects by.

An aligned RGB-thermal crop, or all crops of one object of a synthetic scene, is one identity. Two random views of it
(box jitter, bending, occlusion, another background, light, blur, a missing modality) must land close together and away
from the other objects of the same class: NT-Xent (Chen et al., "A Simple Framework for Contrastive Learning of Visual
Representations", 2020, eq. 1).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor
from tqdm import tqdm

from mmkd_ros.inference.errors import WeightsError
from mmkd_ros.inference.weights import save_weights
from mmkd_ros.inference.weights_file import APPEARANCE
from mmkd_ros.tracking.appearance_network import AppearanceNet, load_appearance
from mmkd_ros.tracking.crops import AppearanceConfig
from mmkd_ros.types import Modality
from mmkd_train.appearance_data import (
    SAME_DRIVE_FRAMES,
    Crops,
    batches,
    read_clip,
    read_crops,
    render_crops,
    split_crops,
    synthetic_clip,
    views,
)
from mmkd_train.appearance_metrics import measure_all, measure_all_tracking, table
from mmkd_train.errors import UserError

HELP = "Train the appearance embedding of the tracker on RGB-thermal crops of single objects, or measure it."

# What the two views of a batch show. One choice for the whole batch: were it drawn per object, the missing modality
# itself would tell the objects apart. Views that share no modality are left out, as nothing could match them.
_VIEW_MODES: tuple[tuple[float, Modality, Modality], ...] = (
    (0.50, "both", "both"),
    (0.13, "rgb", "rgb"),
    (0.13, "thermal", "thermal"),
    (0.06, "both", "rgb"),
    (0.06, "rgb", "both"),
    (0.06, "both", "thermal"),
    (0.06, "thermal", "both"),
)


@dataclass(frozen=True)
class TrainingOptions:
    """How the embedding is trained.

    Attributes:
        epochs: passes over the crops.
        batch: identities per step (each in two views).
        learning_rate: peak of the one-cycle cosine schedule of AdamW.
        weight_decay: of AdamW.
        temperature: of the contrastive loss.
        seed: of everything random.

    Raises:
        ValueError: a value that cannot train.
    """

    epochs: int = 20
    batch: int = 192
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    temperature: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2 or min(self.learning_rate, self.temperature) <= 0 or self.weight_decay < 0:
            raise ValueError(
                "epochs must be 1 or more, batch 2 or more, rate and temperature above 0, weight decay 0 or more."
            )


def contrastive_loss(first: Tensor, second: Tensor, frames: Tensor, identities: Tensor, temperature: float) -> Tensor:
    """NT-Xent over two views of B objects.

    Args:
        first: (B, D) vectors of length one.
        second: (B, D), row i shows the same object as row i of ``first``.
        frames: (B,) int64 frame numbers. Objects of near but different frames may be one and the same and are not
            compared.
        identities: (B,) int64; other crops of the same object are not compared either.
        temperature: divides the cosines.
    """
    b = len(first)
    z = torch.cat((first, second))
    logits = z @ z.T / temperature
    gap = (frames[:, None] - frames[None, :]).abs()
    hidden = (gap > 0) & (gap <= SAME_DRIVE_FRAMES) | (identities[:, None] == identities[None, :])
    hidden = hidden.repeat(2, 2)
    target = torch.arange(2 * b).roll(b)
    hidden[torch.arange(2 * b), target] = False
    return functional.cross_entropy(logits.masked_fill(hidden, -math.inf), target)


def train_embedding(
    crops: Crops, config: AppearanceConfig, options: TrainingOptions, log: Callable[[dict[str, float]], None]
) -> AppearanceNet:
    """Train from scratch; ``log`` gets one row an epoch: epoch, loss, learning_rate, seconds."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    network = AppearanceNet(config)
    optimizer = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    steps = options.epochs * sum(1 for _ in batches(crops, options.batch, np.random.default_rng(options.seed)))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=steps, pct_start=0.15)
    shares = np.asarray([share for share, _, _ in _VIEW_MODES])
    images, frames = torch.from_numpy(crops.images), torch.from_numpy(crops.frames)
    identities = torch.from_numpy(crops.identities)
    started = time.monotonic()
    for epoch in range(options.epochs):
        losses: list[float] = []
        network.train()
        partners = crops.partners(rng)
        for rows in tqdm(
            batches(crops, options.batch, rng),
            desc=f"epoch {epoch + 1}",
            total=steps // options.epochs,
            mininterval=1,
            delay=2,
            leave=False,
        ):
            _, mode_first, mode_second = _VIEW_MODES[rng.choice(len(shares), p=shares / shares.sum())]
            one = views(images[rows], config, mode_first, generator)
            two = views(images[partners[rows]], config, mode_second, generator)
            first, second = network(torch.cat((one, two))).chunk(2)
            loss = contrastive_loss(first, second, frames[rows], identities[rows], options.temperature)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        log(
            {
                "epoch": epoch + 1,
                "loss": float(np.mean(losses)),
                "learning_rate": float(schedule.get_last_lr()[0]),
                "seconds": time.monotonic() - started,
            }
        )
    return network.eval()


class _EpochLog:
    """Prints a row per epoch and, with a path, keeps it as CSV."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: list[dict[str, float]] = []

    def __call__(self, row: dict[str, float]) -> None:
        self._rows.append(row)
        print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
        if self._path is not None:
            with self._path.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(row))
                writer.writeheader()
                writer.writerows(self._rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--crops", type=Path, required=True, help="tar file of CLASS/TIME/FRAME_OBJECT_{rgb,thermal}.jpg"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("models/mmkd_appearance.safetensors"), help="weights file to write"
    )
    parser.add_argument("--weights", type=Path, help="measure these weights instead of training")
    parser.add_argument(
        "--sequence", type=Path, action="append", default=[], help="clip with gt/gt.txt to measure on (repeatable)"
    )
    parser.add_argument("--render", type=int, default=0, help="number of synthetic scenes to train on as well")
    parser.add_argument("--synthetic", type=int, default=0, help="number of synthetic scenes to measure on")
    parser.add_argument("--epochs", type=int, default=TrainingOptions.epochs, help="passes over the crops")
    parser.add_argument("--batch", type=int, default=TrainingOptions.batch, help="identities per step")
    parser.add_argument("--seed", type=int, default=TrainingOptions.seed, help="of everything random")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--limit", type=int, help="use only the first so many crops (a quick try)")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    parser.add_argument("--log", type=Path, help="write a CSV row per epoch here")


def run(args: argparse.Namespace) -> int:
    """Train (or load), print the tables of measurements, write the weights."""
    torch.set_num_threads(args.threads)
    try:
        options = TrainingOptions(epochs=args.epochs, batch=args.batch, seed=args.seed)
        known = load_appearance(args.weights)[0] if args.weights is not None else None
    except (ValueError, WeightsError) as error:
        raise UserError(str(error)) from error
    config = known.config if known is not None else AppearanceConfig(level_thermal=True)
    clips = {folder.name: [read_clip(folder)] for folder in args.sequence}
    # a quarter larger than the network's input, which leaves the random zoom something to show
    size = (config.width * 5 // 4, config.height * 5 // 4)
    training, held_out = split_crops(read_crops(args.crops, size, args.limit))
    if len(training) < options.batch or len(held_out) < 2:
        raise UserError(f"{args.crops}: {len(training)} crops to train on and {len(held_out)} held out are too few.")
    recorded = len(training)
    if known is None and args.render:
        training = training.joined(render_crops(args.render, size))
    print(f"{recorded} recorded and {len(training) - recorded} rendered crops to train on, {len(held_out)} held out")
    network = known if known is not None else train_embedding(training, config, options, _EpochLog(args.log))
    if args.synthetic:
        # seeds far from those that a training set would use
        clips["synthetic"] = [synthetic_clip(90_000 + seed, 40) for seed in range(args.synthetic)]
    separations = measure_all(network, held_out, clips)
    tracking = measure_all_tracking(network, clips)
    print(table(separations), table(tracking), sep="\n\n")
    if args.json is not None:
        args.json.write_text(json.dumps({"separation": separations, "tracking": tracking}, indent=2) + "\n")
    if known is None:
        metadata = {
            "kind": APPEARANCE,
            "config": config.to_dict(),
            "thermal_contract": "uint8 white-hot; 16-bit is scaled per frame by mmkd_ros.imaging.thermal_to_uint8",
            "training": asdict(options),
            "data": f"{recorded} aligned RGB-thermal crops of {args.crops.name}, one identity each, and "
            f"{len(training) - recorded} crops of {args.render} synthetic scenes",
            "metrics": separations,
        }
        save_weights(args.output, dict(network.state_dict()), metadata)
        print(f"wrote {args.output}")
    return 0
