"""``python -m mmkd_train``: the table of commands, and arguments in any order."""

from __future__ import annotations

import argparse
import importlib
from itertools import chain, permutations
from pathlib import Path

import pytest

from mmkd_train.__main__ import COMMANDS, build_parser, main

TAKE_OVERRIDES = {"teacher": ["--resume"], "train": ["--resume"], "distill": ["--resume"], "ablate": ["--jobs", "2"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_parts(command: str) -> None:
    module = importlib.import_module(COMMANDS[command])
    assert module.HELP.strip()
    assert callable(module.run)
    assert build_parser(command).format_help().startswith(f"usage: python -m mmkd_train {command}")


@pytest.mark.parametrize("command", TAKE_OVERRIDES)
def test_overrides_and_options_come_in_any_order(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(importlib.import_module(COMMANDS[command]), "run", lambda args: seen.append(args) or 0)
    for order in permutations([["x.yaml", "a.b=c"], TAKE_OVERRIDES[command], ["seed=1", "c="]]):
        line = list(chain(*order))
        if line.index("x.yaml") > line.index("seed=1"):  # the configuration is the first word that is no option
            continue
        assert main([command, *line]) == 0
        given = seen.pop()
        assert given.config == Path("x.yaml")
        assert given.overrides == ["a.b=c", "seed=1", "c="]
        assert given.jobs == 2 if command == "ablate" else given.resume


def test_all_commands_that_take_overrides_are_tried() -> None:
    takers = {name for name in COMMANDS if any(action.dest == "overrides" for action in build_parser(name)._actions)}
    assert takers == set(TAKE_OVERRIDES)


@pytest.mark.parametrize("line", [["train", "x.yaml", "--colour", "a=1"], ["make-bag", "--fps", "1", "surplus"]])
def test_what_no_command_knows_is_refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(line)
    assert "error: " in capsys.readouterr().err


def test_an_unknown_command_gets_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "unknown command 'trian'; choose one of teacher, train" in capsys.readouterr().err
