"""The way a node without a life cycle begins and ends: the recorder and the replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import rclpy
from rclpy.node import Node

from mmkd_ros.bags import BagError
from mmkd_ros.nodes.shutdown import ignore_signals, until_signal
from mmkd_ros.nodes.start import init_ros
from mmkd_ros.parameters import ParameterError

N = TypeVar("N", bound=Node)


def run_tool(
    name: str,
    make_node: Callable[[], N],
    work: Callable[[N], None],
    finish: Callable[[N], None] | None = None,
    args: list[str] | None = None,
) -> int:
    """Run a node without a life cycle: make it, work to the end or to a signal, finish, and clear up.

    Args:
        name: for the log.
        make_node: makes the node.
        work: what it does.
        finish: called after the work, however it ended.
        args: command line, as for ``rclpy.init``.

    Returns:
        The exit code: 0; 1 with a logged sentence when a recording or a parameter is not as it must be.
    """
    init_ros(args)
    node: N | None = None
    try:
        with until_signal():
            node = make_node()
            work(node)
        if node is not None and finish is not None:
            finish(node)
    except (BagError, ParameterError, OSError) as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        ignore_signals()  # rclpy has put the former handlers back
    return 0
