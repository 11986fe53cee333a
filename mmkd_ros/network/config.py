"""The one description of a detector: teacher and student differ only in these values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

Fusion = Literal["concat", "weighted"]

_MULTIPLE = 32  # the stride of C5
# Far beyond every network of use: a weights file that asks for more is refused before memory is taken.
_MOST = {"bifpn_channels": 512, "bifpn_repeats": 16, "head_repeats": 16, "anchor_octaves": 8}
_MOST_CLASSES, _MOST_RATIOS, _MOST_PIXELS = 1000, 8, 4096


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """Architecture and input contract of a :class:`~mmkd_ros.network.detector.Detector`.

    Raises:
        ValueError: a value that cannot be built, with the reason.
    """

    backbone: str = "mobilenetv3_large_100"
    """timm name, used for both modalities (RGB with three channels, thermal with one)."""
    class_names: tuple[str, ...] = ("person", "car", "bicycle")
    """The C foreground classes; background is class C of the softmax."""
    input_size: tuple[int, int] = (320, 416)
    """(height, width) in pixels of the network's input, multiples of 32."""
    bifpn_channels: int = 64
    bifpn_repeats: int = 2
    fusion: Fusion = "concat"
    """How the two modalities meet on each level: a 1x1 convolution of the concatenation, or learned per-channel
    weights."""
    head_repeats: int = 2
    """Separable convolutions before the prediction layer of each head."""
    anchor_scale: float = 1.5
    """Side of the smallest anchor as a multiple of the level's stride."""
    anchor_octaves: int = 3
    """Anchor sizes per level: anchor_scale * 2^(i / anchor_octaves)."""
    anchor_ratios: tuple[float, ...] = (0.4, 0.85, 1.7)
    """width / height."""
    rgb_mean: float = 0.5
    rgb_std: float = 0.5
    thermal_mean: float = 0.5
    thermal_std: float = 0.5
    """A pixel enters the network as (value / 255 - mean) / std."""
    levels: tuple[int, ...] = field(default=(3, 4, 5, 6, 7), init=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.class_names) <= _MOST_CLASSES or len(set(self.class_names)) != len(self.class_names):
            raise ValueError(
                f"class_names must be 1 to {_MOST_CLASSES} distinct names, got {str(self.class_names)[:200]}."
            )
        if len(self.input_size) != 2 or any(
            not _MULTIPLE <= side <= _MOST_PIXELS or side % _MULTIPLE for side in self.input_size
        ):
            raise ValueError(
                f"input_size must be (height, width) in multiples of {_MULTIPLE} up to {_MOST_PIXELS}, got "
                f"{self.input_size}."
            )
        if self.fusion not in ("concat", "weighted"):
            raise ValueError(f"fusion must be 'concat' or 'weighted', got '{self.fusion}'.")
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be 1 to {most}, got {getattr(self, name)}.")
        ratios = self.anchor_ratios
        if self.anchor_scale <= 0 or not 1 <= len(ratios) <= _MOST_RATIOS or min(ratios) <= 0:
            raise ValueError(
                f"anchors need positive scale and 1 to {_MOST_RATIOS} positive ratios, got {self.anchor_scale} and "
                f"{str(ratios)[:200]}."
            )
        if self.rgb_std <= 0 or self.thermal_std <= 0:
            raise ValueError(f"rgb_std and thermal_std must be positive, got {self.rgb_std} and {self.thermal_std}.")

    @property
    def anchors_per_cell(self) -> int:
        """A: sizes times shapes."""
        return self.anchor_octaves * len(self.anchor_ratios)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between two cells of each level."""
        return tuple(2**level for level in self.levels)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, the inverse of :meth:`from_dict`."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DetectorConfig:
        """Build from JSON or YAML values (lists become tuples).

        Raises:
            ValueError: an unknown name, or a value that cannot be built.
        """
        known = {f.name for f in dataclasses.fields(cls) if f.init}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown detector option(s) {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)
