"""What the documents tell the reader to type exists: commands, flags, launch arguments, node parameters, files.

Nothing is run. A line with ``...`` in it, and a command inside a sentence, may leave out what is required.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from mmkd_ros.doctor.__main__ import build_parser as doctor_parser
from mmkd_ros.parameters import NODE_PARAMETERS, build, known_parameters, specifications
from mmkd_ros.processes import NODES
from mmkd_ros.rigs import load_rig
from mmkd_ros.wiring import PerceptionOptions
from mmkd_train.__main__ import COMMANDS
from mmkd_train.__main__ import build_parser as command_parser

from .test_docs import PAGES, ROOT, name

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
PARAMETERS = {node: {spec.name for spec in specifications(kind)} for node, kind in NODE_PARAMETERS.items()}
PROGRAMS = ("python", "python3", "torchrun", "mmkd-", "ros2", "make", "pip", "pytest", "export")
STANDARD_PARAMETERS = {"use_sim_time"}
# Look like a parameter of a group, and are a file and an attribute.
NO_PARAMETERS = {"registration.yaml", "tracker.dropped"}


class Wrong(Exception):
    """A line of a document does not fit the code."""


# --- what the documents say


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks in one of these languages."""
    return [body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def lines_to_type(page: Path) -> list[str]:
    """Lines of shell blocks, fenced or indented, put together where a backslash continues them."""
    text = page.read_text(encoding="utf-8")
    indented = re.findall(r"^    (\S.*)$", FENCE.sub("", text), re.MULTILINE)
    joined = "\n".join([*blocks(page, "bash", "sh", "console"), *indented])
    return re.sub(r"\\\n\s*", " ", joined).splitlines()


def spans(page: Path) -> list[str]:
    """The code spans of the sentences."""
    return [
        " ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))
    ]


def commands(line: str) -> Iterator[list[str]]:
    """The words of every command of a line that starts one of the programs; ``[optional]`` parts count."""
    line = re.sub(r"\$\([^)]*\)", "X", line)
    for part in re.split(r"&&|\|\||[|;]", re.sub(r"\[(-[^\]]*)\]", r"\1", line)):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:
            continue
        while words and (words[0] in ("sudo", "$") or re.match(r"[A-Z_]+=", words[0])):
            words = words[1:]
        if words:
            words[0] = words[0].rpartition("/")[2]
            if words[0].startswith(PROGRAMS):
                yield words


# --- what the code knows


@cache
def launch_arguments(file: str) -> set[str]:
    source = (ROOT / "launch" / file).read_text(encoding="utf-8")
    declared = re.findall(r"DeclareLaunchArgument\(\s*\"(\w+)\"", source)
    options = {item.name for item in fields(PerceptionOptions)} if "PerceptionOptions" in source else set()
    included = {name for name in re.findall(r"\"([\w.]+\.launch\.py)\"", source) if name != file}
    return {*declared, *options}.union(*(launch_arguments(name) for name in included))


def all_launch_arguments() -> set[str]:
    return {argument for path in (ROOT / "launch").glob("*.launch.py") for argument in launch_arguments(path.name)}


@cache
def make_words() -> tuple[set[str], set[str]]:
    """Targets and variables of the Makefile."""
    text = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^(\w+):(?!=)", text, re.MULTILINE)), set(re.findall(r"^(\w+) \?=", text, re.MULTILINE))


def perception_parser() -> argparse.ArgumentParser:
    from mmkd_ros.nodes.perception import build_parser

    return build_parser()


# --- the comparison


def parse(parser: argparse.ArgumentParser, words: list[str], whole: bool) -> None:
    def refuse(message: str) -> NoReturn:
        raise Wrong(message)

    if not whole:
        known = parser._option_string_actions
        for flag in (word.partition("=")[0] for word in words if re.match(r"--\w", word)):
            if flag not in known:
                raise Wrong(f"there is no {flag}")
        return
    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_intermixed_args(words)


def check_train(words: list[str], whole: bool) -> None:
    if not words or words[0] in ("COMMAND", "X", "--help"):
        return
    if words[0] not in COMMANDS:
        raise Wrong(f"there is no command {words[0]}")
    parse(command_parser(words[0]), words[1:], whole)


def check_module(words: list[str], whole: bool) -> None:
    """The words after ``-m``."""
    if words[0] == "mmkd_train":
        check_train(words[1:], whole)
    elif words[0] == "mmkd_ros.doctor":
        parse(doctor_parser(), words[1:], whole)
    elif words[0].startswith("mmkd_"):
        path = ROOT / words[0].replace(".", "/")
        if not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file():
            raise Wrong(f"there is no module {words[0]}")


def check_python(words: list[str], whole: bool) -> None:
    if "-m" in words:
        check_module(words[words.index("-m") + 1 :], whole)


def check_ros2(words: list[str], whole: bool) -> None:
    assigned = [word.partition(":=")[0] for word in words if ":=" in word]
    if words[1:3] == ["launch", "mmkd_ros"] and len(words) > 3:
        if not (ROOT / "launch" / words[3]).is_file():
            raise Wrong(f"there is no launch file {words[3]}")
        unknown = {argument for argument in assigned if argument not in launch_arguments(words[3])}
        if unknown:
            raise Wrong(f"{words[3]} has no argument {', '.join(sorted(unknown))}")
    elif words[1:3] == ["run", "mmkd_ros"] and len(words) > 3:
        if words[3] not in {*NODES, "mmkd-perception", "mmkd-doctor"}:
            raise Wrong(f"there is no node {words[3]}")
        given = {word.partition(":=")[0] for flag, word in zip(words, words[1:], strict=False) if flag == "-p"}
        if words[3] in PARAMETERS and given - PARAMETERS[words[3]] - STANDARD_PARAMETERS:
            raise Wrong(f"{words[3]} has no parameter {', '.join(sorted(given - PARAMETERS[words[3]]))}")
    elif words[1:2] == ["param"] and len(words) > 4:
        node = words[3].rpartition("/")[2]
        if node in PARAMETERS and words[4] not in PARAMETERS[node] | STANDARD_PARAMETERS:
            raise Wrong(f"{node} has no parameter {words[4]}")


def check_make(words: list[str], whole: bool) -> None:
    targets, variables = make_words()
    for word in words[1:]:
        variable, is_variable, _ = word.partition("=")
        if word not in (targets | {"..."}) and not (is_variable and variable in variables):
            raise Wrong(f"the Makefile has no {variable}")


def check_files(words: list[str], whole: bool) -> None:
    for word in words[1:]:
        # Below src/mmkd_ros, where the line is typed in the workspace.
        path = word.removeprefix("src/mmkd_ros/").partition("::")[0]
        if path.startswith(("requirements/", "test/")) and not (ROOT / path).exists():
            raise Wrong(f"there is no {path}")


CHECKS: dict[str, Callable[[list[str], bool], None]] = {
    "python": check_python,
    "python3": check_python,
    "torchrun": check_python,
    "mmkd-doctor": lambda words, whole: parse(doctor_parser(), words[1:], whole),
    "mmkd-perception": lambda words, whole: parse(perception_parser(), words[1:], whole),
    "ros2": check_ros2,
    "make": check_make,
    "pip": check_files,
    "pytest": check_files,
}


def check_line(line: str, whole: bool = True) -> str:
    """What is wrong with a line; empty if nothing is."""
    for words in commands(line):
        try:
            CHECKS.get(words[0], lambda *_: None)(words, whole and "..." not in line and "…" not in line)
        except Wrong as error:
            return f"{line.strip()}: {error}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_in_a_block_fits(page: Path) -> None:
    assert [finding for line in lines_to_type(page) if (finding := check_line(line))] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_in_a_sentence_fits(page: Path) -> None:
    assert [finding for span in spans(page) if (finding := check_line(span, whole=False))] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_parameter_in_a_sentence_exists(page: Path) -> None:
    known = set().union(*PARAMETERS.values())
    groups = {parameter.partition(".")[0] for parameter in known if "." in parameter}
    named = {span for span in spans(page) if re.fullmatch(rf"(?:{'|'.join(groups)})\.\w+", span)}
    arguments = {found[1] for span in spans(page) if (found := re.fullmatch(r"(\w+):=\S*", span))}
    assert named - known - NO_PARAMETERS == set()
    assert arguments - all_launch_arguments() - known == set()


def nodes_of(key: str) -> list[str]:
    """The nodes that a key of a parameter file addresses; ``/**`` means all."""
    last = key.rpartition("/")[2]
    return list(NODE_PARAMETERS) if last == "**" else [last] if last in NODE_PARAMETERS else []


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_parameter_in_a_yaml_example_exists_and_fits(page: Path) -> None:
    for block in blocks(page, "yaml", "yml"):
        loaded = yaml.safe_load(block)
        for key, content in loaded.items() if isinstance(loaded, dict) else ():
            if not isinstance(content, dict) or "ros__parameters" not in content:
                continue
            given = dict(flat(content["ros__parameters"]))
            known = {node: known_parameters(NODE_PARAMETERS[node], given) for node in nodes_of(key)}
            assert set(given) - set().union(*known.values()) - STANDARD_PARAMETERS == set(), key
            for node, names in known.items():
                build(NODE_PARAMETERS[node], {name: given[name] for name in given if name in names})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_rig_in_a_yaml_example_is_accepted(page: Path, tmp_path: Path) -> None:
    rigs = [block for block in blocks(page, "yaml", "yml") if re.search("^heads:", block, re.MULTILINE)]
    for number, block in enumerate(rigs):
        (tmp_path / f"{number}.yaml").write_text(block)
        assert load_rig(tmp_path / f"{number}.yaml")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_examples_are_python(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        (".venv/bin/python -m mmkd_train make-bag --sequence DIR --fps 10 --output my.mcap  # fine", ""),
        ("python -m mmkd_train make-bag --sequence DIR", "the following arguments are required: --fps, --output"),
        ("python -m mmkd_train make-bag ... --fsp 10", "there is no --fsp"),
        ("cd x && python -m mmkd_train make-bags", "there is no command make-bags"),
        ("torchrun --nproc_per_node 4 -m mmkd_train distill ... --resum", "there is no --resum"),
        ("mmkd-doctor --rgb /a --colour", "unrecognized arguments: --colour"),
        ("mmkd-perception --log-level loud", "invalid choice: 'loud'"),
        ("ros2 launch mmkd_ros perception.launch.py rgb:=/a", "has no argument rgb"),
        ("ros2 launch mmkd_ros rig.launch.py rig:=r.yaml device:=cpu", ""),
        ("ros2 run mmkd_ros tracker_node --ros-args -p slop:=0.1", "tracker_node has no parameter slop"),
        ("ros2 param get /detection_node slop_s", "detection_node has no parameter slop_s"),
        ("make demo BAGS=x", "the Makefile has no BAGS"),
        ("pip install --no-deps -r requirements/none.txt", "there is no requirements/none.txt"),
    ],
)
def test_the_check_itself_sees(line: str, finding: str) -> None:
    found = check_line(line)
    assert finding in found if finding else found == ""
