"""``python -m mmkd_train COMMAND``: one table of commands, each a module with HELP, add_arguments and run."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import importlib
import os
import sys

from mmkd_ros import completion
from mmkd_train.errors import UserError

# command -> module; only the chosen one is imported, so that `track` does not wait for torch.
COMMANDS = {
    "teacher": "mmkd_train.train",
    "train": "mmkd_train.train",
    "distill": "mmkd_train.distill",
    "ablate": "mmkd_train.ablate",
    "evaluate": "mmkd_train.evaluate",
    "average": "mmkd_train.average",
    "release": "mmkd_train.release",
    "export": "mmkd_train.export",
    "pretrain": "mmkd_train.pretrain",
    "appearance": "mmkd_train.appearance",
    "convert": "mmkd_train.convert",
    "inspect": "mmkd_train.inspect_set",
    "synthesize": "mmkd_train.data.synthetic",
    "make-bag": "mmkd_train.make_bag",
    "calibrate": "mmkd_train.calibrate",
    "track": "mmkd_train.track_file",
    "track-eval": "mmkd_train.track_eval",
    "benchmark": "mmkd_train.benchmark",
    "soak": "mmkd_train.soak",
    "demo": "mmkd_train.demo",
    "report": "mmkd_train.report",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 2 something that the user can put right, else the command's own.
    """
    if completion.is_asked():
        completion.answer(_completion_parser(os.environ.get("COMP_LINE", "").split()))
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: python -m mmkd_train {{{','.join(COMMANDS)}}} ...\nAdd --help to a command to see its options.")
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        print(f"mmkd_train: unknown command '{command}'; choose one of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    parser = build_parser(command)
    try:
        # Intermixed: options may stand before, between and after the section.name=value words.
        options = parser.parse_intermixed_args(rest)
        return int(importlib.import_module(COMMANDS[command]).run(options))
    except UserError as error:
        print(f"mmkd_train {command}: {error}", file=sys.stderr)
        return 2


def build_parser(command: str) -> argparse.ArgumentParser:
    """The options of one of the COMMANDS."""
    module = importlib.import_module(COMMANDS[command])
    parser = argparse.ArgumentParser(prog=f"python -m mmkd_train {command}", description=module.HELP)
    module.add_arguments(parser)
    return parser


def _completion_parser(words: list[str]) -> argparse.ArgumentParser:
    """All commands as argcomplete wants them, in one parser; only those among the words get their options."""
    parser = argparse.ArgumentParser(prog="python -m mmkd_train")
    commands = parser.add_subparsers()
    for command, module in COMMANDS.items():
        options = commands.add_parser(command)
        if command in words:
            importlib.import_module(module).add_arguments(options)
    return parser


if __name__ == "__main__":
    sys.exit(main())
