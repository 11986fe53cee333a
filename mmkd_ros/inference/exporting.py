"""Write a weights file as one sealed model, ONNX or OpenVINO, whose metadata say what it is. Needs torch."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmkd_ros.inference.backends.backend import import_engine
from mmkd_ros.inference.backends.graph import AppearanceGraph, DetectionGraph, to_onnx
from mmkd_ros.inference.backends.timing import trial_images
from mmkd_ros.inference.exported_model import make_trial
from mmkd_ros.inference.fold import fold_batch_norms
from mmkd_ros.inference.sealed import FORMAT, UNSEALED, seal
from mmkd_ros.inference.weights import load_detector
from mmkd_ros.inference.weights_file import APPEARANCE, read_weights
from mmkd_ros.tracking.appearance_network import load_appearance
from mmkd_ros.tracking.embedder import trial_crops
from mmkd_ros.types import Modality


def export_weights(
    weights: Path, output: Path, modality: Modality = "both", input_size: tuple[int, int] = (0, 0)
) -> list[Path]:
    """Write the model of a detector or of an appearance network.

    Args:
        weights: .safetensors.
        output: ends in .onnx or .xml; an OpenVINO model also has a .bin beside it. Its folder is made.
        modality: which images a detector takes.
        input_size: (height, width) of a detector in multiples of 32, (0, 0): as in the weights.

    Returns:
        The files written; each appears at once and whole.

    Raises:
        WeightsError: the weights cannot be used.
        ValueError: the input size cannot be used, a package is missing, or torch cannot export this network.
        OSError: a file cannot be written.
    """
    if read_weights(weights).metadata.get("kind") == APPEARANCE:
        model = _appearance(weights)
    else:
        model = _detector(weights, modality, input_size)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        if output.suffix == ".xml":
            _write_openvino(model, Path(folder) / output.name)
        else:
            (Path(folder) / output.name).write_bytes(seal(model))
        written = sorted(Path(folder).iterdir())
        for path in written:
            os.replace(path, output.parent / path.name)
    return [output.parent / path.name for path in written]


def _detector(weights: Path, modality: Modality, input_size: tuple[int, int]) -> bytes:
    detector, metadata = load_detector(weights, input_size)
    fold_batch_norms(detector)
    graph = DetectionGraph(detector, modality)
    return _with_metadata(to_onnx(graph), "mmkd_detector", describe(graph, metadata))


def _appearance(weights: Path) -> bytes:
    network, metadata = load_appearance(weights)
    fold_batch_norms(network)
    graph = AppearanceGraph(network)
    with torch.no_grad():
        vectors = graph(torch.from_numpy(trial_crops(network.config)))
    description = {
        "format": FORMAT,
        "kind": APPEARANCE,
        "config": json.dumps(network.config.to_dict(), sort_keys=True),
        "weights_sha256": metadata["sha256"],
        "trial": json.dumps(vectors.numpy().astype(np.float64).round(7).tolist()),
        "seal": UNSEALED,
    }
    return _with_metadata(to_onnx(graph), "mmkd_appearance", description)


def describe(graph: DetectionGraph, metadata: dict[str, Any]) -> dict[str, str]:
    """What the written file of a detector says about itself.

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


def _with_metadata(model: bytes, name: str, description: dict[str, str]) -> bytes:
    onnx = import_engine("onnx")
    proto = onnx.load_model_from_string(model)
    proto.graph.name = name
    for key, value in description.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content


def _write_openvino(model: bytes, path: Path) -> None:
    openvino = import_engine("openvino")
    # It takes the metadata of the ONNX graph over.
    openvino.save_model(openvino.Core().read_model(model), path, compress_to_fp16=False)
    path.write_bytes(seal(path.read_bytes(), path.with_suffix(".bin").read_bytes()))
