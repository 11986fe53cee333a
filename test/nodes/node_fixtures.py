"""Fixtures of the tests with real nodes, shared by ``test/nodes`` and ``test/system``; without ROS both are skipped."""

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
    """Starts child processes: ``start("tracker_node", device="cpu")``; "fake_detector" is the one of this folder, and a
    path a script that runs a detection node of its own."""
    children: list[Child] = []

    def _start(name: str | Path, **parameters: Any) -> Child:
        script = HERE / f"{name}.py" if isinstance(name, str) else name
        command = node_command("detection_node" if script.exists() else str(name), parameters=parameters)
        if script.exists():
            command[1:3] = [str(script)]
        children.append(Child(command, tmp_path / f"{script.stem}_{len(children)}.log"))
        return children[-1]

    yield _start
    stop_nodes([child.process for child in children])


@pytest.fixture(scope="session")
def some_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for weights where the detector is a fake one."""
    path = tmp_path_factory.mktemp("weights") / "fake.safetensors"
    path.write_bytes(b"none")
    return path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real detector that has learned nothing."""
    torch = pytest.importorskip("torch")
    from mmkd_ros.inference.weights import save_detector
    from mmkd_ros.network import Detector, DetectorConfig

    torch.manual_seed(0)
    config = DetectorConfig(
        backbone="mobilenetv3_small_050", input_size=(64, 96), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_detector(path, Detector(config), {})
    return path


@pytest.fixture(scope="session")
def tiny_appearance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real appearance network that has learned nothing."""
    torch = pytest.importorskip("torch")
    from mmkd_ros.inference.weights import save_weights
    from mmkd_ros.inference.weights_file import APPEARANCE
    from mmkd_ros.tracking.appearance_network import AppearanceNet
    from mmkd_ros.tracking.crops import AppearanceConfig

    torch.manual_seed(0)
    network = AppearanceNet(AppearanceConfig(height=16, width=16, stem=8, blocks=(8,), stripes=2, dimension=8))
    path = tmp_path_factory.mktemp("weights") / "appearance.safetensors"
    save_weights(path, dict(network.state_dict()), {"kind": APPEARANCE, "config": network.config.to_dict()})
    return path
