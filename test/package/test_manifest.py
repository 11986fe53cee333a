"""package.xml, setup.py and the requirement files agree with the code and with each other."""

from __future__ import annotations

import importlib.metadata
import re
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import setuptools

import mmkd_ros
from mmkd_ros.processes import NODES

from .test_sources import imports, is_ros


@pytest.fixture
def setup_arguments(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What setup.py hands to setuptools."""
    given: dict[str, object] = {}
    monkeypatch.chdir(repo_root)
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    runpy.run_path("setup.py")
    return given


def manifest(repo_root: Path) -> ElementTree.Element:
    return ElementTree.parse(repo_root / "package.xml").getroot()  # noqa: S314 (our own file)


def test_every_ros_package_that_is_imported_is_a_dependency(repo_root: Path) -> None:
    declared = {element.text for element in manifest(repo_root) if element.tag in ("depend", "exec_depend")}
    files = [*(repo_root / "mmkd_ros" / "nodes").glob("*.py"), *(repo_root / "launch").glob("*.py")]
    used = {module for path in files for module in imports(path) if is_ros(module)}
    assert {"rclpy", "launch_ros"} <= used
    assert used - declared == set()


def test_the_manifest_is_format_3_of_an_ament_python_package(repo_root: Path) -> None:
    root = manifest(repo_root)
    assert root.get("format") == "3"
    assert root.findtext("name") == "mmkd_ros"
    assert root.findtext("license") == "Apache-2.0"
    assert root.findtext("export/build_type") == "ament_python"
    assert "Apache License" in (repo_root / "LICENSE").read_text()


def test_one_version_everywhere(repo_root: Path, setup_arguments: dict[str, object]) -> None:
    version = manifest(repo_root).findtext("version")
    assert mmkd_ros.__version__ == version
    assert setup_arguments["version"] == version
    released = re.findall(r"^## (\d+\.\d+\.\d+)", (repo_root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == version
    assert f"\nversion: {version}\n" in (repo_root / "CITATION.cff").read_text()


def test_every_console_script_has_its_module(repo_root: Path, setup_arguments: dict[str, object]) -> None:
    entry_points = setup_arguments["entry_points"]
    assert isinstance(entry_points, dict)
    scripts = dict(line.split(" = ") for line in entry_points["console_scripts"])
    assert set(scripts) == {*NODES, "mmkd-perception", "mmkd-doctor"}
    for target in scripts.values():
        module, function = target.split(":")
        source = (repo_root / module.replace(".", "/")).with_suffix(".py")
        assert f"def {function}(" in source.read_text(), f"{target} is missing"


def test_share_holds_marker_manifest_launch_config_and_models(
    repo_root: Path, setup_arguments: dict[str, object]
) -> None:
    data_files = setup_arguments["data_files"]
    assert isinstance(data_files, list)
    installed = {f"{folder}/{Path(path).name}" for folder, paths in data_files for path in paths}
    wanted = {"share/ament_index/resource_index/packages/mmkd_ros", "share/mmkd_ros/package.xml"}
    for folder in ("launch", "config", "models"):
        wanted |= {
            f"share/mmkd_ros/{path.relative_to(repo_root)}"
            for path in (repo_root / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    assert "share/mmkd_ros/launch/perception.launch.py" in wanted
    assert installed == wanted - {"share/mmkd_ros/models/mmkd_teacher.safetensors"}, "the teacher stays in the sources"


def test_every_package_is_installed(repo_root: Path, setup_arguments: dict[str, object]) -> None:
    wanted = {
        ".".join(path.parent.relative_to(repo_root).parts)
        for top in ("mmkd_ros", "mmkd_train")
        for path in (repo_root / top).rglob("*.py")
    }
    assert set(setup_arguments["packages"]) == wanted, "a folder with code lacks its __init__.py, or is not found"  # type: ignore[call-overload]


def requirements(repo_root: Path, file: str) -> list[str]:
    """The lines of a requirement file and of those that it includes."""
    found: list[str] = []
    for line in (repo_root / "requirements" / file).read_text().splitlines():
        if line.startswith("-r "):
            found += requirements(repo_root, line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            found.append(line)
    return found


def test_requirements_are_pinned(repo_root: Path) -> None:
    files = sorted(path.name for path in (repo_root / "requirements").glob("*.txt"))
    assert len(files) > 5
    for file in files:
        lines = requirements(repo_root, file)
        assert lines
        for line in lines:
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), f"{file}: {line}"


def plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def pinned(repo_root: Path, *files: str) -> list[str]:
    """Names of the distributions that requirement files pin."""
    return [plain(line.partition("==")[0]) for file in files for line in requirements(repo_root, file)]


def test_no_requirement_is_pinned_twice(repo_root: Path) -> None:
    names = pinned(repo_root, "ros_jazzy.txt", "runtime.txt", "train.txt", "dev.txt")
    assert len(names) == len(set(names))


def test_rosdep_and_pip_together_give_everything(repo_root: Path) -> None:
    keys = {str(element.text) for element in manifest(repo_root)}
    by_rosdep = {"numpy": "python3-numpy", "scipy": "python3-scipy", "opencv-python-headless": "python3-opencv"}
    by_rosdep["pyyaml"] = "python3-yaml"
    assert set(by_rosdep.values()) <= keys
    assert {*pinned(repo_root, "not_in_rosdep.txt"), *by_rosdep} == set(pinned(repo_root, "runtime.txt"))


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("mmkd_ros", ["runtime.txt", "completion.txt"]),
        ("mmkd_train", ["runtime.txt", "train.txt", "peers.txt"]),
        ("test", ["ros_jazzy.txt", "runtime.txt", "train.txt", "dev.txt", "peers.txt"]),
    ],
)
def test_every_import_is_a_requirement(repo_root: Path, folder: str, files: list[str]) -> None:
    used = {module for path in (repo_root / folder).rglob("*.py") for module in imports(path) if not is_ros(module)}
    providers = importlib.metadata.packages_distributions()
    needed = {
        module: {plain(name) for name in providers[module]}
        for module in used - set(sys.stdlib_module_names) - {"mmkd_ros", "mmkd_train"}
        if module in providers
    }
    assert len(needed) > 3
    names = set(pinned(repo_root, *files))
    assert {module: by for module, by in needed.items() if not by & names} == {}


def test_the_scripts_are_valid_and_executable(repo_root: Path) -> None:
    for script in (repo_root / "scripts" / "setup_env.sh", repo_root / ".ci" / "run"):
        assert script.stat().st_mode & 0o111, f"{script} is not executable"
        check = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)  # noqa: S607
        assert check.returncode == 0, check.stderr


def test_the_interpreter_is_one_that_the_package_supports() -> None:
    assert sys.version_info >= (3, 11)
