"""The engines: their names, which are installed, and which of them are to be tried."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

ENGINES = ("onnxruntime", "openvino")
"""Packages beside torch that run a network, on the CPU; ONNX Runtime also on CUDA, where it is asked for."""

OPENVINO_BF16 = "openvino bf16"
"""OpenVINO in bfloat16: on processors that compute in it about 1.7 times as fast, and another engine to choose from."""

ONNXRUNTIME_TENSORRT, ONNXRUNTIME_CUDA = "onnxruntime tensorrt", "onnxruntime cuda"
PROVIDERS = {ONNXRUNTIME_TENSORRT: "TensorrtExecutionProvider", ONNXRUNTIME_CUDA: "CUDAExecutionProvider"}
"""ONNX Runtime's ways to a CUDA device, each an engine to choose from, and what it calls them."""

BACKENDS = ("torch", *ENGINES, "auto")
_CURE = "run `pip install --no-deps -r requirements/backends.txt`"


def check_backend_name(name: str) -> None:
    """Raises ValueError for a name that is not in BACKENDS."""
    if name not in BACKENDS:
        raise ValueError(f"backend '{name}' is unknown; use one of {', '.join(BACKENDS)}.")


def choose_engines(device: str, backend: str) -> tuple[Sequence[str], str]:
    """Which engines run a .safetensors file. torch is imported only where there is a CUDA driver.

    Args:
        device: 'auto', 'cpu' or 'cuda[:i]'.
        backend: one of :data:`BACKENDS`.

    Returns:
        (engines to choose from, none: torch; why it is torch).

    Raises:
        ValueError: unknown backend, or an engine that was asked for and cannot run.
    """
    check_backend_name(backend)
    if backend == "torch":
        return (), "torch: as asked"
    if backend in ENGINES:
        if device not in ("auto", "cpu") and backend != "onnxruntime":
            raise ValueError(
                f"backend '{backend}' runs on the CPU only; use device 'cpu', or backend 'torch' for CUDA."
            )
        if not installed(backend):
            raise ValueError(
                f"backend '{backend}' needs {backend}, not installed here; {_CURE}, or use backend 'auto'."
            )
        return (backend,), ""
    if device not in ("auto", "cpu"):
        return (), f"torch: the other engines do not use {device}"
    if device == "auto" and sees_cuda():
        return (), "torch: the other engines do not use cuda"
    found = [name for name in ENGINES if installed(name)]
    return found, "torch: no other engine is installed (requirements/backends.txt lists them)"


def gpu_engines() -> list[str]:
    """Those of :data:`PROVIDERS` that the installed ONNX Runtime was built with; not all of them may start.

    Raises:
        ValueError: it is not installed, or was built without any of them.
    """
    runtime = import_engine("onnxruntime")
    available = runtime.get_available_providers()
    found = [engine for engine, provider in PROVIDERS.items() if provider in available]
    if not found:
        raise ValueError(
            f"this onnxruntime ({runtime.__version__}) was built without CUDA; install onnxruntime-gpu in its place, "
            "or use backend 'torch' or device 'cpu'."
        )
    return found


def installed(engine: str) -> bool:
    """Whether the package of an engine, or any other, can be found; it is not imported."""
    return importlib.util.find_spec(engine.split()[0]) is not None


def sees_cuda() -> bool:
    """Whether torch has a CUDA device to run on; without NVIDIA's driver it is not even asked."""
    try:
        ctypes.CDLL("libcuda.so.1")
        import torch
    except (ImportError, OSError):
        return False
    return torch.cuda.is_available()


def import_engine(package: str) -> ModuleType:
    """Import an optional package, so that it reports nothing to its maker: ONNX Runtime and OpenVINO would over the
    network, from their first import on.

    Raises:
        ValueError: it is not installed, or does not load; the sentence says what to do.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # OpenVINO reports by a package of its own, and does without where that cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:
        raise ValueError(
            f"the package {package} cannot be imported ({error}); {_CURE}, or use backend 'torch'."
        ) from error


def package_version(engine: str) -> str:
    """The installed version of an engine's package.

    Raises:
        ValueError: it is not installed, or does not load.
    """
    package = engine.split()[0]
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # under another name, such as onnxruntime-gpu
        return str(import_engine(package).__version__)
