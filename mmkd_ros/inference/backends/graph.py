"""The detector as an ONNX graph of one modality: uint8 images in, normalisation inside.

Both graphs take 'rgb' (1, H, W, 3) and 'thermal' (1, H, W) uint8 of the network's input size, or one of them. There is
one graph per modality: a missing one then costs no computation, as in torch.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from mmkd_ros.inference.backends.backend import import_engine
from mmkd_ros.inference.preprocess import network_inputs
from mmkd_ros.network import Detector
from mmkd_ros.network.anchors import decode_boxes
from mmkd_ros.types import Modality

OPSET = 17
CANDIDATES = 1000  # boxes of a DetectionGraph, as many as postprocess keeps before suppression


class NetworkGraph(nn.Module):
    """Images -> 'logits' (A, C + 1) and 'offsets' (A, 4), what a backend answers."""

    outputs: tuple[str, ...] = ("logits", "offsets")

    def __init__(self, detector: Detector, modality: Modality) -> None:
        super().__init__()
        self.detector = detector
        self.modality = modality

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the images, in the order of the arguments."""
        return ("rgb", "thermal") if self.modality == "both" else (self.modality,)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """One image per name in ``inputs``."""
        given = dict(zip(self.inputs, images, strict=True))
        output = self.detector(*network_inputs(given.get("rgb"), given.get("thermal"), self.detector.config))
        return output.logits[0], output.offsets[0]


class DetectionGraph(NetworkGraph):
    """Images -> 'boxes' (K, 4) xyxy in network pixels, 'scores' (K,) descending and 'labels' (K,): softmax, top-k and
    decoding inside; threshold and suppression are left to the caller."""

    outputs = ("boxes", "scores", "labels")

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """One image per name in ``inputs``."""
        logits, offsets = super().forward(*images)
        probabilities = logits.softmax(dim=-1)[:, :-1]
        classes = probabilities.shape[1]
        scores, best = probabilities.flatten().topk(min(CANDIDATES, probabilities.numel()))
        rows = best // classes
        anchors = self.detector.anchors(*self.detector.config.input_size)
        return decode_boxes(offsets[rows], anchors[rows]), scores, best % classes


def to_onnx(graph: NetworkGraph) -> bytes:
    """Serialise a graph whose detector is in evaluation mode, float32, on the CPU.

    Raises:
        ValueError: onnx is not installed, or torch cannot export this network.
    """
    import_engine("onnx")
    height, width = graph.detector.config.input_size
    shapes = {"rgb": (1, height, width, 3), "thermal": (1, height, width)}
    images = tuple(torch.zeros(shapes[name], dtype=torch.uint8) for name in graph.inputs)
    # The exporter puts the whole network back into the mode of the outermost module; a new one is in training mode.
    graph.eval()
    file: Any = io.BytesIO()  # torch takes a buffer; its type stubs know paths only
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Python-side shape arithmetic is constant here, and the tracing exporter is chosen: the other needs more.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                images,
                file,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=OPSET,
                dynamo=False,
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ValueError(
            f"torch {torch.__version__} cannot export this network to ONNX ({str(error)[:200]}); use backend 'torch'."
        ) from error
    return file.getvalue()
