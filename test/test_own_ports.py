"""Ports of a node that may be a restart: an id that nobody has, in a copy of the shipped profile alone."""

from __future__ import annotations

import socket
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from mmkd_ros import own_ports
from mmkd_ros.distribution import PROFILE
from mmkd_ros.own_ports import OWN_PORTS, free_participant, ports, used_ports, with_own_ports, with_participant

SCHEMA = "{http://www.eprosima.com}"


@pytest.fixture
def environment(repo_root: Path, ros_domain: int) -> dict[str, str]:
    """As a supervisor makes it for a restart."""
    profile = repo_root / "config" / "fastdds_shm.xml"
    return {PROFILE: str(profile), "ROS_DOMAIN_ID": str(ros_domain), OWN_PORTS: "1"}


@pytest.fixture
def remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the shared memory of Fast DDS."""
    monkeypatch.setattr(own_ports, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(own_ports.os, "getpid", lambda: 16)  # the first id that is looked at
    return tmp_path


def participant(profile: str) -> int:
    """The id in a profile's text."""
    rtps = ElementTree.fromstring(profile).find(f".//{SCHEMA}participant/{SCHEMA}rtps")  # noqa: S314 - our own
    assert rtps is not None
    (found,) = rtps.findall(f"{SCHEMA}participantID")
    return int(found.text or "")


def test_the_ports_are_those_of_the_specification() -> None:
    assert ports(0, 0) == (7410, 7411) and ports(61, 20) == (7400 + 250 * 61 + 50, 7400 + 250 * 61 + 51)


def test_the_profile_gets_an_id_and_keeps_all_else(environment: dict[str, str], repo_root: Path) -> None:
    made = with_own_ports(environment)
    assert made.keys() == environment.keys() and made[PROFILE] != environment[PROFILE]
    text = Path(made[PROFILE]).read_text()
    assert 16 <= participant(text) <= 31
    shipped = (repo_root / "config" / "fastdds_shm.xml").read_text()
    assert text == with_participant(shipped, participant(text)) != shipped


def test_an_id_whose_ports_are_in_use_is_passed_over(remains: Path, ros_domain: int) -> None:
    assert free_participant(ros_domain) == 16
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", ports(ros_domain, 16)[1]))
        assert ports(ros_domain, 16)[1] in used_ports()
        assert free_participant(ros_domain) == 17


def test_an_id_of_a_dead_process_is_the_last_choice(remains: Path, ros_domain: int) -> None:
    (remains / f"fastrtps_port{ports(ros_domain, 16)[0]}").touch()
    (remains / f"fastrtps_port{ports(ros_domain, 17)[1]}").touch()
    assert free_participant(ros_domain) == 18
    for number in range(18, 32):
        (remains / f"fastrtps_port{ports(ros_domain, number)[0]}").touch()
    assert free_participant(ros_domain) == 16


@pytest.mark.parametrize(
    "change",
    [
        {OWN_PORTS: ""},
        {PROFILE: "/etc/own_profile.xml"},
        {PROFILE: ""},
        {"FASTDDS_DEFAULT_PROFILES_FILE": "/etc/own_profile.xml"},
        {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
        {"ROS_DOMAIN_ID": "the robot's"},
    ],
)
def test_what_the_user_has_chosen_stays(environment: dict[str, str], change: dict[str, str]) -> None:
    chosen = environment | change
    assert with_own_ports(chosen) == chosen


def test_a_system_that_tells_nothing_and_no_free_id_change_nothing(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_ports.tempfile, "tempdir", "/dev/null")
    assert with_own_ports(environment) == environment
    monkeypatch.setattr(own_ports, "used_ports", lambda: set(range(65536)))
    assert with_own_ports(environment) == environment

    def refused() -> set[int]:
        raise OSError

    monkeypatch.setattr(own_ports, "used_ports", refused)
    assert with_own_ports(environment) == environment
