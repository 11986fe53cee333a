"""House rules that can be read off the sources: layers, sizes, no unsafe call, no foreign word."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROS_PACKAGES = {"rclpy", "launch", "launch_ros", "message_filters", "cv_bridge", "ament_index_python", "rosbag2_py"}
ROS_SUFFIXES = ("_msgs", "_srvs", "_interfaces")
PROGRAM = sorted(path for folder in ("mmkd_ros", "mmkd_train", "launch") for path in (ROOT / folder).rglob("*.py"))
NODE_FILES = [path for path in PROGRAM if path.parent == ROOT / "mmkd_ros" / "nodes"]
# Written so that this file does not hold what it looks for.
FOREIGN = re.compile(
    r"/[w]ork/|/[r]oot/|/[f]arm/|/\.[l]ibrary\b|\b[C]EO\b|[f]arm-bench|[p]ypi\.org|[p]ythonhosted\.org|[d]ownload\.pytorch"
)
FORBIDDEN = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen"}
FORBIDDEN |= {"subprocess.getoutput", "subprocess.getstatusoutput"}
NETWORK = {
    "socket",
    "ssl",
    "socketserver",
    "urllib",
    "urllib3",
    "http",
    "requests",
    "httpx",
    "ftplib",
    "smtplib",
    "xmlrpc",
}
LARGEST_FILE = 45_000_000


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, at any depth of nesting."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def is_ros(module: str) -> bool:
    return module in ROS_PACKAGES or module.endswith(ROS_SUFFIXES)


def unsafe(path: Path) -> Iterator[str]:
    """What must not be in our code: code from data, shells, swallowed exceptions, and network access on the robot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            if call in FORBIDDEN:
                yield f"line {line}: {call}"
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if (keyword.arg, value) in (("shell", True), ("weights_only", False), ("allow_pickle", True)):
                    yield f"line {line}: {keyword.arg}={value}"
        if isinstance(node, ast.ExceptHandler) and all(
            isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            for part in node.body
        ):
            yield f"line {line}: an exception is swallowed"
    if path.is_relative_to(ROOT / "mmkd_ros"):
        for module in imports(path) & NETWORK:
            yield f"network access by {module}"
    for module in imports(path) & {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib"}:
        yield f"import {module}"


def project_files() -> list[Path]:
    """What belongs to the project: all that git tracks, or everything of ours where there is no git."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)  # noqa: S607
    if listed.returncode == 0 and listed.stdout:
        return [path for item in listed.stdout.decode().split("\0") if item and (path := ROOT / item).is_file()]
    top = [path for path in ROOT.iterdir() if path.is_file()]
    return top + [
        path
        for folder in ("mmkd_ros", "mmkd_train", "launch", "config", "test", "scripts", "requirements", "interfaces")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]


def test_there_is_something_to_check() -> None:
    assert len(PROGRAM) > 20
    assert NODE_FILES


@pytest.mark.parametrize("path", PROGRAM, ids=name)
def test_a_source_uses_nothing_unsafe(path: Path) -> None:
    assert list(unsafe(path)) == []


@pytest.mark.parametrize("path", PROGRAM, ids=name)
def test_layers_are_kept(path: Path) -> None:
    modules = imports(path)
    parts = path.relative_to(ROOT).parts
    if parts[0] != "launch" and parts[:2] != ("mmkd_ros", "nodes"):
        assert {module for module in modules if is_ros(module)} == set(), "ROS belongs into mmkd_ros/nodes and launch"
    if parts[0] != "mmkd_train":
        assert "mmkd_train" not in modules, "the robot's package must not need the workshop"


@pytest.mark.parametrize("path", NODE_FILES, ids=name)
def test_a_node_file_is_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < 200, f"{lines} lines: move what is not translation of messages out of the node"


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        ("eval('1')", "line 1: eval"),
        ("import yaml\nyaml.load(x)", "line 2: yaml.load"),
        ("run(a, shell=True)", "line 1: shell=True"),
        ("load(a, weights_only=False)", "line 1: weights_only=False"),
        ("try:\n    a()\nexcept E:\n    pass", "line 3: an exception is swallowed"),
        ("from pickle import load", "import pickle"),
    ],
)
def test_the_check_itself_sees(tmp_path: Path, code: str, finding: str) -> None:
    source = tmp_path / "source.py"
    source.write_text(code)
    assert list(unsafe(source)) == [finding]
    source.write_text("import yaml\ntry:\n    yaml.safe_load(x)\nexcept E as error:\n    say(error)\n")
    assert list(unsafe(source)) == []


def test_the_check_sees_network_access_on_the_robot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    source = tmp_path / "mmkd_ros" / "source.py"
    source.parent.mkdir()
    source.write_text("def f():\n    from urllib.request import urlopen\n")
    assert list(unsafe(source)) == ["network access by urllib"]


def test_the_layer_check_sees_nested_imports(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text("def f():\n    import rclpy.node\n    from sensor_msgs.msg import Image\nfrom . import launch\n")
    assert {module for module in imports(source) if is_ros(module)} == {"rclpy", "sensor_msgs"}


def test_the_project_speaks_of_itself_alone() -> None:
    findings = []
    for path in project_files():
        content = path.read_bytes()
        if b"\0" in content[:4096]:
            continue
        for number, line in enumerate(content.decode("utf-8").splitlines(), 1):
            if FOREIGN.search(line):
                findings.append(f"{name(path)}:{number}: {line.strip()[:100]}")
    assert findings == []


def test_nothing_large_is_in_the_project() -> None:
    sizes = {name(path): path.stat().st_size for path in project_files()}
    assert sizes
    assert {path: size for path, size in sizes.items() if size > LARGEST_FILE} == {}
