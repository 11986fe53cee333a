"""`appearance`: train and measure the embedding that the tracker compares objects by.

Every aligned RGB-thermal crop is one identity. Two random views of it (box jitter, bending, occlusion, another
background, light, blur, a missing modality) must land close together and away from the other objects of the same class:
NT-Xent (Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020, eq. 1).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from mmkd_ros.inference.weights import WeightsError, save_weights
from mmkd_ros.tracking.appearance import KIND, AppearanceConfig, AppearanceEncoder, AppearanceNet, cut_crops
from mmkd_ros.types import ImagePair, Modality
from mmkd_train.errors import UserError

HELP = "Train the appearance embedding of the tracker on RGB-thermal crops of single objects, or measure it."

MODALITIES: tuple[Modality, ...] = ("both", "rgb", "thermal")
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
_SAME_DRIVE_FRAMES = 15  # crops this near in time, but not of one frame, may show the same object: never a negative
_BLOCK_FRAMES = 100  # the held-out part is two of every ten blocks of frame numbers
_GUARD_FRAMES = 5  # left out at the edges of a block


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


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """Aligned crops of N single objects.

    Attributes:
        images: (N, H, W, 4) uint8, R, G, B, thermal.
        classes: (N,) int64, index of the class folder.
        frames: (N,) int64, number of the frame that the crop was cut from.
    """

    images: NDArray[np.uint8]
    classes: NDArray[np.int64]
    frames: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frames)

    def subset(self, rows: NDArray[np.bool_]) -> Crops:
        """The crops where ``rows`` (N,) bool is True."""
        return Crops(self.images[rows], self.classes[rows], self.frames[rows])


def read_crops(archive: Path, size: tuple[int, int], limit: int | None = None) -> Crops:
    """Read `CLASS/DAY_OR_NIGHT/FRAME_OBJECT_{rgb,thermal}.jpg` from a tar file without unpacking it.

    Args:
        archive: the tar file.
        size: (width, height) that every crop is resized to.
        limit: stop after so many objects.

    Raises:
        UserError: no such file, not a tar file, an unreadable picture or no pair at all.
    """
    halves: dict[str, NDArray[np.uint8]] = {}
    images: list[NDArray[np.uint8]] = []
    classes: list[str] = []
    frames: list[int] = []
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                stem, _, kind = Path(member.name).stem.rpartition("_")
                if not member.isfile() or kind not in ("rgb", "thermal"):
                    continue
                stream = tar.extractfile(member)
                flag = cv2.IMREAD_COLOR_RGB if kind == "rgb" else cv2.IMREAD_GRAYSCALE
                picture = cv2.imdecode(np.frombuffer(stream.read() if stream else b"", np.uint8), flag)
                if picture is None:
                    raise UserError(f"{archive}: {member.name} is not a readable picture.")
                key = f"{Path(member.name).parent}/{stem}"
                resized = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
                other = halves.pop(key, None)
                if other is None:
                    halves[key] = resized
                    continue
                images.append(np.dstack((resized, other) if kind == "rgb" else (other, resized)))
                classes.append(Path(member.name).parts[0])
                frames.append(int(stem.split("_")[0]))
                if limit is not None and len(images) >= limit:
                    break
    except (OSError, tarfile.TarError, ValueError, cv2.error) as error:
        raise UserError(f"Cannot read the crops in {archive}: {error}.") from error
    if not images:
        raise UserError(f"{archive} holds no pair of CLASS/TIME/FRAME_OBJECT_rgb.jpg and _thermal.jpg.")
    names = sorted(set(classes))
    return Crops(
        np.stack(images), np.asarray([names.index(c) for c in classes], np.int64), np.asarray(frames, np.int64)
    )


def split_crops(crops: Crops) -> tuple[Crops, Crops]:
    """Training and held-out crops; by stretches of the recording, so that no object is in both."""
    block, place = crops.frames // _BLOCK_FRAMES, crops.frames % _BLOCK_FRAMES
    inside = (place >= _GUARD_FRAMES) & (place < _BLOCK_FRAMES - _GUARD_FRAMES)
    held_out = np.isin(block % 10, (3, 8))
    return crops.subset(~held_out), crops.subset(held_out & inside)


def batches(crops: Crops, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Rows of one epoch; a batch is of one class and keeps the objects of a frame together: those are the hard
    negatives.
    """
    chunks: list[NDArray[np.int64]] = []
    for label in np.unique(crops.classes):
        rows = np.flatnonzero(crops.classes == label)
        shuffled = rng.permutation(int(crops.frames.max()) + 1)[crops.frames[rows]]
        rows = rows[np.argsort(shuffled, kind="stable")]
        chunks += [rows[start : start + size] for start in range(0, len(rows), size) if len(rows) - start >= size // 2]
    for index in rng.permutation(len(chunks)):
        yield chunks[index]


def views(images: Tensor, config: AppearanceConfig, mode: Modality, generator: torch.Generator) -> Tensor:
    """One random view of every crop.

    Args:
        images: (B, H, W, 4) uint8.
        config: gives size and normalisation.
        mode: which modalities the view shows.
        generator: of everything random.

    Returns:
        (B, 4, height, width) float32, normalised; zeros for the modality not shown.
    """
    b = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * (high - low) + low

    def some(probability: float) -> Tensor:
        return (torch.rand((b, 1, 1, 1), generator=generator) < probability).float()

    x = images.permute(0, 3, 1, 2).float() / 255
    # Geometry: the box is never exact (shift, zoom, aspect), bodies bend (smooth random displacement).
    affine = torch.zeros(b, 2, 3)
    angle = uniform(-0.1, 0.1, b)
    zoom_x, zoom_y = uniform(0.8, 1.15, b), uniform(0.8, 1.15, b)
    affine[:, 0, 0], affine[:, 0, 1] = zoom_x * torch.cos(angle), -torch.sin(angle) / 2
    affine[:, 1, 0], affine[:, 1, 1] = torch.sin(angle) * 2, zoom_y * torch.cos(angle)
    affine[:, :, 2] = uniform(-0.15, 0.15, b, 2)
    grid = functional.affine_grid(affine, [b, 1, config.height, config.width], align_corners=False)
    bend = functional.interpolate(
        uniform(-0.12, 0.12, b, 2, 5, 3), (config.height, config.width), mode="bicubic", align_corners=True
    )
    grid = grid + bend.permute(0, 2, 3, 1)
    rgb = functional.grid_sample(x[:, :3], grid, padding_mode="border", align_corners=False)
    misaligned = grid + uniform(-0.08, 0.08, b, 1, 1, 2)
    thermal = functional.grid_sample(x[:, 3:], misaligned, padding_mode="border", align_corners=False)
    x = torch.cat((rgb, thermal), 1)
    # Another object's picture comes in from the corners (background) or in a rectangle (occlusion).
    other = x[torch.randperm(b, generator=generator)]
    rows = torch.linspace(-1, 1, config.height).view(1, 1, -1, 1)
    columns = torch.linspace(-1, 1, config.width).view(1, 1, 1, -1)
    radius = (rows - uniform(-0.1, 0.1, b, 1, 1, 1)) ** 2 + (columns - uniform(-0.1, 0.1, b, 1, 1, 1)) ** 2
    background = torch.sigmoid((radius - uniform(0.9, 1.4, b, 1, 1, 1)) * 8) * some(0.5)
    reach_y, reach_x = uniform(0.15, 0.5, b, 1, 1, 1), uniform(0.15, 0.5, b, 1, 1, 1)
    near_y = (rows - uniform(-1, 1, b, 1, 1, 1)).abs() < reach_y
    near_x = (columns - uniform(-1, 1, b, 1, 1, 1)).abs() < reach_x
    mix = torch.maximum(background, (near_y & near_x).float() * some(0.35))
    x = x * (1 - mix) + other * mix
    # Distance and motion: fewer pixels in all crops of the step alike (one size per step keeps it a batch operation).
    scale = float(uniform(0.3, 1.0, 1))
    small = functional.interpolate(
        x, (max(4, round(config.height * scale)), max(4, round(config.width * scale))), mode="area"
    )
    blurred = functional.interpolate(small, (config.height, config.width), mode="bilinear", align_corners=False)
    x = torch.lerp(x, blurred, some(0.5))
    # Light: contrast and brightness per modality, a cast per colour, gamma, noise.
    mean = torch.cat(
        (x[:, :3].mean((1, 2, 3), keepdim=True).expand(-1, 3, -1, -1), x[:, 3:].mean((2, 3), keepdim=True)), 1
    )
    contrast = torch.cat((uniform(0.7, 1.3, b, 1, 1, 1).expand(-1, 3, -1, -1), uniform(0.7, 1.3, b, 1, 1, 1)), 1)
    cast = uniform(0.92, 1.08, b, 4, 1, 1) * torch.cat(
        (uniform(0.75, 1.25, b, 1, 1, 1).expand(-1, 3, -1, -1), uniform(0.9, 1.1, b, 1, 1, 1)), 1
    )
    x = ((x - mean) * contrast + mean * cast).clamp(0, 1)
    x = x + torch.randn(x.shape, generator=generator) * uniform(0, 0.04, b, 1, 1, 1)
    x = (x - torch.tensor(config.mean).view(1, 4, 1, 1)) / torch.tensor(config.std).view(1, 4, 1, 1)
    return _show(x, mode)


def _show(x: Tensor, mode: Modality) -> Tensor:
    """Blank the modality that ``mode`` does not show, in place."""
    if mode == "rgb":
        x[:, 3] = 0
    elif mode == "thermal":
        x[:, :3] = 0
    return x


def contrastive_loss(first: Tensor, second: Tensor, frames: Tensor, temperature: float) -> Tensor:
    """NT-Xent over two views of B objects.

    Args:
        first: (B, D) vectors of length one.
        second: (B, D), row i shows the same object as row i of ``first``.
        frames: (B,) int64 frame numbers. Objects of near but different frames may be one and the same and are not
            compared.
        temperature: divides the cosines.
    """
    b = len(first)
    z = torch.cat((first, second))
    logits = z @ z.T / temperature
    gap = (frames[:, None] - frames[None, :]).abs()
    unsure = (gap > 0) & (gap <= _SAME_DRIVE_FRAMES)
    hidden = unsure.repeat(2, 2) | torch.eye(2 * b, dtype=torch.bool)
    target = torch.arange(2 * b).roll(b)
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
    started = time.monotonic()
    for epoch in range(options.epochs):
        losses: list[float] = []
        network.train()
        for rows in batches(crops, options.batch, rng):
            _, mode_first, mode_second = _VIEW_MODES[rng.choice(len(shares), p=shares / shares.sum())]
            chosen = images[rows]
            both = [views(chosen, config, mode, generator) for mode in (mode_first, mode_second)]
            first, second = network(torch.cat(both)).chunk(2)
            loss = contrastive_loss(first, second, frames[rows], options.temperature)
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


Embed = Callable[[Tensor], NDArray[np.float32]]


def network_embed(network: AppearanceNet) -> Embed:
    """The network as a function: (N, 4, H, W) normalised float32 tensor -> (N, D) float32 vectors of length one."""

    @torch.inference_mode()
    def embed(x: Tensor) -> NDArray[np.float32]:
        parts = [network(x[i : i + 256]) for i in range(0, len(x), 256)]
        return torch.cat(parts).numpy().astype(np.float32)

    return embed


def pixel_embed(x: Tensor) -> NDArray[np.float32]:
    """The baseline: pixels pooled to 8 x 4 cells per channel, length one."""
    return functional.normalize(functional.adaptive_avg_pool2d(x, (8, 4)).flatten(1), dim=1).numpy().astype(np.float32)


@dataclass(frozen=True, slots=True)
class Separation:
    """How well cosine similarity tells identities apart.

    Attributes:
        auc: chance that a pair of one identity is more alike than a pair of two (0.5 = blind).
        rank1: share of the queries whose most alike candidate is the right one.
        same_p90: cosine distance that 90 % of the pairs of one identity stay under.
        other_p10: cosine distance that 90 % of the pairs of two identities stay over.
    """

    auc: float
    rank1: float
    same_p90: float
    other_p10: float


def separation(scores: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> Separation:
    """Summarise comparisons.

    Args:
        scores: for each comparison the cosines (Q, G) of Q queries and G candidates, and which of them are the same
            identity.

    Raises:
        ValueError: no pair of one identity or none of two.
    """
    same = np.concatenate([cosine[match] for cosine, match in scores])
    other = np.concatenate([cosine[~match] for cosine, match in scores])
    if not len(same) or not len(other):
        raise ValueError("Separation needs pairs of one identity and pairs of two.")
    ordered = np.sort(other)
    # ties count half, so a constant embedding gets 0.5
    below = (np.searchsorted(ordered, same, "left") + np.searchsorted(ordered, same, "right")) / 2
    hits = [match[np.arange(len(cosine)), cosine.argmax(1)][match.any(1)] for cosine, match in scores]
    return Separation(
        float(below.mean() / len(other)),
        float(np.concatenate(hits).mean()),
        float(1 - np.quantile(same, 0.1)),
        float(1 - np.quantile(other, 0.9)),
    )


def measure_crops(embed: Embed, crops: Crops, config: AppearanceConfig, mode: Modality, group: int = 20) -> Separation:
    """Two views of held-out crops: each object is looked for among ``group`` objects of its class."""
    generator = torch.Generator().manual_seed(1234)
    rng = np.random.default_rng(1234)
    scores = []
    for rows in batches(crops, group, rng):
        chosen = torch.from_numpy(crops.images[rows])
        first = embed(views(chosen, config, mode, generator))
        second = embed(views(chosen, config, mode, generator))
        gap = np.abs(crops.frames[rows][:, None] - crops.frames[rows][None, :])
        cosine = np.where((gap > 0) & (gap <= _SAME_DRIVE_FRAMES), np.float32(-1), first @ second.T)
        scores.append((cosine, np.eye(len(rows), dtype=bool)))
    return separation(scores)


def read_sequence(folder: Path) -> tuple[list[ImagePair], list[tuple[NDArray[np.int64], NDArray[np.float32]]]]:
    """A clip with `rgb/`, `thermal/` and `gt/gt.txt` (MOT lines, frames from 1).

    Returns:
        The pairs, and for each its ids (N,) and boxes (N, 4) xyxy.

    Raises:
        UserError: a missing or unreadable file.
    """
    pairs = []
    for index, path in enumerate(sorted((folder / "rgb").glob("*.jpg"))):
        rgb = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        thermal = cv2.imread(str(folder / "thermal" / path.name), cv2.IMREAD_GRAYSCALE)
        if rgb is None or thermal is None:
            raise UserError(f"{path} or its thermal partner of the same name cannot be read.")
        pairs.append(ImagePair(rgb.astype(np.uint8), thermal.astype(np.uint8), float(index)))
    try:
        rows = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read {folder / 'gt' / 'gt.txt'}: {error}.") from error
    truth = []
    for index in range(len(pairs)):
        here = rows[rows[:, 0] == index + 1]
        boxes = np.concatenate((here[:, 2:4], here[:, 2:4] + here[:, 4:6]), 1).astype(np.float32)
        truth.append((here[:, 1].astype(np.int64), boxes))
    return pairs, truth


def measure_sequence(
    embed: Embed,
    pairs: list[ImagePair],
    truth: list[tuple[NDArray[np.int64], NDArray[np.float32]]],
    config: AppearanceConfig,
    mode: Modality,
    gaps: tuple[int, ...] = (1, 3, 5, 10, 15),
) -> Separation:
    """The objects of a frame are looked for among those of the frame ``gap`` earlier."""
    features = []
    for pair, (_, boxes) in zip(pairs, truth, strict=True):
        shown = ImagePair(None if mode == "thermal" else pair.rgb, None if mode == "rgb" else pair.thermal, pair.stamp)
        features.append(embed(torch.from_numpy(cut_crops(shown, boxes, config)[0])))
    scores = []
    for gap in gaps:
        for late in range(gap, len(pairs)):
            cosine = features[late] @ features[late - gap].T
            if cosine.size:
                scores.append((cosine, truth[late][0][:, None] == truth[late - gap][0][None, :]))
    return separation(scores)


def measure_all(
    network: AppearanceNet, held_out: Crops, sequences: list[Path]
) -> dict[str, dict[str, dict[str, float]]]:
    """Network and pixel baseline on every set: {set: {"network both": {"auc": ...}, ...}}."""
    config = network.config
    clips = {folder.name: read_sequence(folder) for folder in sequences}
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, embed in (("network", network_embed(network)), ("pixels", pixel_embed)):
        for mode in MODALITIES:
            key = f"{name} {mode}"
            results.setdefault("held-out crops", {})[key] = asdict(measure_crops(embed, held_out, config, mode))
            for clip, (pairs, truth) in clips.items():
                results.setdefault(clip, {})[key] = asdict(measure_sequence(embed, pairs, truth, config, mode))
    return results


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The measurements as text."""
    lines = [f"{'':34}{'AUC':>8}{'rank-1':>8}{'same p90':>10}{'other p10':>10}"]
    for name, rows in results.items():
        for key, row in rows.items():
            figures = f"{row['auc']:8.3f}{row['rank1']:8.3f}{row['same_p90']:10.3f}{row['other_p10']:10.3f}"
            lines.append(f"{name + ', ' + key:34}{figures}")
    return "\n".join(lines)


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
    parser.add_argument("--epochs", type=int, default=TrainingOptions.epochs, help="passes over the crops")
    parser.add_argument("--batch", type=int, default=TrainingOptions.batch, help="identities per step")
    parser.add_argument("--seed", type=int, default=TrainingOptions.seed, help="of everything random")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--limit", type=int, help="use only the first so many crops (a quick try)")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    parser.add_argument("--log", type=Path, help="write a CSV row per epoch here")


def run(args: argparse.Namespace) -> int:
    """Train (or load), print the table of measurements, write the weights."""
    torch.set_num_threads(args.threads)
    try:
        options = TrainingOptions(epochs=args.epochs, batch=args.batch, seed=args.seed)
        network = AppearanceNet(AppearanceConfig()) if args.weights is None else AppearanceEncoder(args.weights).network
    except (ValueError, WeightsError) as error:
        raise UserError(str(error)) from error
    config = network.config
    training, held_out = split_crops(
        read_crops(args.crops, (config.width * 5 // 4, config.height * 5 // 4), args.limit)
    )
    if len(training) < options.batch or len(held_out) < 2:
        raise UserError(f"{args.crops}: {len(training)} crops to train on and {len(held_out)} held out are too few.")
    print(f"{len(training)} crops to train on, {len(held_out)} held out", flush=True)
    if args.weights is None:
        network = train_embedding(training, config, options, _EpochLog(args.log))
    results = measure_all(network, held_out, args.sequence)
    print(table(results))
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    if args.weights is None:
        metadata = {
            "kind": KIND,
            "config": config.to_dict(),
            "thermal_contract": "uint8 white-hot; 16-bit is scaled per frame by mmkd_ros.imaging.thermal_to_uint8",
            "training": asdict(options),
            "data": f"{len(training)} aligned RGB-thermal crops of {args.crops.name}, one identity each",
            "metrics": results,
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        save_weights(args.output, dict(network.state_dict()), metadata)
        print(f"wrote {args.output}")
    return 0
