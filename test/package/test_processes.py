"""Command lines, environment and orderly end of the node processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mmkd_ros.processes import NODES, node_command, ros_environment, start_node, stop_nodes
from mmkd_ros.share import share_path


def child(code: str) -> subprocess.Popen[bytes]:
    """A Python process that says when it is ready."""
    process = subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_the_command_line_of_a_node() -> None:
    command = node_command(
        "detection_node",
        namespace="/robot/",
        params_file="p.yaml",
        parameters={"device": "cpu", "use_sim_time": True},
        remaps={"detections": "objects"},
        log_level="warn",
    )
    assert command == [
        sys.executable, "-m", "mmkd_ros.nodes.detection_node", "--ros-args",
        "-r", "__ns:=/robot", "-r", "detections:=objects", "--params-file", "p.yaml",
        "-p", 'device:="cpu"', "-p", "use_sim_time:=true", "--log-level", "warn",
    ]  # fmt: skip
    assert node_command("tracker_node") == [sys.executable, "-m", "mmkd_ros.nodes.tracker_node"]


@pytest.mark.parametrize("value", ["12", "on", "", "a: b", "/ö/ü", 'q"q', "~", True, 3, 0.5, [1, 2], ["a"]])
def test_a_parameter_keeps_its_type_and_text(value: object) -> None:
    argument = node_command("detection_node", parameters={"x": value})[-1]  # type: ignore[dict-item]
    parsed = yaml.safe_load(argument.removeprefix("x:="))
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.requires_ros
def test_ros_reads_the_parameters_as_they_were_meant() -> None:
    # rcl's own parser, not PyYAML, has the last word.
    given = {"text": "12", "empty": "", "umlaut": "/ö/ü", "flag": True, "small": 1e-7, "whole": 3, "names": ["a", "on"]}
    arguments = node_command("detection_node", parameters=given)[3:]
    code = (
        "import json, sys, rclpy; from rclpy.node import Node; rclpy.init(args=sys.argv[1:]);"
        "n = Node('detection_node', automatically_declare_parameters_from_overrides=True);"
        f"print(json.dumps({{k: n.get_parameter(k).value for k in {list(given)!r}}})); rclpy.shutdown()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == given


def test_an_unknown_node_is_refused() -> None:
    with pytest.raises(ValueError, match="no node 'detector'; choose one of detection_node"):
        start_node("detector")


def test_the_environment_leaves_the_users_choices_alone() -> None:
    own = {"AMENT_PREFIX_PATH": "/opt/ros", "FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml"}
    assert ros_environment(own) == own
    own["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"
    assert ros_environment(own, local_only=True) == own


def test_the_environment_names_the_profile_and_the_range() -> None:
    made = ros_environment({"FASTRTPS_DEFAULT_PROFILES_FILE": ""}, local_only=True)
    assert Path(made["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
    assert made["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_ros_packages_in_the_virtual_environment_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert "AMENT_PREFIX_PATH" not in ros_environment({})
    (tmp_path / "share" / "ament_index").mkdir(parents=True)
    assert ros_environment({})["AMENT_PREFIX_PATH"] == str(tmp_path)


def test_a_missing_share_file_gets_a_sentence() -> None:
    with pytest.raises(FileNotFoundError, match="'config/none.yaml' is not part of this installation"):
        share_path("config/none.yaml")


def test_nodes_end_by_the_mildest_signal_that_works() -> None:
    polite = child(
        "import signal, sys, time; signal.signal(signal.SIGINT, lambda *a: sys.exit(0)); print('ready'); time.sleep(60)"
    )
    deaf = child(
        "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)];"
        "print('ready'); time.sleep(60)"
    )
    gone = child("print('ready'); raise SystemExit(3)")
    assert gone.wait() == 3
    assert stop_nodes([polite, deaf, gone], grace=0.3) == [0, -signal.SIGKILL, 3]


def test_every_node_has_its_file(repo_root: Path) -> None:
    assert {path.stem for path in (repo_root / "mmkd_ros" / "nodes").glob("*_node.py")} == set(NODES)
