"""The container image is in step with package.xml. It is read here, not built."""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from .test_build import FOLDERS, PARTS

TOOLS = {"python3-colcon-common-extensions", "python3-pip"}
DISTRIBUTION = "jazzy"


@pytest.fixture
def dockerfile(repo_root: Path) -> str:
    """Its instructions, one a line, without comments."""
    text = (repo_root / "Dockerfile").read_text()
    return re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))


def instruction(dockerfile: str, name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", dockerfile, re.MULTILINE)


def debian_package(key: str) -> str:
    """What rosdep makes of a key on Ubuntu: system keys keep their name, ROS packages get the distribution's prefix."""
    return key if key.startswith("python3-") else f"ros-{DISTRIBUTION}-{key.replace('_', '-')}"


def test_the_image_installs_the_dependencies_of_the_manifest(repo_root: Path, dockerfile: str) -> None:
    root = ElementTree.parse(repo_root / "package.xml").getroot()  # noqa: S314 (our own file)
    wanted = {debian_package(str(item.text)) for item in root if item.tag in ("depend", "exec_depend")}
    (apt,) = (line for line in instruction(dockerfile, "RUN") if "apt-get install" in line)
    installed = set(re.findall(r"\b(?:ros|python3)-[\w-]+", apt))
    assert instruction(dockerfile, "FROM") == [f"ros:{DISTRIBUTION}-ros-base"]
    assert installed - TOOLS == wanted
    assert TOOLS <= installed


def test_the_pins_are_those_of_the_requirements(repo_root: Path, dockerfile: str) -> None:
    (pip,) = (line for line in instruction(dockerfile, "RUN") if line.startswith("pip install"))
    assert pip.endswith("-r requirements/not_in_rosdep.txt"), "numpy and OpenCV stay those of the distribution"
    (setuptools,) = re.findall(r"setuptools==\S+", pip)
    assert setuptools in (repo_root / "requirements" / "ros_jazzy.txt").read_text().splitlines()


def test_what_the_build_needs_reaches_it(repo_root: Path) -> None:
    lines = (repo_root / ".dockerignore").read_text().splitlines()
    left_out = {line for line in lines if line and not line.startswith("#")}
    assert left_out & {*PARTS, *FOLDERS, "requirements"} == set()
    large = {line.strip("/") for line in (repo_root / ".gitignore").read_text().splitlines() if line.startswith("/")}
    assert large <= left_out, "what git ignores must not be sent to the builder"


def test_the_entry_point_runs_what_it_is_given_in_the_workspace(tmp_path: Path, dockerfile: str) -> None:
    (tmp_path / "setup.bash").write_text("export FROM_WORKSPACE='it is'\n")
    (written,) = instruction(dockerfile, "ENTRYPOINT")
    entry = [word.replace("/ws/install", str(tmp_path)) for word in json.loads(written)]
    command = ["bash", "-c", 'echo "$FROM_WORKSPACE: $1|$2"', "x", "a b", "c"]
    done = subprocess.run([*entry, *command], capture_output=True, text=True, check=True)
    assert done.stdout == "it is: a b|c\n"
    (default,) = instruction(dockerfile, "CMD")
    assert json.loads(default) == ["ros2", "launch", "mmkd_ros", "perception.launch.py"]
