"""Completion of command lines by the Tab key, with argcomplete, which is optional. No ROS import.

The shell starts the program with ``_ARGCOMPLETE`` in its environment and reads the answers from a descriptor of its
own; docs/installation.md says how to switch that on.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys


def is_asked() -> bool:
    """Whether the shell started this process to learn how a command line may go on."""
    return "_ARGCOMPLETE" in os.environ


def answer(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and end the process, where it has asked; else do nothing.

    Call it before anything is started or written: a press of Tab must not start the nodes.
    """
    if not is_asked():
        return
    if importlib.util.find_spec("argcomplete") is None:
        sys.exit(1)
    import argcomplete

    argcomplete.autocomplete(parser)
