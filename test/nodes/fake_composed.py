"""Detection with a detector that looks at one pixel, and tracking, in one process; run as a script."""

from __future__ import annotations

import sys

from fake_detector import FakeSession

from mmkd_ros.nodes.composed_node import make_nodes
from mmkd_ros.nodes.lifecycle import run_together

if __name__ == "__main__":
    sys.exit(run_together(lambda: make_nodes(FakeSession)))
