"""The detector as an ONNX graph of one modality: uint8 images in, normalisation inside.

Both graphs take 'rgb' (1, H, W, 3) and 'thermal' (1, H, W) uint8 of the network's input size, or one of them.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from mmkd_ros.inference.backends.backend import import_engine
from mmkd_ros.inference.normalize import network_inputs
from mmkd_ros.inference.postprocess import CANDIDATES
from mmkd_ros.network import Detector
from mmkd_ros.network.anchors import decode_boxes
from mmkd_ros.types import Modality

OPSET = 17


class NetworkGraph(nn.Module):
    """Images -> 'logits' (A, C + 1) and 'offsets' (A, 4), what a backend answers. There is one graph per modality: a
    missing one then costs no computation, as in torch."""

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
    decoding inside; threshold and suppression are left to the caller.

    The graph of both modalities has a third input, 'present' float32 (2,): 1 for an image that is there, 0 for a
    missing one, whose pixels then do not matter. One file so serves a robot that loses a camera.
    """

    outputs = ("boxes", "scores", "labels")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in the order of the arguments."""
        return (*super().inputs, "present") if self.modality == "both" else super().inputs

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """One tensor per name in ``inputs``."""
        logits, offsets = self._pair(*images) if self.modality == "both" else super().forward(*images)
        probabilities = logits.softmax(dim=-1)[:, :-1]
        classes = probabilities.shape[1]
        scores, best = probabilities.flatten().topk(min(CANDIDATES, probabilities.numel()))
        rows = best // classes
        anchors = self.detector.anchors(*self.detector.config.input_size)
        # NaN has no place in an order: whatever top-k makes of it, the sum carries it to the caller.
        return decode_boxes(offsets[rows], anchors[rows]), scores + 0.0 * logits.sum(), best % classes

    def _pair(self, rgb: Tensor, thermal: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """As the detector's own pass, where a missing modality enters the fusion as zeros."""
        net = self.detector
        colour, heat = network_inputs(rgb, thermal, net.config)
        pyramids = net.rgb_bifpn(net.rgb_backbone(colour)), net.thermal_bifpn(net.thermal_backbone(heat))
        levels = zip(net.fusion, *pyramids, strict=True)
        fused = [fusion(a * present[0], b * present[1]) for fusion, a, b in levels]
        return net.class_head(fused)[0], net.box_head(fused)[0]


def to_onnx(graph: NetworkGraph) -> bytes:
    """Serialise a graph whose detector is in evaluation mode, float32, on the CPU.

    Raises:
        ValueError: onnx is not installed, or torch cannot export this network.
    """
    import_engine("onnx")
    height, width = graph.detector.config.input_size
    examples = {
        "rgb": torch.zeros((1, height, width, 3), dtype=torch.uint8),
        "thermal": torch.zeros((1, height, width), dtype=torch.uint8),
        "present": torch.ones(2),
    }
    # The exporter puts the whole network back into the mode of the outermost module; a new one is in training mode.
    graph.eval()
    file: Any = io.BytesIO()  # torch takes a buffer; its type stubs know paths only
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Python-side shape arithmetic is constant here, and the tracing exporter is chosen: the other needs more.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                tuple(examples[name] for name in graph.inputs),
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
