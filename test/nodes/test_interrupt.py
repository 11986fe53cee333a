"""SIGINT while a node process still imports: no traceback, code 0."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_bench import PATIENCE_S, Child

from mmkd_ros.nodes.interrupt import PROGRAMS, is_node_process
from mmkd_ros.processes import NODES, node_command

SLOW = 'import time\nprint("importing", flush=True)\ntime.sleep(600)\n'
SCRIPT = "import sys\nfrom mmkd_ros.nodes.tracker_node import main\nsys.exit(main())\n"


def commands(folder: Path) -> dict[str, list[str]]:
    """Every node as ``python -m``, the supervisor, and a node as an installed script."""
    script = folder / "tracker_node"
    script.write_text(SCRIPT)
    made = {name: node_command(name) for name in NODES}
    supervisor = [sys.executable, "-m", "mmkd_ros.nodes.perception"]
    return {**made, "perception": supervisor, "script": [sys.executable, str(script)]}


@pytest.fixture
def sigint_is_heard() -> Iterator[None]:
    """A process that a shell runs in the background ignores SIGINT, and so would its children."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def test_every_node_is_known() -> None:
    assert set(PROGRAMS) == {*NODES, "perception"}


@pytest.mark.usefixtures("sigint_is_heard")
@pytest.mark.parametrize("name", [*NODES, "perception", "script"])
def test_sigint_during_an_import_ends_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for slow in ("rclpy", "yaml"):  # the supervisor needs no rclpy
        (tmp_path / "slow" / slow).mkdir(parents=True)
        (tmp_path / "slow" / slow / "__init__.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'slow'}:{Path(__file__).parents[2]}")
    node = Child(commands(tmp_path)[name], tmp_path / "node.log")
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "importing" not in node.log() and node.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "importing" in node.log()
        node.process.send_signal(signal.SIGINT)
        assert node.exit_code() == 0
        assert "Traceback" not in node.log() and "KeyboardInterrupt" not in node.log()
    finally:
        node.process.kill()
        node.process.wait()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -m mmkd_ros.nodes.tracker_node --ros-args -p a:=b", True),
        ("python -u -m mmkd_ros.nodes.perception", True),
        ("python /usr/bin/tracker_node", True),
        ("python /usr/bin/mmkd-perception --respawn", True),
        ("python -m mmkd_ros.nodes.doctor_probe", False),
        ("python -m pytest mmkd_ros.nodes.tracker_node", False),
        ("python my_program.py tracker_node", False),
        ("python -c pass", False),
        ("python", False),
    ],
)
def test_other_programs_that_import_the_nodes_keep_their_handler(command: str, expected: bool) -> None:
    assert is_node_process(command.split()) is expected
