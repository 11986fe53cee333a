"""Ports of a node that is started again: an id that nobody has, in a copy of the shipped profile alone."""

from __future__ import annotations

import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmkd_ros import restart_ports
from mmkd_ros.restart_ports import PROFILE, RestartPorts, ports, used_ports, with_participant

SCHEMA = "{http://www.eprosima.com}"


@pytest.fixture
def made() -> Iterator[RestartPorts]:
    restart = RestartPorts()
    yield restart
    restart.close()


@pytest.fixture
def environment(repo_root: Path, ros_domain: int) -> dict[str, str]:
    """As `ros_environment` makes it."""
    return {PROFILE: str(repo_root / "config" / "fastdds_shm.xml"), "ROS_DOMAIN_ID": str(ros_domain)}


def participant(profile: str) -> int:
    """The id in a profile's text."""
    rtps = ElementTree.fromstring(profile).find(f".//{SCHEMA}participant/{SCHEMA}rtps")  # noqa: S314 - our own
    assert rtps is not None
    (found,) = rtps.findall(f"{SCHEMA}participantID")
    return int(found.text or "")


def test_the_ports_are_those_of_the_specification() -> None:
    assert ports(0, 0) == (7410, 7411) and ports(61, 20) == (7400 + 250 * 61 + 50, 7400 + 250 * 61 + 51)


def test_each_restart_gets_another_id_and_all_else_of_the_profile(
    made: RestartPorts, environment: dict[str, str], repo_root: Path
) -> None:
    files = [Path(made.environment(environment)[PROFILE]) for _ in range(3)]
    texts = [file.read_text() for file in files]
    assert len({participant(text) for text in texts}) == 3
    shipped = (repo_root / "config" / "fastdds_shm.xml").read_text()
    assert texts[0] == with_participant(shipped, participant(texts[0])) != shipped
    assert made.environment(environment).keys() == environment.keys()
    made.close()
    assert not any(file.exists() for file in files)


def test_an_id_whose_ports_are_in_use_is_passed_over(
    made: RestartPorts, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "_turn", iter([0, 1, 2]))
    domain = int(environment["ROS_DOMAIN_ID"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", ports(domain, 16)[1]))
        assert ports(domain, 16)[1] in used_ports()
        assert participant(Path(made.environment(environment)[PROFILE]).read_text()) == 17


@pytest.mark.parametrize(
    "change",
    [
        {PROFILE: "/etc/own_profile.xml"},
        {PROFILE: ""},
        {"FASTDDS_DEFAULT_PROFILES_FILE": "/etc/own_profile.xml"},
        {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
        {"ROS_DOMAIN_ID": "the robot's"},
    ],
)
def test_what_the_user_has_chosen_stays(
    made: RestartPorts, environment: dict[str, str], change: dict[str, str]
) -> None:
    chosen = environment | change
    assert made.environment(chosen) == chosen


def test_a_disk_that_cannot_be_written_and_no_free_id_change_nothing(
    made: RestartPorts, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart_ports.tempfile, "tempdir", "/dev/null")
    assert made.environment(environment) == environment
    monkeypatch.setattr(restart_ports, "used_ports", lambda: set(range(65536)))
    assert made.environment(environment) == environment
