"""What differs between ROS 2 distributions outside of rclpy: environment variables, names of packages. No ROS import.

In: the environment of a process. What differs within rclpy is in ``mmkd_ros.nodes.distribution``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
LOCALHOST_ONLY = "ROS_LOCALHOST_ONLY"
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"
LATER_PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"
"""The name that Fast DDS 3 reads, of distributions after Jazzy."""

_DEFAULT = "jazzy"


def distribution(environment: Mapping[str, str] | None = None) -> str:
    """Name of the distribution that is sourced, such as ``humble``; ``jazzy`` where none is, as with the wheels.

    Args:
        environment: that of the process by default.
    """
    return (os.environ if environment is None else environment).get("ROS_DISTRO") or _DEFAULT


def keep_local(environment: MutableMapping[str, str]) -> None:
    """Keep processes of this environment away from other machines, unless the user has said how far they may reach.

    Humble reads one variable, later distributions another, and those warn about Humble's.
    """
    if distribution(environment) == "humble":
        environment.setdefault(LOCALHOST_ONLY, "1")
    else:
        environment.setdefault(RANGE, "LOCALHOST")


def discovery_range(environment: Mapping[str, str] | None = None) -> str:
    """How far processes of this environment look for others: SUBNET, LOCALHOST, or what the user has set."""
    environment = os.environ if environment is None else environment
    if environment.get(LOCALHOST_ONLY) == "1":
        return "LOCALHOST"
    if distribution(environment) == "humble":
        return "SUBNET"
    return environment.get(RANGE) or "SUBNET"


def apt_package(name: str) -> str:
    """The Debian package of a ROS package, such as ``ros-jazzy-vision-msgs`` for ``vision_msgs``."""
    return f"ros-{distribution()}-{name.replace('_', '-')}"
