"""What one training step learns from: pictures drawn by (seed, step, slot) alone, augmented, collated.

In: the training options. Out: a :class:`Batch` per step, the same whenever and in whichever process it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmkd_ros.inference.normalize import normalize
from mmkd_ros.inference.preprocess import PAD
from mmkd_ros.network import DetectorConfig
from mmkd_train.data.augment import disturb, random_view, shrink
from mmkd_train.data.coco import CocoPairs, LabelRules, Sample, UnlabelledPairs
from mmkd_train.data.compose import Paster, mosaic
from mmkd_train.data.crops import read_object_crops
from mmkd_train.errors import UserError
from mmkd_train.options import TrainOptions


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Stacked pictures of one size.

    Attributes:
        rgb: (B, H, W, 3) uint8; thermal: (B, H, W) uint8; a missing one is grey.
        present: (B, 2) bool, which of (rgb, thermal) is real.
    """

    rgb: Tensor
    thermal: Tensor
    present: Tensor

    @classmethod
    def stack(cls, samples: list[Sample]) -> Pictures:
        """The pictures of samples of one size."""
        height, width = samples[0].size
        rgb = np.full((len(samples), height, width, 3), PAD, np.uint8)
        thermal = np.full((len(samples), height, width), PAD, np.uint8)
        for index, sample in enumerate(samples):
            if sample.rgb is not None:
                rgb[index] = sample.rgb
            if sample.thermal is not None:
                thermal[index] = sample.thermal
        present = torch.tensor([[sample.rgb is not None, sample.thermal is not None] for sample in samples])
        return cls(torch.from_numpy(rgb), torch.from_numpy(thermal), present)

    def inputs(
        self, config: DetectorConfig, device: torch.device, layout: torch.memory_format = torch.contiguous_format
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(rgb, thermal, present) as a detector's forward takes them."""
        rgb = normalize(self.rgb.to(device), config.rgb_mean, config.rgb_std)
        thermal = normalize(self.thermal.to(device), config.thermal_mean, config.thermal_std)
        return (
            rgb.contiguous(memory_format=layout),
            thermal.contiguous(memory_format=layout),
            self.present.to(device),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one process learns from in one step.

    Attributes:
        student: the disturbed pictures that the network learns from.
        teacher: the same views undisturbed, with every modality that there is and ``teacher.scale`` times as large;
            None without a teacher.
        boxes, labels, ignore: per picture, as in :class:`Sample`.
        labelled: (B, C) bool.
    """

    student: Pictures
    teacher: Pictures | None
    boxes: list[Tensor]
    labels: list[Tensor]
    ignore: list[Tensor]
    labelled: Tensor


class StepBatches(Dataset[Batch]):
    """Item s is this process's part of step s's batch.

    Raises:
        UserError: a set that cannot be used, or fewer pictures in a batch than processes.
    """

    def __init__(self, options: TrainOptions, rank: int = 0, processes: int = 1) -> None:
        self.options = options
        data, root = options.data, Path(options.data.root)
        rules = LabelRules.for_classes(options.detector.class_names, data.merge, data.partial)
        cache_bytes = int(data.cache_gb * 1e9)
        self.sets: dict[str, CocoPairs | UnlabelledPairs] = {}
        if data.pairs_per_batch:
            self.sets["pairs"] = CocoPairs(root / data.train, root, rules, cache_bytes)
        if data.thermal_only_per_batch:
            self.sets["thermal_only"] = CocoPairs(root / data.thermal_only, root, rules, cache_bytes)
        if data.unlabelled_per_batch:
            self.sets["unlabelled"] = UnlabelledPairs([root / folder for folder in data.unlabelled], rules)
        kinds = ["pairs"] * data.pairs_per_batch + ["thermal_only"] * data.thermal_only_per_batch
        kinds += ["synthetic"] * data.synthetic_per_batch + ["unlabelled"] * data.unlabelled_per_batch
        self.slots = [(slot, kind) for slot, kind in enumerate(kinds)][rank::processes]
        self._pool: dict[int, Sample] = {}
        names = options.detector.class_names
        self._paster = Paster(read_object_crops(root / data.crops), names) if options.augment.paste else None
        self._whole = self._wholly_labelled() if options.augment.mosaic else []
        if not self.slots:
            raise UserError(f"{processes} processes cannot share a batch of {len(kinds)}; raise data.*_per_batch.")

    def __len__(self) -> int:
        return self.options.optim.steps

    def __getitem__(self, step: int) -> Batch:
        options = self.options
        height, width = options.train_size
        views, disturbed = [], []
        for slot, kind in self.slots:
            rng = np.random.default_rng((options.seed, step, slot))
            count = options.data.synthetic_pool if kind == "synthetic" else len(self.sets[kind])
            position = int(rng.integers(count))
            view_rng = rng
            if options.data.views:  # one of the picture's own views, whatever the run's seed
                view = int(rng.integers(options.data.views))
                view_rng = np.random.default_rng((_KINDS.index(kind), position, view))
            scale = options.teacher.scale
            views.append(self._view(kind, position, scale * height, scale * width, view_rng))
            disturbed.append(disturb(shrink(views[-1], scale), options.augment, rng))
        return Batch(
            Pictures.stack(disturbed),
            Pictures.stack(views) if options.teacher.weights else None,
            [torch.from_numpy(view.boxes) for view in disturbed],
            [torch.from_numpy(view.labels) for view in disturbed],
            [torch.from_numpy(view.ignore) for view in disturbed],
            torch.from_numpy(np.stack([view.labelled for view in disturbed])),
        )

    def _view(self, kind: str, position: int, height: int, width: int, rng: np.random.Generator) -> Sample:
        """One undisturbed view of a picture; of a pair, with objects pasted in, or with three others in one frame."""
        augment = self.options.augment
        if kind != "pairs":
            sample = self._rendered(position) if kind == "synthetic" else self.sets[kind][position]
            return random_view(sample, height, width, augment, rng)

        def pair(index: int) -> Sample:
            sample = self.sets["pairs"][index]
            return self._paster(sample, augment.paste, rng) if self._paster else sample

        if augment.mosaic and position in self._whole and rng.random() < augment.mosaic:
            four = [position, *rng.choice(self._whole, 3)]

            def part(number: int, rows: int, columns: int) -> Sample:
                return random_view(pair(int(four[number])), rows, columns, augment, rng, frame=(height, width))

            return mosaic(part, height, width, rng)
        return random_view(pair(position), height, width, augment, rng)

    def _wholly_labelled(self) -> list[int]:
        """Positions of the pairs with both modalities in which every class is labelled."""
        pairs = self.sets.get("pairs")
        if not isinstance(pairs, CocoPairs):
            return []
        return [
            position
            for position, entry in enumerate(pairs.images)
            if entry.get("thermal_file_name", True) and entry.get("file_name") and pairs.labels(position).labelled.all()
        ]

    def _rendered(self, index: int) -> Sample:
        """Picture ``index`` of the synthetic pool, a quarter larger than the training pictures so that zooming in stays
        sharp."""
        if index not in self._pool:
            height, width = (side * 5 // 4 for side in self.options.train_size)
            rng = np.random.default_rng((self.options.data.synthetic_seed, index))
            self._pool[index] = synthetic_sample(rng, height, width, self.options.detector)
        return self._pool[index]


_KINDS = ("pairs", "thermal_only", "synthetic", "unlabelled")


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
