"""The orderly end of a node process on a signal."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation

from mmkd_ros.nodes.interrupt import now_running


@contextmanager
def until_signal() -> Iterator[None]:
    """Run the block to its end or to SIGINT or SIGTERM, which is no error; after it, further signals are ignored."""
    try:
        now_running()
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        return
    except rclpy_implementation.RCLError:
        # A signal that comes between two waits takes the context away under the executor.
        if rclpy.ok():
            raise
    finally:
        ignore_signals()


def ignore_signals() -> None:
    """A second SIGINT, which terminals and launchers send, must not break an orderly end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
