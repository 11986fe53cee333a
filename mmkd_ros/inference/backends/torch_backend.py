"""The network as torch runs it: on the CPU in float32, on CUDA in float16 or float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_ros.inference.backends.timing import Images
from mmkd_ros.inference.normalize import network_inputs
from mmkd_ros.network import Detector

Answer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Logits (A, C + 1), background last, and offsets (A, 4) from the anchors."""


def choose_device(device: str) -> torch.device:
    """'auto' -> CUDA when there is one, else the CPU; 'cpu' or 'cuda[:i]' -> that one.

    Raises:
        ValueError: unknown name, or CUDA asked for and absent.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device '{device}' is unknown; use 'auto', 'cpu' or 'cuda'.") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device '{device}' is not supported; use 'auto', 'cpu' or 'cuda'.")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device 'cuda' was asked for but this torch sees none; use 'auto' or 'cpu', or install a "
            "CUDA build of torch."
        )
    return chosen


class TorchBackend:
    """Letterboxed uint8 images -> what the network answers.

    Args:
        detector: in evaluation mode; it is moved to the device and changed to the dtype.
        device: of the network.
        dtype: of the network.
    """

    def __init__(self, detector: Detector, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.detector = detector.to(device=device, dtype=dtype)
        self._device = device
        self._dtype = dtype

    @property
    def device(self) -> str:
        """Where it runs, e.g. 'cpu' or 'cuda'."""
        return str(self._device)

    @torch.inference_mode()
    def __call__(self, rgb: NDArray[np.uint8] | None, thermal: NDArray[np.uint8] | None) -> Answer:
        """Run the network on one pair; a missing modality costs no computation.

        Args:
            rgb: (H, W, 3) of the network's input size, or None.
            thermal: (H, W) of that size, or None; one of the two is given.

        Raises:
            RuntimeError: the device failed.
        """
        inputs = network_inputs(self._upload(rgb), self._upload(thermal), self.detector.config, self._dtype)
        output = self.detector(*inputs)
        return output.logits[0].float().cpu().numpy(), output.offsets[0].float().cpu().numpy()

    @torch.inference_mode()
    def batch(self, images: Sequence[Images]) -> list[Answer]:
        """Run the network once on several pairs; a modality that is missing from a pair costs no computation.

        Args:
            images: RGB and thermal image of each pair, as for one.

        Raises:
            RuntimeError: the device failed.
        """
        present = torch.tensor([[image is not None for image in pair] for pair in images])
        stacks = [self._stack([pair[camera] for pair in images]) for camera in (0, 1)]
        inputs = network_inputs(stacks[0], stacks[1], self.detector.config, self._dtype)
        output = self.detector(*inputs, None if present.all() else present)
        logits, offsets = output.logits.float().cpu().numpy(), output.offsets.float().cpu().numpy()
        return list(zip(logits, offsets, strict=True))

    def _stack(self, images: Sequence[NDArray[np.uint8] | None]) -> Tensor | None:
        """Images of one camera, zeros for those that are missing; None where all are."""
        given = next((image for image in images if image is not None), None)
        if given is None:
            return None
        stacked = np.stack([np.zeros_like(given) if image is None else image for image in images])
        return torch.from_numpy(stacked).to(self._device)

    def _upload(self, image: NDArray[np.uint8] | None) -> Tensor | None:
        return None if image is None else torch.from_numpy(image).unsqueeze(0).to(self._device)
