"""Fixtures of the node tests; without ROS the folder is skipped."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_bench import HERE, Bench, Child

from mmkd_ros.processes import node_command, stop_nodes

_MISSING = [name for name in ("rclpy", "vision_msgs") if importlib.util.find_spec(name) is None]


class _Skipped(pytest.Module):
    """Stands for a test module that cannot even be imported here."""

    def collect(self) -> Any:
        pytest.skip(
            f"needs {' and '.join(_MISSING)}: `make env` installs them, or source a ROS 2 distribution",
            allow_module_level=True,
        )


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return _Skipped.from_parent(parent, path=module_path) if _MISSING else None


@pytest.fixture
def bench(ros_domain: int) -> Iterator[Bench]:
    """The bench, in the domain of this test."""
    made = Bench(ros_domain)
    yield made
    made.close()


@pytest.fixture
def start(ros_domain: int, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Starts child processes: ``start("tracker_node", device="cpu")``; "fake_detector" is the one of this folder."""
    children: list[Child] = []

    def _start(name: str, **parameters: Any) -> Child:
        script = HERE / f"{name}.py"
        command = node_command("detection_node" if script.exists() else name, parameters=parameters)
        if script.exists():
            command[1:3] = [str(script)]
        children.append(Child(command, tmp_path / f"{name}_{len(children)}.log"))
        return children[-1]

    yield _start
    stop_nodes([child.process for child in children])


@pytest.fixture(scope="session")
def some_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for weights where the detector is a fake one."""
    path = tmp_path_factory.mktemp("weights") / "fake.safetensors"
    path.write_bytes(b"none")
    return path
