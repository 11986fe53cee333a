"""The sealed ONNX graph of a .safetensors file, from the cache folder; free of torch.

Where the cache lacks it, a child process (:mod:`mmkd_ros.inference.export_process`) imports torch and exports it, so
that this process never holds torch's memory. Any graph of the same weights and sources will do, whichever torch wrote
it: it carries torch's answer to a trial input, to which every engine is held.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmkd_ros
from mmkd_ros.inference.backends.backend import installed
from mmkd_ros.inference.backends.cache import cache_folder, cache_name
from mmkd_ros.inference.errors import TorchMissingError, WeightsError
from mmkd_ros.inference.sealed import Sealed, read_sealed
from mmkd_ros.inference.weights_file import read_weights

TIME_LIMIT_S = 300
"""Of an export, that of another process which is waited for included."""
UNFIT_WEIGHTS, UNFIT_CHOICE, NO_TORCH = 3, 4, 5
"""Exit codes of the child, whose last line is then the sentence: WeightsError, ValueError, TorchMissingError."""
_PACKAGE = Path(mmkd_ros.__file__).parent
_TRACED = (
    "network/*.py",
    "inference/backends/graph.py",
    "inference/exporting.py",
    "inference/fold.py",
    "inference/normalize.py",
    "tracking/appearance_network.py",
)
_log = logging.getLogger(__name__)


def cached_graph(
    weights: Path, check: Callable[[Path, dict[str, Any]], None], input_size: tuple[int, int] = (0, 0)
) -> Sealed:
    """The graph of a weights file, which is verified first.

    Args:
        weights: .safetensors.
        check: raises WeightsError for metadata of another kind of network.
        input_size: (height, width) of a detector, (0, 0): as in the file.

    Raises:
        WeightsError: the file cannot be used, or (TorchMissingError) has to be exported where torch is missing.
        ValueError: the input size cannot be used, or the export failed.
    """
    metadata = read_weights(weights).metadata
    check(weights, metadata)
    sources = hashlib.sha256(b"".join(p.read_bytes() for glob in _TRACED for p in sorted(_PACKAGE.glob(glob))))
    name = cache_name(metadata["kind"], ".onnx", metadata, list(input_size), sources.hexdigest())
    path = cache_folder() / name
    if path.exists():
        try:
            return read_sealed(path)
        except WeightsError as error:
            _log.warning("%s is made again: %s", path, error)
    missing = [package for package in ("torch", "timm") if not installed(package)]
    if missing:
        raise TorchMissingError(weights, f"no {' and no '.join(missing)} is installed")
    _log.info("%s is exported, once and for all later starts; this takes half a minute.", weights)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(path.parent, os.W_OK)
    except OSError:
        writable = False
    if writable:
        _export(weights, path, input_size)
        return read_sealed(path)
    _log.warning("%s cannot be written; the export will be made again at the next start.", path.parent)
    with tempfile.TemporaryDirectory() as folder:
        _export(weights, Path(folder) / name, input_size)
        return read_sealed(Path(folder) / name)


def _export(weights: Path, path: Path, input_size: tuple[int, int]) -> None:
    """Write the graph in a child process."""
    module = "mmkd_ros.inference.export_process"
    command = [sys.executable, "-m", module, str(weights.absolute()), str(path), *map(str, input_size)]
    try:
        # In the folder of this very package, so that the child finds no other one.
        done = subprocess.run(  # noqa: S603 - this interpreter and our own module
            command, cwd=_PACKAGE.parent, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"the export of {weights} took more than {TIME_LIMIT_S} s; use backend 'torch'.") from error
    lines = done.stderr.strip().splitlines()
    sentence = lines[-1] if lines else f"exit code {done.returncode}"
    if done.returncode == UNFIT_WEIGHTS:
        raise WeightsError(sentence)
    if done.returncode == UNFIT_CHOICE:
        raise ValueError(sentence)
    if done.returncode == NO_TORCH:
        raise TorchMissingError(weights, sentence)
    if done.returncode:
        raise ValueError(f"the export of {weights} failed ({sentence}); use backend 'torch'.")
