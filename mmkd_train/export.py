"""Write the detector as one ONNX or OpenVINO model for other programs: uint8 images in, boxes, scores and labels out.

In: a weights file. Out: normalisation, network, softmax, top-k and decoding in one graph, with the metadata in
:func:`describe`. Letterbox before it, threshold and suppression after it are the caller's.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any, get_args

from mmkd_ros.inference import WeightsError
from mmkd_ros.inference.backends.backend import import_engine
from mmkd_ros.inference.backends.graph import DetectionGraph, to_onnx
from mmkd_ros.inference.fold import fold_batch_norms
from mmkd_ros.inference.weights import load_detector
from mmkd_ros.share import share_path
from mmkd_ros.types import Modality
from mmkd_train.errors import UserError

HELP = "Write the detector as an ONNX or OpenVINO model that other programs can run."
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
_RT_INFO = "mmkd"  # section of an OpenVINO model's own metadata


def describe(metadata: dict[str, Any], modality: Modality) -> dict[str, str]:
    """What the written file says about itself.

    Args:
        metadata: of the weights file.
        modality: of the graph.

    Returns:
        'config' and 'class_names' (JSON), 'weights_sha256', 'modality', 'thermal_contract'.
    """
    return {
        "config": json.dumps(metadata["config"], sort_keys=True),
        "class_names": json.dumps(metadata["config"]["class_names"]),
        "weights_sha256": metadata["sha256"],
        "modality": modality,
        "thermal_contract": metadata["thermal_contract"],
    }


def export(weights: Path, kind: str, output: Path, modality: Modality) -> list[Path]:
    """Write the model.

    Args:
        weights: the detector's file.
        kind: 'onnx' or 'openvino'.
        output: ends in .onnx or .xml; an OpenVINO model also has a .bin beside it.
        modality: which images it takes.

    Returns:
        The files written.

    Raises:
        UserError: weights, name or folder that cannot be used, or a package that is missing.
    """
    if output.suffix != SUFFIXES[kind]:
        raise UserError(f"--output {output} must end in {SUFFIXES[kind]} for --format {kind}.")
    try:
        detector, metadata = load_detector(weights)
        fold_batch_norms(detector)
        write = _write_onnx if kind == "onnx" else _write_openvino
        output.parent.mkdir(parents=True, exist_ok=True)
        # Beside the output, so that each file appears at once and whole.
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
            write(to_onnx(DetectionGraph(detector, modality)), Path(folder) / output.name, describe(metadata, modality))
            written = sorted(Path(folder).iterdir())
            for path in written:
                os.replace(path, output.parent / path.name)
    except (WeightsError, ValueError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error}); choose another --output.") from error
    return [output.parent / path.name for path in written]


def _write_onnx(model: bytes, path: Path, description: dict[str, str]) -> None:
    onnx = import_engine("onnx")
    proto = onnx.load_model_from_string(model)
    proto.graph.name = "mmkd_detector"
    for key, value in description.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


def _write_openvino(model: bytes, path: Path, description: dict[str, str]) -> None:
    openvino = import_engine("openvino")
    converted = openvino.Core().read_model(model)
    for key, value in description.items():
        converted.set_rt_info(value, [_RT_INFO, key])
    openvino.save_model(converted, path, compress_to_fp16=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--weights", type=Path, help="default: the shipped student")
    parser.add_argument("--format", choices=sorted(SUFFIXES), required=True)
    parser.add_argument("--output", type=Path, required=True, help="file ending in .onnx, or in .xml for openvino")
    parser.add_argument("--modality", choices=get_args(Modality), default="both", help="images that the model takes")


def run(args: argparse.Namespace) -> int:
    """Write the files and name them."""
    weights = args.weights or share_path("models/mmkd_student.safetensors")
    for path in export(weights, args.format, args.output, args.modality):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0
