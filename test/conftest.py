"""Fixtures that every test may use: paths, the data folder, and a ROS domain that no other test shares."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmkd_ros.processes import ros_environment
from mmkd_train.ros_domain import own_domain

REPO_ROOT = Path(__file__).resolve().parents[1]
ROS_MODULES = ("rclpy", "vision_msgs")

# Nodes and participants started by any test see this machine alone and find the package's Fast DDS profile.
os.environ.update(ros_environment(local_only=True))
# Engines that a test imports by itself report nothing to their makers, as in the nodes.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requires_ros: needs rclpy and vision_msgs; skips with the reason without them")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("requires_ros") is not None:
        missing = [name for name in ROS_MODULES if importlib.util.find_spec(name) is None]
        if missing:
            pytest.skip(f"needs {' and '.join(missing)}: `make env` installs them, or source a ROS 2 distribution")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """Root of the source tree."""
    return REPO_ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the recorded sets (``annotations``, ``pairs``, ``sequences`` ...); skips where there is none."""
    path = Path(os.environ.get("MMKD_DATA", REPO_ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no recorded data at {path}; set MMKD_DATA to the folder that holds it")
    return path


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain id for this test alone, set in the environment for rclpy and for child processes."""
    with own_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        yield domain
