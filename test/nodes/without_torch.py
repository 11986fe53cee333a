"""A node in a process that cannot import torch: ``MMKD_TEST_NODE`` in the environment names it; run as a script."""

from __future__ import annotations

import importlib
import os
import sys

# Importing one of them is an ImportError from here on.
sys.modules.update(dict.fromkeys(("torch", "torchvision", "timm")))  # type: ignore[arg-type]

if __name__ == "__main__":
    sys.exit(importlib.import_module(f"mmkd_ros.nodes.{os.environ['MMKD_TEST_NODE']}").main())
