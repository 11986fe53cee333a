"""``mmkd-perception``: signals, deaths and restarts, with short scripts in place of the nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

DRIVER = """
import subprocess, sys
from mmkd_ros.nodes import perception

def start_node(name, **options):
    return subprocess.Popen([sys.executable, "-uc", SCRIPTS[name]], start_new_session=True)

SCRIPTS = {scripts!r}
perception.start_node = start_node
sys.exit(perception.main({arguments!r}))
"""
# Writes its process id, and each signal that it gets.
PATIENT = """
import os, pathlib, signal, sys, time
def note(number, frame):
    with open({file!r}, "a") as out:
        out.write(f"{{signal.Signals(number).name}}\\n")
    sys.exit(0)
signal.signal(signal.SIGINT, note)
pathlib.Path({file!r}).write_text(f"{{os.getpid()}}\\n")
time.sleep(60)
"""
DEADLINE_S = 120.0
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    params_file = tmp_path / "perception.yaml"
    params_file.touch()

    def _start(detection: str, *arguments: str) -> subprocess.Popen[str]:
        """``mmkd-perception`` with this script as the detection node and a patient tracker."""
        scripts = {"detection_node": detection, "tracker_node": PATIENT.format(file=str(tmp_path / "tracker"))}
        code = DRIVER.format(scripts=scripts, arguments=["--params-file", str(params_file), *arguments])
        return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)

    return _start


def wait_for(path: Path, lines: int = 1) -> list[str]:
    """The lines of a file once it has so many."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = path.read_text().splitlines() if path.is_file() else []
        if len(found) >= lines:
            return found
        time.sleep(0.02)
    pytest.fail(f"{path.name} did not get {lines} lines")


def is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_in_good_order(start: Start, tmp_path: Path, number: int) -> None:
    system = start(PATIENT.format(file=str(tmp_path / "detection")))
    pids = [wait_for(tmp_path / name)[0] for name in ("detection", "tracker")]
    assert all(map(is_alive, pids))
    system.send_signal(number)
    assert system.wait(DEADLINE_S) == 0
    assert not any(map(is_alive, pids))
    for name in ("detection", "tracker"):
        assert wait_for(tmp_path / name, 2)[1:] == ["SIGINT"], "each node gets one SIGINT, whatever ended the system"


def waits_for_tracker(tmp_path: Path, then: str) -> str:
    return f"import os, time\nwhile not os.path.exists({str(tmp_path / 'tracker')!r}): time.sleep(0.02)\n{then}"


@pytest.mark.parametrize(
    ("then", "code", "sentence"),
    [
        ("raise SystemExit(3)", 3, "detection_node ended with code 3; ending the other nodes."),
        ("os.kill(os.getpid(), 9)", 137, "detection_node ended with code -9; ending the other nodes."),
        ("", 0, "detection_node is done; ending the other nodes."),
    ],
)
def test_the_death_of_one_node_ends_the_rest_with_its_code(
    start: Start, tmp_path: Path, then: str, code: int, sentence: str
) -> None:
    system = start(waits_for_tracker(tmp_path, then))
    _, said = system.communicate(timeout=DEADLINE_S)
    assert system.returncode == code
    assert sentence in said
    assert not is_alive(wait_for(tmp_path / "tracker")[0])


def test_a_node_is_started_again_where_that_is_wanted(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "detection"
    script = waits_for_tracker(tmp_path, f"open({str(log)!r}, 'a').write(f'{{os.getpid()}}\\n')\nraise SystemExit(1)")
    system = start(script, "--respawn")
    first, second = wait_for(log, 2)[:2]
    assert first != second
    assert is_alive(wait_for(tmp_path / "tracker")[0])
    system.send_signal(signal.SIGINT)
    _, said = system.communicate(timeout=DEADLINE_S)
    assert system.returncode == 0
    assert "detection_node ended with code 1; it starts again." in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--params-file", "none.yaml"], "there is no parameter file none.yaml; correct --params-file"),
        (["--log-level", "loud"], "invalid choice: 'loud'"),
        (["--rgb", "/rgb", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "mmkd_ros.nodes.perception", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.requires_ros
def test_the_real_nodes_start_and_end_together(ros_domain: int, tmp_path: Path) -> None:
    # The managed nodes wait for a manager, so that nothing but the replay can end: it has nothing to play.
    options = ["--no-autostart", "--bag", str(tmp_path / "none.mcap")]
    command = [sys.executable, "-m", "mmkd_ros.nodes.perception", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stderr
    assert "replay_node ended with code 1; ending the other nodes." in done.stderr
    assert "none.mcap" in done.stderr
