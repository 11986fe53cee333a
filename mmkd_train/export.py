"""Write a network as one ONNX or OpenVINO model for other programs: of the detector uint8 images in, boxes, scores and
labels out; of the appearance network crops in, vectors out.

In: a weights file. Out: for a detector normalisation, network, softmax, top-k and decoding in one graph, with the
metadata that :func:`mmkd_ros.inference.exporting.describe` lists. Letterbox before it, threshold and suppression after
it are the caller's; the nodes take the files as their weights, and then need no torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from mmkd_ros.inference import WeightsError
from mmkd_ros.share import share_path
from mmkd_ros.types import Modality
from mmkd_train.errors import UserError
from mmkd_train.progress import clock

HELP = "Write the detector or the appearance network as an ONNX or OpenVINO model that other programs can run."
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


def export(
    weights: Path, kind: str, output: Path, modality: Modality = "both", input_size: tuple[int, int] = (0, 0)
) -> list[Path]:
    """Write the model.

    Args:
        weights: the file of a detector or of an appearance network.
        kind: 'onnx' or 'openvino'.
        output: ends in .onnx or .xml; an OpenVINO model also has a .bin beside it.
        modality: which images a detector takes.
        input_size: (height, width) of a detector in multiples of 32, (0, 0): as in the weights.

    Returns:
        The files written.

    Raises:
        UserError: weights, name or folder that cannot be used, or a package that is missing.
    """
    if output.suffix != SUFFIXES[kind]:
        raise UserError(f"--output {output} must end in {SUFFIXES[kind]} for --format {kind}.")
    try:
        with clock(f"writing {output.name}"):
            from mmkd_ros.inference.exporting import export_weights  # torch: not before the options are read

            return export_weights(weights, output, modality, input_size)
    except (WeightsError, ValueError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error}); choose another --output.") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--weights", type=Path, help="of the detector or of the appearance network; default: the shipped student"
    )
    parser.add_argument("--format", choices=sorted(SUFFIXES), required=True)
    parser.add_argument("--output", type=Path, required=True, help="file ending in .onnx, or in .xml for openvino")
    parser.add_argument(
        "--modality", choices=get_args(Modality), default="both", help="images that the detector's model takes"
    )
    parser.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        default=(0, 0),
        help="of the detector's images in pixels, multiples of 32; default: as in the weights",
    )


def run(args: argparse.Namespace) -> int:
    """Write the files and name them."""
    weights = args.weights or share_path("models/mmkd_student.safetensors")
    for path in export(weights, args.format, args.output, args.modality, tuple(args.input_size)):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0
