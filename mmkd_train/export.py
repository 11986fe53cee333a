"""Write the detector as one ONNX or OpenVINO model for other programs: uint8 images in, boxes, scores and labels out.

In: a weights file. Out: normalisation, network, softmax, top-k and decoding in one graph, with the metadata in
:func:`describe`. Letterbox before it, threshold and suppression after it are the caller's; the detection node takes the
file of both modalities as its weights and then needs no torch.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any, get_args

import torch

from mmkd_ros.inference import WeightsError
from mmkd_ros.inference.backends.backend import import_engine
from mmkd_ros.inference.backends.graph import DetectionGraph, to_onnx
from mmkd_ros.inference.backends.timing import trial_images
from mmkd_ros.inference.exported_model import FORMAT, UNSEALED, make_trial, seal
from mmkd_ros.inference.fold import fold_batch_norms
from mmkd_ros.inference.weights import load_detector
from mmkd_ros.share import share_path
from mmkd_ros.types import Modality
from mmkd_train.errors import UserError

HELP = "Write the detector as an ONNX or OpenVINO model that other programs can run."
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


def describe(graph: DetectionGraph, metadata: dict[str, Any]) -> dict[str, str]:
    """What the written file says about itself.

    Args:
        graph: that is written.
        metadata: of the weights file.

    Returns:
        'format', 'config' and 'class_names' (JSON), 'weights_sha256', 'modality', 'thermal_contract'; 'trial': torch's
        best boxes in :func:`trial_images`; 'seal': a place for the sha256 of the file.
    """
    config = graph.detector.config
    given = dict(zip(("rgb", "thermal"), trial_images(*config.input_size), strict=True))
    images = {**{name: torch.from_numpy(image[None]) for name, image in given.items()}, "present": torch.ones(2)}
    with torch.no_grad():
        boxes, scores, labels = graph(*(images[name] for name in graph.inputs))
    return {
        "format": FORMAT,
        "config": json.dumps(config.to_dict(), sort_keys=True),
        "class_names": json.dumps(config.class_names),
        "weights_sha256": metadata["sha256"],
        "modality": graph.modality,
        "thermal_contract": metadata["thermal_contract"],
        "trial": make_trial(boxes.numpy(), scores.numpy(), labels.numpy()),
        "seal": UNSEALED,
    }


def export(
    weights: Path, kind: str, output: Path, modality: Modality = "both", input_size: tuple[int, int] = (0, 0)
) -> list[Path]:
    """Write the model.

    Args:
        weights: the detector's file.
        kind: 'onnx' or 'openvino'.
        output: ends in .onnx or .xml; an OpenVINO model also has a .bin beside it.
        modality: which images it takes.
        input_size: (height, width) in multiples of 32, (0, 0): as in the weights.

    Returns:
        The files written.

    Raises:
        UserError: weights, name or folder that cannot be used, or a package that is missing.
    """
    if output.suffix != SUFFIXES[kind]:
        raise UserError(f"--output {output} must end in {SUFFIXES[kind]} for --format {kind}.")
    try:
        detector, metadata = load_detector(weights, input_size)
        fold_batch_norms(detector)
        graph = DetectionGraph(detector, modality)
        write = _write_onnx if kind == "onnx" else _write_openvino
        output.parent.mkdir(parents=True, exist_ok=True)
        # Beside the output, so that each file appears at once and whole.
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
            write(_with_metadata(to_onnx(graph), describe(graph, metadata)), Path(folder) / output.name)
            written = sorted(Path(folder).iterdir())
            for path in written:
                os.replace(path, output.parent / path.name)
    except (WeightsError, ValueError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error}); choose another --output.") from error
    return [output.parent / path.name for path in written]


def _with_metadata(model: bytes, description: dict[str, str]) -> bytes:
    onnx = import_engine("onnx")
    proto = onnx.load_model_from_string(model)
    proto.graph.name = "mmkd_detector"
    for key, value in description.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content


def _write_onnx(model: bytes, path: Path) -> None:
    path.write_bytes(seal(model))


def _write_openvino(model: bytes, path: Path) -> None:
    openvino = import_engine("openvino")
    # It takes the metadata of the ONNX graph over.
    openvino.save_model(openvino.Core().read_model(model), path, compress_to_fp16=False)
    path.write_bytes(seal(path.read_bytes(), path.with_suffix(".bin").read_bytes()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--weights", type=Path, help="default: the shipped student")
    parser.add_argument("--format", choices=sorted(SUFFIXES), required=True)
    parser.add_argument("--output", type=Path, required=True, help="file ending in .onnx, or in .xml for openvino")
    parser.add_argument("--modality", choices=get_args(Modality), default="both", help="images that the model takes")
    parser.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        default=(0, 0),
        help="of the images in pixels, multiples of 32; default: as in the weights",
    )


def run(args: argparse.Namespace) -> int:
    """Write the files and name them."""
    weights = args.weights or share_path("models/mmkd_student.safetensors")
    for path in export(weights, args.format, args.output, args.modality, tuple(args.input_size)):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0
