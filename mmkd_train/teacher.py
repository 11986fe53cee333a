"""The frozen teachers of a distillation: detector files -> answers for a batch, optionally remembered on disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmkd_ros.inference import WeightsError
from mmkd_ros.inference.weights import load_detector
from mmkd_ros.network import Detector, DetectorConfig, DetectorOutput
from mmkd_train.batches import Pictures
from mmkd_train.errors import UserError
from mmkd_train.options import TrainOptions

_SHARED_FIELDS = ("class_names", "levels", "anchor_scale", "anchor_octaves", "anchor_ratios")


class TeacherAnswer(NamedTuple):
    """What a student is held to."""

    logits: Tensor
    """(B, A', C + 1) float32, background last: for the student's first A' anchors (all of them at scale 1)."""
    pyramids: dict[str, list[Tensor]]
    """"fused" and perhaps "rgb" and "thermal": [(B, C_teacher, H_l, W_l)] float32 for the student's finest levels (all
    of them at scale 1); zeros for a picture that lacks the modality."""


def check_fit(teacher: DetectorConfig, student: DetectorConfig) -> None:
    """Logits can be compared one to one only where classes, levels and anchors agree.

    Raises:
        UserError: they do not; the sentence names the field.
    """
    for name in _SHARED_FIELDS:
        if getattr(teacher, name) != getattr(student, name):
            raise UserError(
                f"the teacher has {name} {getattr(teacher, name)}, the student {getattr(student, name)}; a student can "
                "only be distilled from a teacher with the same classes, levels and anchors: change model.* of one."
            )


class Teacher:
    """A detector in evaluation mode without gradients; neither its weights nor its batch norms ever change.

    With a cache, a picture's answer is computed once, alone, rounded to half precision, and read from disk from then
    on. The key is a digest of the weights and of the very pixels, so that other weights, pictures or augmentation never
    meet an old answer. A run gives the same numbers whether an answer was read or computed.

    Args:
        weights: a file of :func:`mmkd_ros.inference.weights.save_detector`.
        student: the student's configuration, see :func:`check_fit`.
        channels_last: its memory layout.
        pyramids: which of "fused", "rgb", "thermal" are asked for.
        device: where it runs.
        cache: folder of the remembered answers, or None.
        scale: how many times the student's resolution it sees, see ``TeacherOptions.scale``.

    Raises:
        UserError: the file cannot be used, or does not fit the student.
    """

    def __init__(
        self,
        weights: Path,
        student: DetectorConfig,
        pyramids: tuple[str, ...],
        device: torch.device,
        cache: Path | None = None,
        channels_last: bool = True,
        scale: int = 1,
    ) -> None:
        try:
            detector, metadata = load_detector(weights)
        except WeightsError as error:
            raise UserError(f"teacher.weights: {error}") from error
        check_fit(detector.config, student)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self.detector: Detector = detector.to(device).eval().requires_grad_(False)
        self.detector.to(memory_format=self._layout)  # type: ignore[call-overload]
        self.sha256: str = metadata["sha256"]
        self._pyramids = pyramids
        self._device = device
        self._cache = cache
        self._skipped_levels = scale - 1  # at twice the resolution, the finest level has no partner
        self.hits = 0
        self.misses = 0
        self.unreadable = 0

    @property
    def channels(self) -> int:
        """Width of its pyramids."""
        return self.detector.config.bifpn_channels

    def __call__(self, pictures: Pictures) -> TeacherAnswer:
        """Answers for a batch."""
        if self._cache is None:
            return self._pick(self._run(pictures))
        each = [self._remembered(pictures, index, self._cache) for index in range(len(pictures.present))]
        pyramids = {
            name: [torch.cat(levels) for levels in zip(*(answer.pyramids[name] for answer in each), strict=True)]
            for name in self._pyramids
        }
        return TeacherAnswer(torch.cat([answer.logits for answer in each]), pyramids)

    @torch.no_grad()
    def _run(self, pictures: Pictures) -> DetectorOutput:
        output: DetectorOutput = self.detector(*pictures.inputs(self.detector.config, self._device, self._layout))
        return output

    def _pick(self, output: DetectorOutput) -> TeacherAnswer:
        skipped = self._skipped_levels
        pyramids = {}
        for name in self._pyramids:
            pyramid: list[Tensor] | None = getattr(output, name)
            levels = [torch.zeros_like(level) for level in output.fused] if pyramid is None else pyramid
            pyramids[name] = levels[skipped:]
        cells = sum(level.shape[-2] * level.shape[-1] for level in output.fused[:skipped])
        return TeacherAnswer(output.logits[:, cells * self.detector.config.anchors_per_cell :], pyramids)

    def _remembered(self, pictures: Pictures, index: int, cache: Path) -> TeacherAnswer:
        one = Pictures(*(getattr(pictures, name)[index : index + 1] for name in ("rgb", "thermal", "present")))
        digest = hashlib.blake2b(f"{self.sha256} {self._pyramids} {self._skipped_levels}".encode(), digest_size=20)
        for tensor in (one.rgb, one.thermal, one.present):
            digest.update(tensor.contiguous().numpy().tobytes())
        key = digest.hexdigest()
        path = cache / key[:2] / f"{key}.safetensors"
        values = self._read(path)
        if values is None:
            self.misses += 1
            answer = self._pick(self._run(one))
            values = {"logits": answer.logits}
            for name, levels in answer.pyramids.items():
                values |= {f"{name}.{level}": feature for level, feature in enumerate(levels)}
            values = {name: value.half().cpu().contiguous() for name, value in values.items()}
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            save_file(values, partial)
            os.replace(partial, path)
        else:
            self.hits += 1
        levels_count = len(self.detector.config.levels) - self._skipped_levels
        return TeacherAnswer(
            values["logits"].float(),
            {name: [values[f"{name}.{level}"].float() for level in range(levels_count)] for name in self._pyramids},
        )

    def _read(self, path: Path) -> dict[str, Tensor] | None:
        """A remembered answer; None when there is none, or a damaged one, which is counted and written again."""
        if not path.is_file():
            return None
        try:
            return load_file(path)
        except (SafetensorError, OSError):
            self.unreadable += 1
            return None


class Ensemble:
    """Frozen detectors that answer as one: the mean of their logits, whose softmax is the normalised geometric mean of
    their probabilities (Hinton et al., arXiv 1503.02531), and the pyramids of the first.

    Args:
        options: of the run; ``teacher.weights`` is the first member, ``teacher.ensemble`` the others.
        device: where they run.

    Raises:
        UserError: a file cannot be used, or does not fit the student.
    """

    def __init__(self, options: TrainOptions, device: torch.device) -> None:
        cache = Path(options.teacher.cache) if options.teacher.cache else None
        self.members = tuple(
            Teacher(
                Path(weights),
                options.detector,
                () if position else options.distill.pyramids,
                device,
                cache,
                scale=options.teacher.scale,
            )
            for position, weights in enumerate((options.teacher.weights, *options.teacher.ensemble))
        )

    @property
    def channels(self) -> int:
        """Width of the pyramids."""
        return self.members[0].channels

    def __call__(self, pictures: Pictures) -> TeacherAnswer:
        """Answers for a batch."""
        first, *others = (member(pictures) for member in self.members)
        return TeacherAnswer(torch.stack([first.logits, *(one.logits for one in others)]).mean(0), first.pyramids)


class Learner(nn.Module):
    """A student and, while it is distilled, 1x1 convolutions that bring its pyramids to the teacher's width.

    Args:
        detector: the student.
        pyramids: which of "fused", "rgb", "thermal" are compared.
        teacher_channels: width of the teacher's pyramids.
    """

    def __init__(self, detector: Detector, pyramids: tuple[str, ...] = (), teacher_channels: int = 0) -> None:
        super().__init__()
        self.detector = detector
        config = detector.config
        self.adapters = nn.ModuleDict(
            {
                name: nn.ModuleList(nn.Conv2d(config.bifpn_channels, teacher_channels, 1) for _ in config.levels)
                for name in pyramids
            }
        )

    def forward(self, rgb: Tensor, thermal: Tensor, present: Tensor) -> tuple[DetectorOutput, dict[str, list[Tensor]]]:
        """The student's output, and its adapted pyramids as far as it had the pictures for them."""
        output: DetectorOutput = self.detector(rgb, thermal, present)
        adapted: dict[str, list[Tensor]] = {}
        for name, convolutions in self.adapters.items():
            pyramid: list[Tensor] | None = getattr(output, name)
            if pyramid is not None and isinstance(convolutions, nn.ModuleList):
                adapted[name] = [adapt(level) for adapt, level in zip(convolutions, pyramid, strict=True)]
        return output, adapted
