"""The package really builds: with colcon into a ROS workspace, and as a wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mmkd_ros.processes import NODES

PARTS = ("package.xml", "setup.py", "setup.cfg", "pyproject.toml", "LICENSE", "README.md")
FOLDERS = ("resource", "launch", "config", "models", "mmkd_ros", "mmkd_train")
SCRIPTS = {*NODES, "mmkd-perception", "mmkd-doctor"}


@pytest.fixture
def source(repo_root: Path, tmp_path: Path) -> Path:
    """A copy of what is built; the build must not write into the source tree."""
    copy = tmp_path / "workspace" / "src" / "mmkd_ros"
    copy.mkdir(parents=True)
    for part in PARTS:
        if (repo_root / part).is_file():
            shutil.copy2(repo_root / part, copy)
    for folder in FOLDERS:
        if (repo_root / folder).is_dir():
            shutil.copytree(repo_root / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run(command: list[str], folder: Path, **variables: str) -> str:
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def modules(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for top in ("mmkd_ros", "mmkd_train") for path in (root / top).rglob("*.py")}


@pytest.mark.skipif(importlib.util.find_spec("colcon_core") is None, reason="needs colcon (colcon-common-extensions)")
@pytest.mark.parametrize("options", [[], ["--symlink-install"]], ids=["copied", "symlinked"])
def test_colcon_builds_what_ros2_run_and_launch_look_for(source: Path, options: list[str]) -> None:
    workspace = source.parents[1]
    colcon = "import sys; from colcon_core.command import main; sys.exit(main(argv=sys.argv[1:]))"
    run([sys.executable, "-c", colcon, "build", *options], workspace)

    prefix = workspace / "install" / "mmkd_ros"
    share = prefix / "share" / "mmkd_ros"
    assert (prefix / "share" / "ament_index" / "resource_index" / "packages" / "mmkd_ros").is_file()
    for name in ("package.xml", "launch/perception.launch.py", "config/perception.yaml", "config/fastdds_shm.xml"):
        assert (share / name).is_file(), name
    installed = {path.name: path for path in (prefix / "lib" / "mmkd_ros").iterdir()}
    assert set(installed) == SCRIPTS
    assert all(os.access(path, os.X_OK) for path in installed.values())
    if not options:
        # Not the interpreter that ran colcon: the one of the environment in which the node is started.
        assert all(path.read_text().startswith("#!/usr/bin/env python3\n") for path in installed.values())
        assert modules(next((prefix / "lib").glob("python3.*/site-packages"))) == modules(source)

    # A new shell that sources the workspace starts the script, and the package finds its own share.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    where = "import mmkd_ros; from mmkd_ros.share import share_path; print(share_path('config/perception.yaml'))"
    script = f'source install/local_setup.bash; lib=$PWD/install/mmkd_ros/lib/mmkd_ros; cd /; python3 -c "{where}"; '
    said = run(["bash", "-c", script + "$lib/mmkd-perception --help"], workspace, PATH=path)
    assert said.startswith(str(workspace))
    assert "usage: mmkd-perception" in said


def test_the_wheel_holds_scripts_and_share(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run([*command, "--wheel-dir", str(tmp_path / "wheel"), str(source)], tmp_path)
    (wheel,) = (tmp_path / "wheel").glob("mmkd_ros-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        scripts = archive.read(entry_points).decode()
    assert {line.partition(" = ")[0] for line in scripts.splitlines() if " = " in line} == SCRIPTS
    assert modules(source) <= names
    data = f"{wheel.name.rpartition('-py3')[0]}.data/data/share/"
    assert f"{data}ament_index/resource_index/packages/mmkd_ros" in names
    assert f"{data}mmkd_ros/launch/perception.launch.py" in names
    models = {Path(name).name for name in names if name.startswith(f"{data}mmkd_ros/models/")}
    assert {"mmkd_student.safetensors", "mmkd_appearance.safetensors"} <= models
    assert "mmkd_teacher.safetensors" not in models, "16 MB that no robot needs"
