"""How well appearance vectors tell identities apart, and what that does for the tracker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmkd_ros.tracking import DeepSort, TrackerOptions
from mmkd_ros.tracking.appearance_network import AppearanceNet
from mmkd_ros.tracking.association import iou_matrix
from mmkd_ros.tracking.crops import AppearanceConfig, cut_crops
from mmkd_ros.types import Detections, ImagePair, Modality
from mmkd_train.appearance_data import SAME_DRIVE_FRAMES, Clip, Crops, batches, views

MODALITIES: tuple[Modality, ...] = ("both", "rgb", "thermal")
Embed = Callable[[Tensor], NDArray[np.float32]]
Results = dict[str, dict[str, dict[str, float]]]


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
        scores: for each comparison the cosines (Q, G) of Q queries and G candidates, NaN where the two are not
            compared, and which of them are the same identity.

    Raises:
        ValueError: no pair of one identity or none of two.
    """
    same = np.concatenate([cosine[match] for cosine, match in scores])
    other = np.concatenate([cosine[~match & ~np.isnan(cosine)] for cosine, match in scores])
    if not len(same) or not len(other):
        raise ValueError("Separation needs pairs of one identity and pairs of two.")
    ordered = np.sort(other)
    # ties count half, so a constant embedding gets 0.5
    below = (np.searchsorted(ordered, same, "left") + np.searchsorted(ordered, same, "right")) / 2
    hits = []
    for cosine, match in scores:
        best = np.where(np.isnan(cosine), -np.inf, cosine).argmax(axis=1)
        hits.append(match[np.arange(len(cosine)), best][match.any(axis=1)])
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
        cosine = np.where((gap > 0) & (gap <= SAME_DRIVE_FRAMES), np.float32(np.nan), first @ second.T)
        scores.append((cosine, np.eye(len(rows), dtype=bool)))
    return separation(scores)


def encode_clip(
    embed: Embed, clip: Clip, boxes: list[NDArray[np.float32]], config: AppearanceConfig, mode: Modality
) -> list[NDArray[np.float32]]:
    """Vectors (N, D) of the boxes in every frame, seen by the given modalities."""
    vectors = []
    for pair, here in zip(clip.pairs, boxes, strict=True):
        shown = ImagePair(None if mode == "thermal" else pair.rgb, None if mode == "rgb" else pair.thermal, pair.stamp)
        crops, valid = cut_crops(shown, here, config)
        vectors.append(np.where(valid[:, None], embed(torch.from_numpy(crops)), 0).astype(np.float32))
    return vectors


def measure_clips(
    embed: Embed,
    clips: list[Clip],
    config: AppearanceConfig,
    mode: Modality,
    gaps: tuple[int, ...] = (1, 3, 5, 10, 15),
) -> Separation:
    """The objects of a frame are looked for among those of their class in the frame ``gap`` earlier."""
    scores = []
    for clip in clips:
        vectors = encode_clip(embed, clip, clip.boxes, config, mode)
        for gap in gaps:
            for late in range(gap, len(clip.pairs)):
                early = late - gap
                for label in np.intersect1d(clip.labels[late], clip.labels[early]):
                    query, candidate = clip.labels[late] == label, clip.labels[early] == label
                    cosine = vectors[late][query] @ vectors[early][candidate].T
                    scores.append((cosine, clip.ids[late][query][:, None] == clip.ids[early][candidate][None, :]))
    return separation(scores)


@dataclass(frozen=True, slots=True)
class TrackingScore:
    """What the tracker made of identities.

    Attributes:
        idf1: 2 IDTP / (boxes of the truth + boxes of the tracker) (Ristani et al. 2016).
        switches: frames at which an object's track id differs from its last one.
        ids: track ids given out as confirmed.
        objects: identities of the truth.
    """

    idf1: float
    switches: int
    ids: int
    objects: int


def measure_tracker(
    clips: list[Clip],
    embed: Embed | None,
    config: AppearanceConfig,
    mode: Modality,
    options: TrackerOptions,
    miss: float = 0.2,
    jitter: float = 0.04,
) -> TrackingScore:
    """Track the boxes of the truth as a detector would see them: jittered by a share of their size, some missed.

    Args:
        clips: with identities.
        embed: None tracks without appearance.
        config: of the crops.
        mode: what the crops show.
        options: of the tracker.
        miss: share of the boxes left out, in stretches of about five frames.
        jitter: standard deviation of the corners, as a share of the box.
    """
    matched = boxes_true = boxes_found = switches = ids = objects = 0
    for number, clip in enumerate(clips):
        rng = np.random.default_rng(number)
        tracker = DeepSort(options)
        hidden_until: dict[int, int] = {}
        together: dict[tuple[int, int], int] = {}
        last: dict[int, int] = {}
        given: set[int] = set()
        seen: list[NDArray[np.float32]] = []
        labels: list[NDArray[np.int64]] = []
        for frame, (true_ids, boxes) in enumerate(zip(clip.ids, clip.boxes, strict=True)):
            kept = []
            for identity in true_ids.tolist():
                if hidden_until.get(identity, -1) < frame and rng.random() < miss / 5:
                    hidden_until[identity] = frame + int(rng.integers(2, 9))
                kept.append(hidden_until.get(identity, -1) < frame)
            size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
            noisy = boxes + (rng.normal(0, jitter, boxes.shape) * size).astype(np.float32)
            seen.append(noisy[np.asarray(kept, bool)])
            labels.append(clip.labels[frame][np.asarray(kept, bool)])
        vectors = encode_clip(embed, clip, seen, config, mode) if embed is not None else None
        for frame, pair in enumerate(clip.pairs):
            scores = np.ones(len(seen[frame]), np.float32)
            names = tuple(str(i) for i in range(16))
            found = Detections(seen[frame], scores, labels[frame], names, pair.stamp)
            tracks = tracker.update(found, vectors[frame] if vectors is not None else None)
            boxes_true += len(clip.ids[frame])
            boxes_found += len(tracks)
            given.update(tracks.ids.tolist())
            iou = iou_matrix(clip.boxes[frame].astype(np.float64), tracks.boxes.astype(np.float64))
            for row, column in zip(*linear_sum_assignment(-iou), strict=True):
                if iou[row, column] < 0.5:
                    continue
                identity, track = int(clip.ids[frame][row]), int(tracks.ids[column])
                switches += last.get(identity, track) != track
                last[identity] = track
                together[identity, track] = together.get((identity, track), 0) + 1
        truth_ids = sorted({i for i, _ in together})
        track_ids = sorted({t for _, t in together})
        counts = np.array([[together.get((i, t), 0) for t in track_ids] for i in truth_ids]).reshape(len(truth_ids), -1)
        matched += int(counts[linear_sum_assignment(-counts)].sum())
        ids += len(given)
        objects += len({int(i) for here in clip.ids for i in here})
    return TrackingScore(2 * matched / max(1, boxes_true + boxes_found), switches, ids, objects)


def measure_all(network: AppearanceNet, held_out: Crops, clips: dict[str, list[Clip]]) -> Results:
    """Network and pixel baseline on every set: {set: {"network both": {"auc": ...}, ...}}."""
    config = network.config
    results: Results = {}
    for name, embed in (("network", network_embed(network)), ("pixels", pixel_embed)):
        for mode in MODALITIES:
            key = f"{name} {mode}"
            results.setdefault("held-out crops", {})[key] = asdict(measure_crops(embed, held_out, config, mode))
            for clip_name, group in clips.items():
                results.setdefault(clip_name, {})[key] = asdict(measure_clips(embed, group, config, mode))
    return results


def measure_all_tracking(network: AppearanceNet, clips: dict[str, list[Clip]]) -> Results:
    """The tracker without appearance and with it, with default options, on every set of clips."""
    results: Results = {}
    runs: list[tuple[str, Embed | None, Modality]] = [("without appearance", None, "both")]
    runs += [(f"network {mode}", network_embed(network), mode) for mode in MODALITIES]
    for clip_name, group in clips.items():
        for key, embed, mode in runs:
            score = measure_tracker(group, embed, network.config, mode, TrackerOptions())
            results.setdefault(clip_name, {})[key] = asdict(score)
    return results


def table(results: Results) -> str:
    """Measurements as text, a column per figure."""
    lines: list[str] = []
    for name, rows in results.items():
        for key, row in rows.items():
            if not lines:
                lines.append(f"{'':40}" + "".join(f"{column:>11}" for column in row))
            figures = "".join(
                f"{value:11.3f}" if isinstance(value, float) else f"{value:11d}" for value in row.values()
            )
            lines.append(f"{name + ', ' + key:40}{figures}")
    return "\n".join(lines)
