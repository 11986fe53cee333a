"""The network as torch runs it: on the CPU in float32, on CUDA in float16 or float32."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_ros.inference.preprocess import network_inputs
from mmkd_ros.network import Detector


class TorchBackend:
    """A :class:`~mmkd_ros.inference.backends.Backend` around a network in memory.

    Args:
        detector: in evaluation mode; it is moved to the device and changed to the dtype.
        device: of the network.
        dtype: of the network.
    """

    name = "torch"

    def __init__(self, detector: Detector, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.detector = detector.to(device=device, dtype=dtype)
        self._device = device
        self._dtype = dtype

    @property
    def device(self) -> str:
        """Where it runs, e.g. 'cpu' or 'cuda'."""
        return str(self._device)

    @torch.inference_mode()
    def __call__(self, rgb: NDArray[np.uint8] | None, thermal: NDArray[np.uint8] | None) -> tuple[Tensor, Tensor]:
        """See :class:`~mmkd_ros.inference.backends.Backend`; a missing modality costs no computation."""
        inputs = network_inputs(self._upload(rgb), self._upload(thermal), self.detector.config, self._dtype)
        output = self.detector(*inputs)
        return output.logits[0], output.offsets[0]

    def _upload(self, image: NDArray[np.uint8] | None) -> Tensor | None:
        return None if image is None else torch.from_numpy(image).unsqueeze(0).to(self._device)
