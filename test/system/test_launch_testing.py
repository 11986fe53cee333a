"""The system under the real ``launch``: started, killed node by node, ended, where ``launch_testing`` is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from mmkd_ros.processes import ros_environment
from mmkd_train.make_bag import make_bag_from_frames

DESCRIPTION = Path(__file__).with_name("launch_perception.py")


def test_what_is_killed_under_launch_comes_back(ros_domain: int, tiny_weights: Path, tmp_path: Path) -> None:
    for module in ("launch_ros", "launch_testing"):
        pytest.importorskip(module, reason=f"needs {module}, which comes with a ROS distribution")
    try:
        get_package_prefix("mmkd_ros")
    except PackageNotFoundError:
        pytest.skip("needs mmkd_ros in the ament index: `make env` or `colcon build` puts it there")
    rng = np.random.default_rng(2)
    frames = [
        (rng.integers(0, 255, (64, 96, 3), np.uint8), rng.integers(0, 255, (64, 96), np.uint8)) for _ in range(20)
    ]
    make_bag_from_frames(frames, tmp_path / "noise.mcap", 10.0)
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(
        "/**/detection_node:\n  ros__parameters: {device: cpu, backend: torch, threads: 1}\n"
        "/**/tracker_node:\n  ros__parameters: {appearance: false}\n"
    )
    arguments = [f"recording:={tmp_path / 'noise.mcap'}", f"weights:={tiny_weights}", f"params_file:={parameters}"]
    command = [sys.executable, "-m", "launch_testing.launch_test", str(DESCRIPTION), *arguments]
    run = subprocess.run(command, env=ros_environment(), capture_output=True, text=True, timeout=500, check=False)
    said = run.stdout + run.stderr
    assert run.returncode == 0, said
    # One test while it runs, one afterwards: launch_test ends with 0 when it finds none.
    assert said.count("Ran 1 test") == 2, said
