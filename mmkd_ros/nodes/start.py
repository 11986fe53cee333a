"""The begin of a node process."""

from __future__ import annotations

import os
import sys

import rclpy
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger

from mmkd_ros.own_ports import with_own_ports


def init_ros(args: list[str] | None = None) -> None:
    """``rclpy.init``, on DDS ports of its own where the process may be a restart (``own_ports``).

    It works also where no log file can be made (a read-only disk, no home): the log then goes to the console and to
    /rosout alone, which it says.

    Args:
        args: command line; that of the process by default.

    Raises:
        RCLError: arguments that ROS cannot read, or no middleware.
    """
    os.environ.update(with_own_ports(os.environ))
    try:
        rclpy.init(args=args)
    except rclpy_implementation.RCLError as error:
        if "logging" not in str(error):
            raise
        rclpy.try_shutdown()
        rclpy.init(args=[*(sys.argv if args is None else args), "--ros-args", "--disable-external-lib-logs"])
        get_logger("mmkd_ros").warning(
            f"The log is written to no file ({error}); set ROS_LOG_DIR to a folder that can be written to."
        )
