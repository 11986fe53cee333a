"""Distillation: the training of :mod:`mmkd_train.train` with a frozen teacher beside the student.

python -m mmkd_train distill config/train/student_mnv3.yaml teacher.weights=runs/teacher/detector.safetensors
"""

from __future__ import annotations

import argparse

from mmkd_train.cpu_training import keep_freed_memory
from mmkd_train.errors import UserError
from mmkd_train.options import load_options
from mmkd_train.train import add_arguments, train

HELP = "Train a student on labels and on a frozen teacher's features and class scores."

__all__ = ["HELP", "add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Distil."""
    options = load_options(args.config, args.overrides)
    if not options.teacher.weights:
        raise UserError("there is no teacher; give teacher.weights=FILE (of 'teacher'), or use the command 'train'.")
    keep_freed_memory()
    train(options, args.resume)
    return 0
