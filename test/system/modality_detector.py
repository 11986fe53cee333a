"""The detection node around a detector whose one object is named after the cameras it was seen with; a node process
when run as a script."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))

from fake_detector import FakeSession  # noqa: E402

from mmkd_ros.nodes.detection_node import DetectionNode  # noqa: E402
from mmkd_ros.nodes.lifecycle import run  # noqa: E402
from mmkd_ros.types import Detections, ImagePair, Modality  # noqa: E402

SCRIPT = Path(__file__)
MODALITIES = get_args(Modality)


class ModalitySession(FakeSession):
    """One box a pair, of the class both, rgb or thermal."""

    class_names = MODALITIES

    def __call__(self, pair: ImagePair) -> Detections:
        super().__call__(pair)
        label = np.array([MODALITIES.index(pair.modality)], np.int64)
        box, score = np.array([[2.0, 2.0, 12.0, 22.0]], np.float32), np.array([0.9], np.float32)
        return Detections(box, score, label, MODALITIES, pair.stamp, pair.modality)


if __name__ == "__main__":
    sys.exit(run(lambda: DetectionNode(ModalitySession)))
