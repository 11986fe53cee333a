"""What every engine offers, and which of them are installed."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

ENGINES: dict[str, tuple[str, ...]] = {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
"""Engine beside torch -> packages that it needs; onnx writes the graph that both read."""

BACKENDS = ("torch", *ENGINES, "auto")


class Backend(Protocol):
    """The network on one engine."""

    @property
    def name(self) -> str:
        """'torch' or a key of :data:`ENGINES`."""

    @property
    def device(self) -> str:
        """Where it runs, e.g. 'cpu' or 'cuda'."""

    def __call__(self, rgb: NDArray[np.uint8] | None, thermal: NDArray[np.uint8] | None) -> tuple[Tensor, Tensor]:
        """Run the network on one pair.

        Args:
            rgb: (H, W, 3) of the network's input size, or None.
            thermal: (H, W) of that size, or None; one of the two is given.

        Returns:
            logits (A, C + 1), background last, and offsets (A, 4) from the anchors; valid until the next call.

        Raises:
            RuntimeError: the engine failed.
        """


def missing_packages(engine: str) -> list[str]:
    """Those of an engine's packages that are not installed."""
    return [package for package in ENGINES[engine] if importlib.util.find_spec(package) is None]


def import_engine(package: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ValueError: it is not installed, or does not load; the sentence says what to do.
    """
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:
        raise ValueError(
            f"the package {package} cannot be imported ({error}); run `pip install --no-deps -r "
            "requirements/backends.txt`, or use backend 'torch'."
        ) from error
