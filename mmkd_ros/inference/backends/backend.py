"""What every engine offers, and which of them are installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

ENGINES: dict[str, tuple[str, ...]] = {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
"""Engine beside torch -> packages that it needs; onnx writes the graph that both read."""

BACKENDS = ("torch", *ENGINES, "auto")

Answer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Logits (A, C + 1), background last, and offsets (A, 4) from the anchors."""


def check_backend_name(name: str) -> None:
    """Raises ValueError for a name that is not in BACKENDS."""
    if name not in BACKENDS:
        raise ValueError(f"backend '{name}' is unknown; use one of {', '.join(BACKENDS)}.")


class Backend(Protocol):
    """The network on one engine."""

    @property
    def name(self) -> str:
        """'torch' or a key of :data:`ENGINES`."""

    @property
    def device(self) -> str:
        """Where it runs, e.g. 'cpu' or 'cuda'."""

    def __call__(self, rgb: NDArray[np.uint8] | None, thermal: NDArray[np.uint8] | None) -> Answer:
        """Run the network on one pair.

        Args:
            rgb: (H, W, 3) of the network's input size, or None.
            thermal: (H, W) of that size, or None; one of the two is given.

        Returns:
            See :data:`Answer`; valid until the next call.

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


def package_version(package: str) -> str:
    """The installed version.

    Raises:
        ValueError: it is not installed, or does not load.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # under another name, such as onnxruntime-gpu
        return str(import_engine(package).__version__)
