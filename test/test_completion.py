"""Completion by the Tab key: the real programs answer as the shell asks, and start nothing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = {
    "train": ["-m", "mmkd_train"],
    "perception": ["-m", "mmkd_ros.nodes.perception"],
    "doctor": ["-m", "mmkd_ros.doctor"],
}
needs_argcomplete = pytest.mark.skipif(
    importlib.util.find_spec("argcomplete") is None, reason="needs argcomplete (requirements/completion.txt)"
)


def ask(program: list[str], typed: str, answers: Path) -> subprocess.CompletedProcess[str]:
    """Start a program as argcomplete's shell code does after ``typed`` and Tab; the answers go to a file."""
    line = f"python {' '.join(program)} {typed}"
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "3",  # python, -m and the module stand before the options
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answers),
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    command = [sys.executable, *program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@needs_argcomplete
@pytest.mark.parametrize(
    ("program", "typed", "expected"),
    [
        ("train", "tra", {"train", "track", "track-eval"}),
        ("train", "make-bag --f", {"--fps"}),
        ("train", "convert --dataset m", {"m3fd", "msrs"}),
        ("perception", "--log-level ", {"debug", "info", "warn", "error", "fatal"}),
        ("perception", "--rgb", {"--rgb-topic"}),
        ("doctor", "--image-reliability r", {"reliable"}),
        ("doctor", "--j", {"--json"}),
    ],
)
def test_the_shell_gets_its_answer(tmp_path: Path, program: str, typed: str, expected: set[str]) -> None:
    answers = tmp_path / "answers"
    done = ask(PROGRAMS[program], typed, answers)
    assert done.returncode == 0, done.stderr
    assert {word.strip() for word in answers.read_text().split("\n")} == expected
    assert done.stdout == "", "nothing was run"


@pytest.mark.parametrize("program", PROGRAMS)
def test_without_argcomplete_nothing_starts_either(tmp_path: Path, program: str) -> None:
    hide = (
        "import importlib.util as u; find = u.find_spec; u.find_spec = lambda n: n != 'argcomplete' and find(n) or None"
    )
    start = (
        f"import runpy, sys; {hide}; sys.argv[:] = ['x']; runpy.run_module({PROGRAMS[program][1]!r}, None, '__main__')"
    )
    done = ask(["-c", start], "", tmp_path / "answers")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.parametrize(
    "module", ["mmkd_train/__main__.py", "mmkd_ros/nodes/perception.py", "mmkd_ros/doctor/__main__.py"]
)
def test_the_marker_is_where_argcomplete_looks(repo_root: Path, module: str) -> None:
    assert "PYTHON_ARGCOMPLETE_OK" in (repo_root / module).read_text()[:1024]
