"""Fixtures that every test may use: paths, the data folder, and a ROS domain that no other test shares."""

from __future__ import annotations

import fcntl
import importlib.util
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmkd_ros.processes import ros_environment

REPO_ROOT = Path(__file__).resolve().parents[1]
ROS_MODULES = ("rclpy", "vision_msgs")

# Domain ids above 101 reach into the ports that Linux hands out to other programs; 0 is everybody's default.
_DOMAINS = range(1, 102)
_turn = itertools.count(os.getpid())

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
    """A ROS domain id for this test alone, set in the environment for rclpy and for child processes.

    A lock file per id keeps other test processes on this machine away, and goes with the process that holds it.
    """
    for _ in _DOMAINS:
        domain = _DOMAINS[next(_turn) % len(_DOMAINS)]
        try:
            lock = open(Path(tempfile.gettempdir()) / f"mmkd_ros_domain_{domain}.lock", "a")
        except PermissionError:  # another user's test holds or held it
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
            yield domain
            return
    pytest.fail("all 101 ROS domain ids are in use by other test processes")
