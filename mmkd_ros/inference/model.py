"""What a session asks of a network, whichever engine runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.inference.backends.timing import Images
from mmkd_ros.inference.postprocess import Candidates


class Model(Protocol):
    """What finds boxes in letterboxed images."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""

    @property
    def device(self) -> str:
        """Where it runs, e.g. 'cpu' or 'cuda'."""

    @property
    def backend(self) -> str:
        """The engine in use, as ``InferenceSession.backend`` names it."""

    @property
    def reason(self) -> str:
        """Why this engine is in use, in words, with the times where it was chosen by time."""

    @property
    def sha256(self) -> str:
        """Digest of the weights, '' for a network that came from memory."""

    @property
    def batch_size(self) -> int:
        """Most pairs that are worth running in one call; 1: one after the other is as fast."""

    def __call__(
        self, rgb: NDArray[np.uint8] | None, thermal: NDArray[np.uint8] | None, score_threshold: float
    ) -> Candidates:
        """Boxes above the threshold, not yet suppressed.

        Args:
            rgb: (H, W, 3) of the input size, or None.
            thermal: (H, W) of the input size, or None; one of the two is given.
            score_threshold: in [0, 1).

        Raises:
            RuntimeError: the engine failed.
            FloatingPointError: it answered NaN.
        """

    def batch(self, images: Sequence[Images], score_threshold: float) -> list[Candidates | FloatingPointError]:
        """The same for several pairs; an error stands where the engine answered NaN to one of them.

        Raises:
            RuntimeError: the engine failed.
        """
