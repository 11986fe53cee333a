"""What one pair costs on this machine: network, pre- and post-processing, tracker, and the nodes around them.

Every figure is a median of repeated calls in this process; ``--ros`` also replays a recording through the real nodes,
``--peers`` times what others offer beside it, ``--rigs`` runs the nodes with several pairs of cameras.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from mmkd_ros.inference import InferenceSession, WeightsError
from mmkd_ros.inference.backends.torch_backend import choose_device
from mmkd_ros.inference.fold import fold_batch_norms
from mmkd_ros.inference.network_model import decode
from mmkd_ros.inference.normalize import network_inputs
from mmkd_ros.inference.postprocess import suppress
from mmkd_ros.inference.preprocess import letterbox
from mmkd_ros.inference.weights import load_detector
from mmkd_ros.network import Detector, count_macs, count_parameters
from mmkd_ros.share import share_path
from mmkd_ros.types import ImagePair
from mmkd_ros.wiring import PRESETS
from mmkd_train.arguments import add_input_size
from mmkd_train.benchmark_batches import benchmark_batches, format_batches
from mmkd_train.benchmark_parts import benchmark_parts, format_parts
from mmkd_train.benchmark_peers import benchmark_peers, format_peers
from mmkd_train.benchmark_rigs import benchmark_rigs, format_rigs
from mmkd_train.benchmark_ros import benchmark_nodes, format_nodes
from mmkd_train.errors import UserError
from mmkd_train.track_file import benchmark_tracker

HELP = "Time the network, what is around it, the tracker and (with --ros) the nodes on this machine."
_FULL = (512, 640)
_OBJECTS = (10, 50, 100)


def machine() -> str:
    """Processor, number of usable cores, torch version: what a figure must be read with."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = f"{name} (model unknown)"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, torch {torch.__version__} with {torch.get_num_threads()} threads"


def median_ms(call: Callable[[], object], repeats: int, device: torch.device, label: str) -> float:
    """Median time of a call in milliseconds, after two warm-up calls; waits for the device."""
    seconds = []
    for index in tqdm(range(repeats + 2), desc=label, leave=False, mininterval=1):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if index >= 2:
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) * 1e3


def benchmark(weights: Path, device: str, repeats: int, threads: int = 0) -> dict[str, Any]:
    """All figures but those of the nodes.

    Args:
        weights: the detector's file.
        device: 'auto', 'cpu' or 'cuda'.
        repeats: calls per figure.
        threads: of torch on the CPU; 0 = the nodes' own choice, half of the cores.

    Returns:
        {"machine", "device", "engine", "parameters", "shipped_size", "gmac", "network_ms", "preprocess_ms",
        "postprocess_ms", "session_ms", "tracker_ms"}: milliseconds by name, sizes as "HxW".

    Raises:
        UserError: weights or device that cannot be used.
    """
    try:
        chosen = choose_device(device)
        detector, _ = load_detector(weights)
        session = InferenceSession(weights, device, backend="auto", threads=threads)  # as the node has it
        torch.set_num_threads(session.options.cpu_threads)
    except (WeightsError, ValueError) as error:
        raise UserError(str(error)) from error
    shipped = detector.config.input_size
    full = Detector(replace(detector.config, input_size=_FULL))
    full.load_state_dict(detector.state_dict())
    dtype = torch.float16 if chosen.type == "cuda" else torch.float32
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (*_FULL, 3), np.uint8)
    thermal = rng.integers(0, 255, _FULL, np.uint8)
    report: dict[str, Any] = {
        "machine": machine(),
        "device": str(chosen),
        "engine": session.backend_reason,
        "parameters": count_parameters(detector),
        "shipped_size": f"{shipped[0]}x{shipped[1]}",
        "gmac": {},
        "network_ms": {},
    }
    with torch.inference_mode():
        for net in (detector, full.eval()):
            height, width = net.config.input_size
            size = f"{height}x{width}"
            report["gmac"][size] = count_macs(net.float().cpu(), height, width) / 1e9
            fold_batch_norms(net)
            net.to(chosen, dtype)
            inputs = letterboxed(rgb, thermal, net, chosen, dtype)
            report["network_ms"][size] = median_ms(partial(net, *inputs), repeats, chosen, f"network {size}")
        height, width = shipped
        report["preprocess_ms"] = median_ms(
            lambda: [letterbox(image, height, width) for image in (rgb, thermal)], repeats, chosen, "preprocess"
        )
        output = detector(*letterboxed(rgb, thermal, detector, chosen, dtype))
        answer = output.logits[0].float().cpu().numpy(), output.offsets[0].float().cpu().numpy()
        anchors, options = detector.anchors(height, width).cpu(), session.options
        report["postprocess_ms"] = median_ms(
            lambda: suppress(decode(answer, anchors, options.score_threshold), options.nms_iou, options.max_detections),
            repeats,
            chosen,
            "postprocess",
        )
    report["session_ms"] = median_ms(lambda: session(ImagePair(rgb, thermal, 0.0)), repeats, chosen, "session")
    report["tracker_ms"] = {str(objects): benchmark_tracker(objects, 100) for objects in _OBJECTS}
    return report


def letterboxed(
    rgb: NDArray[np.uint8], thermal: NDArray[np.uint8], detector: Detector, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """A pair as the network's input."""
    height, width = detector.config.input_size
    boxed = [torch.from_numpy(letterbox(image, height, width)[0][None]).to(device) for image in (rgb, thermal)]
    return network_inputs(boxed[0], boxed[1], detector.config, dtype)


def format_report(report: dict[str, Any]) -> str:
    """The table that is printed."""
    lines = [f"{report['machine']}; device {report['device']}; {report['parameters'] / 1e6:.2f} M parameters"]
    for size, value in report["network_ms"].items():
        lines.append(f"torch {size:>9s}        {value:8.2f} ms a pair  ({report['gmac'][size]:.2f} GMAC)")
    lines.append(f"preprocess             {report['preprocess_ms']:8.2f} ms  (512x640 -> {report['shipped_size']})")
    lines.append(f"postprocess            {report['postprocess_ms']:8.2f} ms")
    lines.append(f"session, all of these  {report['session_ms']:8.2f} ms  -> {1e3 / report['session_ms']:.1f} pairs/s")
    lines.append(f"  with {report['engine']}")
    lines += [
        f"tracker {objects:>4s} objects   {value:8.2f} ms a frame" for objects, value in report["tracker_ms"].items()
    ]
    for layout, results in report.get("nodes", {}).items():
        lines += format_nodes(layout, results)
    lines += format_batches(report.get("batch_ms", {}))
    lines += format_parts(report.get("parts", {}))
    lines += format_rigs(report.get("rigs", []))
    if "peers" in report:
        lines += format_peers(report["peers"])
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--weights", type=Path, help="default: the shipped student")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of torch; default: half of the cores, as the nodes"
    )
    parser.add_argument("--ros", action="store_true", help="also replay a recording through the nodes")
    parser.add_argument(
        "--hz",
        type=float,
        nargs="+",
        default=[10.0, 30.0, 60.0],
        help="pairs per second of the replays, and of each rig of --rigs; default: 10 30 60",
    )
    parser.add_argument(
        "--rigs", type=int, nargs="+", default=[], help="numbers of rigs to serve by one detection node and by one each"
    )
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[], help="also time the network on so many pairs in one call"
    )
    parser.add_argument(
        "--parts", action="store_true", help="also tell the cost of each part of the network, by OpenVINO's profile"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement of --rigs")
    parser.add_argument("--composed", action="store_true", help="replay through both nodes in one process, too")
    parser.add_argument("--preset", choices=PRESETS, default="", help="input size of the nodes' network")
    parser.add_argument("--bag", type=Path, help="rosbag2 to replay; default: the embedded recording")
    parser.add_argument("--output", type=Path, default=Path("demo_out"), help="folder of the replays")
    parser.add_argument("--peers", action="store_true", help="also time other detectors and trackers, if installed")
    add_input_size(parser, "the network of --batches and --parts, and all of --peers", (384, 512))
    parser.add_argument("--json", type=Path, help="write the figures here")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    if args.repeats < 1:
        raise UserError(f"--repeats must be at least 1, got {args.repeats}.")
    if not all(0.1 <= hz <= 1000 for hz in args.hz):
        raise UserError(f"--hz must lie in 0.1 to 1000, got {args.hz}.")
    if not all(1 <= size <= 64 for size in args.batches):
        raise UserError(f"--batches must lie in 1 to 64, got {args.batches}.")
    if not all(1 <= count <= 16 for count in args.rigs) or not 1.0 <= args.seconds <= 3600.0:
        raise UserError(f"--rigs must lie in 1 to 16 and --seconds in 1 to 3600, got {args.rigs} and {args.seconds}.")
    weights: Path = args.weights or share_path("models/mmkd_student.safetensors")
    report = benchmark(weights, args.device, args.repeats, args.threads)
    if args.peers:
        report["peers"] = benchmark_peers(weights, tuple(args.input_size), args.repeats, torch.get_num_threads())
    if args.batches:
        report["batch_ms"] = benchmark_batches(
            weights, args.batches, args.repeats, torch.get_num_threads(), args.device, tuple(args.input_size)
        )
    if args.parts:
        report["parts"] = benchmark_parts(weights, args.repeats, torch.get_num_threads(), tuple(args.input_size))
    options = {"weights": str(weights.resolve()), "device": args.device, "preset": args.preset}
    if args.rigs:
        report["rigs"] = benchmark_rigs(
            args.output.resolve(), args.rigs, args.hz, args.seconds, options, threads=args.threads
        )
    if args.ros:
        report["nodes"] = {
            layout: benchmark_nodes(args.output.resolve(), args.hz, options, args.bag, composed=layout == "composed")
            for layout in (["apart", "composed"] if args.composed else ["apart"])
        }
    print(format_report(report))
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0
