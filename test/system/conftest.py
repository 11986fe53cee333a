"""Fixtures of the system tests: those of the node tests, whose folder goes on the path, and the report of figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))

from fault_report import FaultReport  # noqa: E402
from node_fixtures import bench, pytest_pycollect_makemodule, some_file, start, tiny_weights  # noqa: E402

__all__ = ["bench", "figures", "pytest_pycollect_makemodule", "some_file", "start", "tiny_weights"]


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> FaultReport:
    """Prints what a test measures, and keeps it in the file that ``MMKD_FAULT_REPORT`` names."""
    return FaultReport(request.node.nodeid)
