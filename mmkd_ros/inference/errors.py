"""What goes wrong with a weights file or with one pair. Free of torch: a node names them where it is absent."""

from __future__ import annotations

from pathlib import Path


class WeightsError(Exception):
    """A weights file that cannot be used; the message says why and what to do."""


class TorchMissingError(WeightsError):
    """A weights file that needs torch where there is none.

    Args:
        weights: of the file.
        reason: why torch or timm cannot be imported.
    """

    def __init__(self, weights: Path, reason: object) -> None:
        super().__init__(
            f"{weights} needs torch and timm, which cannot be imported ({reason}); install them (pip install torch "
            "timm), or give a model written by `python -m mmkd_train export`, which runs without them."
        )


class InferenceError(Exception):
    """One pair could not be processed (device error, NaN); the session itself can be used again."""
