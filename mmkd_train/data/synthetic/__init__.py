"""Seeded synthetic RGB-thermal road scenes with exact boxes and track ids."""

from __future__ import annotations

from mmkd_train.data.synthetic.export import HELP, add_arguments, run
from mmkd_train.data.synthetic.options import CLASS_NAMES, DEMO_SCENE, SceneOptions, SyntheticFrame
from mmkd_train.data.synthetic.scene import SyntheticScene, training_sample

__all__ = [
    "CLASS_NAMES",
    "DEMO_SCENE",
    "HELP",
    "SceneOptions",
    "SyntheticFrame",
    "SyntheticScene",
    "add_arguments",
    "run",
    "training_sample",
]
