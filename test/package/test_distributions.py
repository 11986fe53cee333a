"""What differs between ROS distributions stays in two modules, all else is in Humble too, and the page says so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmkd_ros.distribution import apt_package, discovery_range, distribution, keep_local

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^`]+)` \|[^|]+\| (`mmkd_ros/[^|]+|not used) \|", PAGE, re.MULTILINE)
SOURCES = [path for folder in ("mmkd_ros", "mmkd_train", "launch") for path in (ROOT / folder).rglob("*.py")]
# What the sources may take from these packages: looked up in the sources of Humble (rclpy 3.3.15, launch 1.0.7,
# launch_ros 0.19.8), and in Jazzy's. Before a name is added here, it must be found in both.
IN_BOTH = {
    "launch": {"LaunchContext", "LaunchDescription", "LaunchDescriptionEntity"},
    "launch.actions": {
        "DeclareLaunchArgument",
        "IncludeLaunchDescription",
        "OpaqueFunction",
        "SetEnvironmentVariable",
        "Shutdown",
    },
    "launch.conditions": {"IfCondition"},
    "launch.launch_description_sources": {"PythonLaunchDescriptionSource"},
    "launch.substitutions": {"LaunchConfiguration", "PathJoinSubstitution"},
    "launch_ros.actions": {"LifecycleNode", "Node"},
    "launch_ros.substitutions": {"FindPackageShare"},
    "rclpy": {"Context", "create_node", "get_rmw_implementation_identifier", "init", "ok", "spin", "try_shutdown"},
    "rclpy.clock": {"Clock", "ClockType"},
    "rclpy.duration": {"Duration"},
    "rclpy.executors": {"ExternalShutdownException", "SingleThreadedExecutor"},
    "rclpy.impl.implementation_singleton": {"rclpy_implementation"},
    "rclpy.impl.rcutils_logger": {"RcutilsLogger"},
    "rclpy.lifecycle": {"LifecycleNode", "LifecycleState", "TransitionCallbackReturn"},
    "rclpy.logging": {"get_logger"},
    "rclpy.node": {"Node"},
    "rclpy.parameter": {"Parameter"},
    "rclpy.publisher": {"Publisher"},
    "rclpy.qos": {
        "DurabilityPolicy",
        "HistoryPolicy",
        "QoSCompatibility",
        "QoSPolicyKind",
        "QoSProfile",
        "ReliabilityPolicy",
        "qos_check_compatible",
    },
    "rclpy.subscription": {"Subscription"},
    "rclpy.timer": {"Timer"},
    "rclpy.type_support": {"check_for_type_support"},
}


def used_names(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that a file takes from rclpy, launch and launch_ros."""
    packages = ("rclpy", "launch", "launch_ros")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in packages:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            module = f"{owner}.{node.attr}"
            if re.fullmatch(r"rclpy(\.\w+)*", owner) and module not in IN_BOTH:
                yield owner, node.attr


def test_the_table_is_read() -> None:
    assert len(ROWS) == 8


@pytest.mark.parametrize(("word", "files"), ROWS, ids=[word for word, _ in ROWS])
def test_what_differs_is_used_where_the_page_says(word: str, files: str) -> None:
    users = {str(path.relative_to(ROOT)) for path in SOURCES if word in path.read_text(encoding="utf-8")}
    assert users == set(re.findall(r"`([^`]+)`", files))
    assert users <= {"mmkd_ros/distribution.py", "mmkd_ros/nodes/distribution.py"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_else_is_in_both_distributions(path: Path) -> None:
    allowed_here = {"rclpy.event_handler", "rclpy.qos_event"} if path.name == "distribution.py" else set()
    unknown = {
        (module, name)
        for module, name in used_names(path)
        if module not in allowed_here and name not in IN_BOTH.get(module, ())
    }
    assert not unknown


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_syntax_is_that_of_humbles_python(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_the_tools_check_for_humbles_python() -> None:
    """mypy knows which names of the standard library Python 3.10 has."""
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'python_version = "3.10"' in settings and 'target-version = "py310"' in settings
    assert 'python_requires=">=3.10"' in (ROOT / "setup.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}),
        ({"ROS_DISTRO": "jazzy"}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}),
        ({"ROS_DISTRO": "humble"}, {"ROS_LOCALHOST_ONLY": "1"}),
        ({"ROS_DISTRO": "humble", "ROS_LOCALHOST_ONLY": "0"}, {"ROS_LOCALHOST_ONLY": "0"}),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}),
    ],
)
def test_each_distribution_keeps_to_this_machine_by_its_own_variable(
    environment: dict[str, str], expected: dict[str, str]
) -> None:
    result = dict(environment)
    keep_local(result)
    assert result == environment | expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "SUBNET"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, "OFF"),
        ({"ROS_LOCALHOST_ONLY": "1"}, "LOCALHOST"),
        ({"ROS_DISTRO": "humble", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "SUBNET"),
        ({"ROS_DISTRO": "humble", "ROS_LOCALHOST_ONLY": "1"}, "LOCALHOST"),
    ],
)
def test_the_discovery_range_is_read_as_the_distribution_reads_it(environment: dict[str, str], expected: str) -> None:
    assert discovery_range(environment) == expected


def test_packages_are_named_for_the_distribution_that_is_sourced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert (distribution(), apt_package("vision_msgs")) == ("humble", "ros-humble-vision-msgs")
    monkeypatch.delenv("ROS_DISTRO")
    assert apt_package("cv_bridge") == "ros-jazzy-cv-bridge"
