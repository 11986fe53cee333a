"""Fixtures of the node tests."""

from node_fixtures import bench, pytest_pycollect_makemodule, some_file, start, tiny_appearance, tiny_weights

__all__ = ["bench", "pytest_pycollect_makemodule", "some_file", "start", "tiny_appearance", "tiny_weights"]
