"""SIGINT before a node runs: its process ends at once, without the traceback of an import. No ROS import.

In: the command line of the process. Out: a handler, in node processes alone. ``shutdown.until_signal`` takes over as
soon as there is something to put in order. What is imported here comes before the handler, hence so little; the first
hundredths of a second, in which Python itself starts, are out of reach.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # without typing, which takes a while to import
    from collections.abc import Sequence
    from types import FrameType

PROGRAMS = (
    "detection_node",
    "tracker_node",
    "overlay_node",
    "replay_node",
    "recorder_node",
    "composed_node",
    "perception",
)
"""Modules of this package that run until a signal comes."""

_PACKAGE = "mmkd_ros.nodes."
_running = False


def is_node_process(command: Sequence[str]) -> bool:
    """Whether a command line runs one of the programs, as ``python -m`` or as an installed script.

    Args:
        command: such as ``sys.orig_argv``: the interpreter, its options, the program, its arguments.
    """
    for position, word in enumerate(command[1:], 1):
        if word == "-m":
            module = "".join(command[position + 1 : position + 2])
            return module.startswith(_PACKAGE) and module.removeprefix(_PACKAGE) in PROGRAMS
        if not word.startswith("-"):
            return word.rpartition("/")[2].removeprefix("mmkd-") in PROGRAMS
    return False


def end_while_importing() -> None:
    """Install the handler where this process is a node and SIGINT is not ignored, as it is under ``nohup``."""
    if is_node_process(sys.orig_argv) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, handle)


def handle(_number: int, _frame: FrameType | None) -> None:
    """End the process with code 0 while nothing runs, else raise.

    Raises:
        KeyboardInterrupt: after ``now_running``.
    """
    if not _running:
        os._exit(0)
    raise KeyboardInterrupt


def now_running() -> None:
    """From now on a signal must end the node in good order."""
    global _running
    _running = True
