"""``python -m mmkd_train COMMAND``: one table of commands, each a module with HELP, add_arguments and run."""

from __future__ import annotations

import argparse
import importlib
import sys

from mmkd_train.errors import UserError

# command -> module; only the chosen one is imported, so that `track` does not wait for torch.
COMMANDS = {
    "teacher": "mmkd_train.train",
    "train": "mmkd_train.train",
    "distill": "mmkd_train.distill",
    "ablate": "mmkd_train.ablate",
    "evaluate": "mmkd_train.evaluate",
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
    "demo": "mmkd_train.demo",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 2 something that the user can put right, else the command's own.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: python -m mmkd_train {{{','.join(COMMANDS)}}} ...\nAdd --help to a command to see its options.")
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        print(f"mmkd_train: unknown command '{command}'; choose one of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[command])
    parser = argparse.ArgumentParser(prog=f"python -m mmkd_train {command}", description=module.HELP)
    module.add_arguments(parser)
    try:
        return int(module.run(parser.parse_args(rest)))
    except UserError as error:
        print(f"mmkd_train {command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
