"""All options of a training run: nested dataclasses, filled from a YAML file and ``section.name=value`` overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import dacite
import yaml

from mmkd_ros.network import DetectorConfig
from mmkd_train.assign import AssignOptions
from mmkd_train.data.augment import AugmentOptions
from mmkd_train.data.coco import PARTIAL_SOURCES
from mmkd_train.errors import UserError
from mmkd_train.losses import DistillOptions, LossOptions


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Where the pictures come from, and how many of each kind make one batch."""

    root: str = "../shared/data"
    train: str = "annotations/train.json"
    thermal_only: str = "annotations/train_thermal_only.json"
    val: str = "annotations/val.json"
    pairs_per_batch: int = 5
    thermal_only_per_batch: int = 2
    synthetic_per_batch: int = 1
    unlabelled: list[str] = field(default_factory=list)
    """Folders with rgb/ and thermal/ but no boxes; only a teacher makes them worth a place in the batch."""
    unlabelled_per_batch: int = 0
    synthetic_pool: int = 600
    """Rendered pictures in the rotation; each is rendered once and kept."""
    synthetic_seed: int = 0
    crops: str = "crops/flir_crops.tar"
    """Archive of object crops under the root, for ``augment.paste``."""
    views: int = 0
    """Different crops of each picture, 0 = a new one every time. A few, the same in every run, let a teacher's answers
    be remembered."""
    cache_gb: float = 2.0
    """Decoded pictures kept in memory, of pairs and of thermal_only each, in every loading process."""
    merge: dict[str, str] = field(default_factory=lambda: {"motorcycle": "bicycle", "bus": "car", "truck": "car"})
    partial: dict[str, list[str]] = field(
        default_factory=lambda: {source: list(names) for source, names in PARTIAL_SOURCES.items()}
    )

    def __post_init__(self) -> None:
        counts = (
            self.pairs_per_batch,
            self.thermal_only_per_batch,
            self.synthetic_per_batch,
            self.unlabelled_per_batch,
        )
        if min(*counts, self.views) < 0 or self.batch < 1 or self.synthetic_pool < 1:
            raise ValueError(
                "data: the *_per_batch counts and views must not be negative, the counts must sum to at least 1, and "
                "synthetic_pool be positive."
            )

    @property
    def batch(self) -> int:
        """Samples per step over all processes."""
        return self.pairs_per_batch + self.thermal_only_per_batch + self.synthetic_per_batch + self.unlabelled_per_batch


@dataclass(frozen=True, slots=True)
class OptimOptions:
    """AdamW, linear warm-up, cosine decay, gradient clipping, exponential moving average of the weights."""

    steps: int = 6000
    lr: float = 1.5e-3
    backbone_lr: float = 0.3
    """Factor on ``lr`` for the backbones."""
    weight_decay: float = 0.02
    warmup: int = 200
    clip: float = 10.0
    ema: float = 0.998
    frozen_stages: int = 2
    """Stem and this many stages of each backbone are not trained."""
    freeze_norms: bool = True
    """Keep the backbones' batch-norm statistics."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0 or not 0 <= self.ema < 1 or self.warmup < 0 or self.frozen_stages < 0:
            raise ValueError("optim: need steps >= 1, lr > 0, 0 <= ema < 1, warmup >= 0, frozen_stages >= 0.")


@dataclass(frozen=True, slots=True)
class TeacherOptions:
    """The frozen network that a student is distilled from."""

    weights: str = ""
    """Its file; empty = training with labels only."""
    ensemble: tuple[str, ...] = ()
    """Files of further detectors: the class scores that the student is held to are then the mean of all (an ensemble,
    Hinton et al., arXiv 1503.02531), the features remain those of ``weights``."""
    cache: str = ""
    """Folder in which the answers are kept; empty = they are computed at every step. Useful with data.views."""
    scale: Literal[1, 2] = 1
    """2 shows the teacher each view at twice the student's resolution (Qi et al., arXiv 2109.06875): its P4 ... P7 lie
    on the student's P3 ... P6, cell for cell and anchor for anchor; the student's P7 learns from labels alone."""

    def __post_init__(self) -> None:
        if self.scale not in (1, 2):
            raise ValueError(f"teacher.scale must be 1 or 2, got {self.scale}.")
        if self.ensemble and not self.weights:
            raise ValueError("teacher.ensemble adds to the teacher of teacher.weights, which is empty; give it, too.")


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """One run: of a teacher, of a student with labels only, or of a student with a teacher."""

    output: str = "runs/student"
    seed: int = 0
    pretrained: str | bool = False
    """Backbone weights: true = timm's, a path = a local file."""
    init: str = ""
    """A detector's weights file to start from; its architecture must agree with ``model``, but for the backbones: from
    one with others, what fits of the rest is taken."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of :class:`mmkd_ros.network.DetectorConfig`."""
    train_size: tuple[int, int] = (256, 320)
    """(height, width) of the training pictures."""
    precision: str = "fp32"
    """'fp32', or 'bf16' or 'fp16' autocast. 'bf16' pays on GPUs and on CPUs that compute in it (avx512_bf16)."""
    channels_last: bool = False
    """Memory layout of the network. A teacher of the EfficientNet-Lite family trains 30 % faster with it on a CPU, a
    MobileNetV3 about 15 %; with 'bf16' or 'fp16' on a GPU all do."""
    checkpoint_activations: bool = False
    """Recompute the backbones' activations in the backward pass: a third slower, a fraction of the memory."""
    evaluate_every: int = 1000
    checkpoint_every: int = 250
    data: DataOptions = field(default_factory=DataOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    assign: AssignOptions = field(default_factory=AssignOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    distill: DistillOptions = field(default_factory=DistillOptions)

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise ValueError(f"precision must be 'fp32', 'bf16' or 'fp16', got '{self.precision}'.")
        if any(side < 32 or side % 32 for side in self.train_size) or max(self.train_size) <= 128:
            raise ValueError(
                "train_size must be (height, width) in multiples of 32, one above 128 (P7 needs two "
                f"cells), got {self.train_size}."
            )
        DetectorConfig.from_dict(self.model)
        if self.teacher.cache and not self.data.views:
            raise ValueError("teacher.cache needs data.views > 0: views that never come back cannot be remembered.")

    @property
    def detector(self) -> DetectorConfig:
        """The network that is trained."""
        return DetectorConfig.from_dict(self.model)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def load_options(path: Path, overrides: Sequence[str] = ()) -> TrainOptions:
    """Read a YAML file and apply ``section.name=value`` overrides (values are YAML, nothing is the empty string).

    Raises:
        UserError: unreadable file, unknown or ill-typed option; the sentence names it.
    """
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not a readable YAML file: {error}") from error
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise UserError(f"override '{override}' must look like section.name=value.")
        *sections, name = key.split(".")
        target = values
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise UserError(f"override '{override}': '{section}' is not a section.")
        target[name] = yaml.safe_load(text) if text else ""
    try:
        return dacite.from_dict(TrainOptions, values, dacite.Config(strict=True, cast=[tuple, float]))
    except (dacite.DaciteError, ValueError, TypeError) as error:
        raise UserError(f"{path}: {error}") from error
