"""ROS domains for one run each: no two at a time, free again afterwards, and a sentence when there is none."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from mmkd_train import ros_domain
from mmkd_train.errors import UserError
from mmkd_train.ros_domain import DOMAINS, own_domain

TAKE_AND_DIE = """
import itertools, os, sys
from mmkd_train import ros_domain
ros_domain._turn = itertools.count(int(sys.argv[1]))
with ros_domain.own_domain() as domain:
    print(domain, flush=True)
    sys.stdin.readline()
    os._exit(9)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of this test alone, here and in child processes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_each_id_is_given_once_and_again_when_it_is_free() -> None:
    with ExitStack() as runs:
        taken = [runs.enter_context(own_domain()) for _ in DOMAINS]
        assert sorted(taken) == list(DOMAINS)
        with pytest.raises(UserError, match="No ROS domain id is free: all of 1 to 101"), own_domain():
            pytest.fail("there was none left")
    with own_domain() as again:
        assert again in DOMAINS


def test_another_process_keeps_its_id_until_it_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", TAKE_AND_DIE, "41"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        theirs = int(other.stdout.readline())
        monkeypatch.setattr(ros_domain, "_turn", iter([41, 41, 42]))
        with own_domain() as ours:
            assert ours == theirs + 1
        other.stdin.write("\n")
    assert other.returncode == 9
    monkeypatch.setattr(ros_domain, "_turn", iter([41]))
    with own_domain() as ours:
        assert ours == theirs


def test_the_robots_id_and_files_of_others_are_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ros_domain, "_turn", iter([0, 1, 2]))
    (folder / "mmkd_ros_domain_2.lock").symlink_to(folder / "somewhere")
    with own_domain(avoid="1") as domain:
        assert domain == 3
    assert not (folder / "somewhere").exists()
