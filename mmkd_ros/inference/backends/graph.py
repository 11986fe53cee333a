"""The networks as ONNX graphs; the detector's with normalisation, softmax, top-k and decoding inside."""

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
from mmkd_ros.tracking.appearance_network import AppearanceNet
from mmkd_ros.types import Modality

OPSET = 17


class DetectionGraph(nn.Module):
    """'rgb' (1, H, W, 3) and 'thermal' (1, H, W) uint8 of the network's input size, or one of them -> 'boxes' (K, 4)
    xyxy in network pixels, 'scores' (K,) descending and 'labels' (K,). Threshold and suppression are the caller's.

    The graph of both modalities has a third input, 'present' float32 (2,): 1 for an image that is there, 0 for a
    missing one, whose pixels then do not matter. One file so serves a robot that loses a camera.

    Args:
        detector: in evaluation mode, float32, on the CPU.
        modality: which images it takes.
    """

    outputs = ("boxes", "scores", "labels")
    any_length: tuple[str, ...] = ()

    def __init__(self, detector: Detector, modality: Modality = "both") -> None:
        super().__init__()
        self.detector = detector
        self.modality = modality

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in the order of the arguments."""
        return ("rgb", "thermal", "present") if self.modality == "both" else (self.modality,)

    def examples(self) -> tuple[Tensor, ...]:
        """One tensor per name in ``inputs``."""
        height, width = self.detector.config.input_size
        tensors = {
            "rgb": torch.zeros((1, height, width, 3), dtype=torch.uint8),
            "thermal": torch.zeros((1, height, width), dtype=torch.uint8),
            "present": torch.ones(2),
        }
        return tuple(tensors[name] for name in self.inputs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """One tensor per name in ``inputs``."""
        logits, offsets = self._pair(*tensors) if self.modality == "both" else self._single(tensors[0])
        probabilities = logits.softmax(dim=-1)[:, :-1]
        classes = probabilities.shape[1]
        scores, best = probabilities.flatten().topk(min(CANDIDATES, probabilities.numel()))
        rows = best // classes
        anchors = self.detector.anchors(*self.detector.config.input_size)
        # NaN has no place in an order: whatever top-k makes of it, the sum carries it to the caller.
        return decode_boxes(offsets[rows], anchors[rows]), scores + 0.0 * logits.sum(), best % classes

    def _single(self, image: Tensor) -> tuple[Tensor, Tensor]:
        given = {self.modality: image}
        output = self.detector(*network_inputs(given.get("rgb"), given.get("thermal"), self.detector.config))
        return output.logits[0], output.offsets[0]

    def _pair(self, rgb: Tensor, thermal: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """As the detector's own pass, where a missing modality enters the fusion as zeros."""
        net = self.detector
        colour, heat = network_inputs(rgb, thermal, net.config)
        pyramids = net.rgb_bifpn(net.rgb_backbone(colour)), net.thermal_bifpn(net.thermal_backbone(heat))
        levels = zip(net.fusion, *pyramids, strict=True)
        fused = [fusion(a * present[0], b * present[1]) for fusion, a, b in levels]
        return net.class_head(fused)[0], net.box_head(fused)[0]


class AppearanceGraph(nn.Module):
    """'crops' (N, 4, height, width) float32, as ``cut_crops`` makes them, N free -> 'vectors' (N, D).

    Args:
        network: in evaluation mode, float32, on the CPU.
    """

    inputs = ("crops",)
    outputs = ("vectors",)
    any_length: tuple[str, ...] = ("crops", "vectors")

    def __init__(self, network: AppearanceNet) -> None:
        super().__init__()
        self.network = network

    def examples(self) -> tuple[Tensor, ...]:
        """One tensor per name in ``inputs``."""
        return (torch.zeros((2, 4, self.network.config.height, self.network.config.width)),)

    def forward(self, crops: Tensor) -> Tensor:
        """As the network."""
        vectors: Tensor = self.network(crops)
        return vectors


def to_onnx(graph: DetectionGraph | AppearanceGraph) -> bytes:
    """Serialise a graph.

    Raises:
        ValueError: onnx is not installed, or torch cannot export this network.
    """
    import_engine("onnx")
    # The exporter puts the whole network back into the mode of the outermost module; a new one is in training mode.
    graph.eval()
    file: Any = io.BytesIO()  # torch takes a buffer; its type stubs know paths only
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Python-side shape arithmetic is constant here, and the tracing exporter is chosen: the other needs more.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                graph.examples(),
                file,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_axes={name: {0: "n"} for name in graph.any_length},
                opset_version=OPSET,
                dynamo=False,
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ValueError(
            f"torch {torch.__version__} cannot export this network to ONNX ({str(error)[:200]}); use backend 'torch'."
        ) from error
    return file.getvalue()
