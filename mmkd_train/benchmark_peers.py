"""What one would take instead, timed in the same run at the same input size with the same threads.

EfficientDet-D0 and lite0 (package effdet) and a YOLO nano (package ultralytics) look at ONE image, ours at an RGB and a
thermal one; deep-sort-realtime tracks. Weights are random: they do not change the time. Nothing of the packages is
needed elsewhere; `requirements/peers.txt` lists them.
"""

from __future__ import annotations

import importlib.util
import io
import os
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmkd_ros.inference import WeightsError
from mmkd_ros.inference.backends.graph import DetectionGraph, to_onnx
from mmkd_ros.inference.backends.timing import milliseconds, trial_images
from mmkd_ros.inference.backends.torch_backend import TorchBackend
from mmkd_ros.inference.fold import fold_batch_norms
from mmkd_ros.inference.weights import load_detector
from mmkd_ros.network import Detector
from mmkd_ros.network.backbone import import_timm
from mmkd_train.engines import graph_engines
from mmkd_train.errors import UserError
from mmkd_train.track_eval import time_crowd

OURS = "ours, a pair"
_OBJECTS = (10, 50, 100)
_CLASSES = 3
_CURE = "pip install --no-deps -r requirements/peers.txt"


class _Flat(nn.Module):
    """A network whose answer is a tuple of tensors, however it nests them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(_tensors(self.network(image)))


def _tensors(answer: Any) -> list[Tensor]:
    if isinstance(answer, Tensor):
        return [answer]
    parts = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, list | tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _efficientdet(name: str, height: int, width: int) -> nn.Module:
    import_timm()  # before effdet does: torchvision may not fit
    from effdet import EfficientDet
    from effdet.config import get_efficientdet_config

    config = get_efficientdet_config(name)
    config.image_size, config.num_classes = (height, width), _CLASSES
    network: nn.Module = EfficientDet(config, pretrained_backbone=False)
    return network


def _yolo(name: str, height: int, width: int) -> nn.Module:
    # At import it writes settings into the user's folder and looks for updates.
    os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(tempfile.gettempdir()) / "mmkd_yolo"))
    os.environ.setdefault("YOLO_OFFLINE", "true")
    from ultralytics.nn.tasks import DetectionModel

    network: nn.Module = DetectionModel(name, ch=3, nc=_CLASSES, verbose=False).fuse(verbose=False)
    network.model[-1].export, network.model[-1].format = True, "onnx"  # type: ignore[index, union-attr]
    return network


PEERS: dict[str, tuple[str, Callable[[int, int], nn.Module]]] = {
    "EfficientDet-D0, one image": ("effdet", partial(_efficientdet, "tf_efficientdet_d0")),
    "EfficientDet-lite0, one image": ("effdet", partial(_efficientdet, "tf_efficientdet_lite0")),
    "YOLO11 nano, one image": ("ultralytics", partial(_yolo, "yolo11n.yaml")),
}
"""Name -> package and how its network is made for a height and a width."""


def benchmark_peers(weights: Path, input_size: tuple[int, int], repeats: int, threads: int) -> dict[str, Any]:
    """Time of the networks alone, and of the trackers.

    Args:
        weights: of our detector.
        input_size: (height, width) of all networks, multiples of 32.
        repeats: rounds in which all networks take turns; the shortest time counts.
        threads: of each call.

    Returns:
        - "size", "threads"
        - "network_ms": engine -> name -> milliseconds.
        - "ratio": engine -> peer -> our pair's time over the peer's time of one image.
        - "tracker_ms": objects -> tracker -> milliseconds of processor time a frame; None where it is not installed.
        - "missing": packages that are not installed.

    Raises:
        UserError: weights that cannot be used.
    """
    torch.set_num_threads(threads)
    height, width = input_size
    missing = sorted({package for package, _ in PEERS.values() if importlib.util.find_spec(package) is None})
    networks = {
        name: _Flat(make(height, width).eval()) for name, (package, make) in PEERS.items() if package not in missing
    }
    engines = {"torch": _in_torch(weights, input_size, networks)}
    compilers = graph_engines(threads)
    graphs = _graphs(weights, input_size, networks) if compilers else {}
    for engine, compiled in compilers.items():
        engines[engine] = {name: partial(compiled(graph).run, inputs) for name, (graph, inputs) in graphs.items()}
    times = {engine: milliseconds(calls, (), repeats) for engine, calls in engines.items()}
    return {
        "size": f"{height}x{width}",
        "threads": threads,
        "network_ms": times,
        "ratio": {
            engine: {name: row[OURS] / time for name, time in row.items() if name != OURS}
            for engine, row in times.items()
        },
        "tracker_ms": {str(objects): time_crowd(objects) for objects in _OBJECTS},
        "missing": missing,
    }


def _detector(weights: Path, input_size: tuple[int, int]) -> Detector:
    """Our network, folded as a session runs it."""
    try:
        detector, _ = load_detector(weights, input_size)
    except (WeightsError, ValueError) as error:
        raise UserError(str(error)) from error
    fold_batch_norms(detector)
    return detector


def _in_torch(
    weights: Path, input_size: tuple[int, int], networks: dict[str, _Flat]
) -> dict[str, Callable[[], object]]:
    """Calls by name; ours takes uint8 images and normalises them, the peers' input is ready."""
    image = torch.rand(1, 3, *input_size)

    @torch.inference_mode()
    def run(network: nn.Module) -> None:
        network(image)

    ours = TorchBackend(_detector(weights, input_size), torch.device("cpu"))
    return {
        OURS: partial(ours, *trial_images(*input_size)),
        **{name: partial(run, network) for name, network in networks.items()},
    }


def _graphs(
    weights: Path, input_size: tuple[int, int], networks: dict[str, _Flat]
) -> dict[str, tuple[bytes, dict[str, NDArray[Any]]]]:
    """ONNX graph and inputs by name; ours decodes inside the graph."""
    image = np.random.default_rng(0).random((1, 3, *input_size), np.float32)
    rgb, thermal = trial_images(*input_size)
    pair: dict[str, NDArray[Any]] = {"rgb": rgb[None], "thermal": thermal[None], "present": np.ones(2, np.float32)}
    graphs = {OURS: (to_onnx(DetectionGraph(_detector(weights, input_size))), pair)}
    for name, network in networks.items():
        file: Any = io.BytesIO()  # torch takes a buffer; its type stubs know paths only
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network, (torch.from_numpy(image),), file, input_names=["image"], opset_version=17, dynamo=False
            )
        graphs[name] = file.getvalue(), {"image": image}
    return graphs


def format_peers(report: dict[str, Any]) -> list[str]:
    """Lines of the printed tables."""
    lines = [f"networks at {report['size']}, {report['threads']} threads; ratio: our pair over one image of theirs"]
    for engine, row in report["network_ms"].items():
        for name, time in row.items():
            ratio = report["ratio"][engine].get(name)
            lines.append(
                f"  {engine:<14} {name:<30} {time:8.2f} ms" + ("" if ratio is None else f"  ratio {ratio:.2f}")
            )
    for objects, trackers in report["tracker_ms"].items():
        shown = ", ".join(f"{name} {time:.2f} ms" for name, time in trackers.items() if time is not None)
        lines.append(f"  {objects} objects a frame: {shown}")
    if report["missing"]:
        lines.append(f"  not installed: {', '.join(report['missing'])}; {_CURE}")
    return lines
