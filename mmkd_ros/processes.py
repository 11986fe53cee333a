"""Nodes as child processes: the environment they need and how they are started and stopped. No ROS import.

``mmkd-perception`` and the demo start nodes this way; with a ROS distribution, ``ros2 launch`` does it instead.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from mmkd_ros.distribution import PROFILE, keep_local
from mmkd_ros.share import share_path

COMPOSED = "composed_node"
"""Detection and tracker node in one process."""

NODES = ("detection_node", "tracker_node", "overlay_node", "replay_node", "recorder_node", COMPOSED)

ParameterValue = bool | int | float | str | Sequence[bool] | Sequence[int] | Sequence[float] | Sequence[str]


def ros_environment(base: Mapping[str, str] | None = None, *, local_only: bool = False) -> dict[str, str]:
    """The environment for a process that uses ROS; what the user has set stays.

    - ``AMENT_PREFIX_PATH``: the virtual environment's root, where ROS packages were installed into it by pip (nothing
      else sets it there, and look-ups of package shares need it).
    - ``FASTRTPS_DEFAULT_PROFILES_FILE``: ``config/fastdds_shm.xml``, whose shared-memory segment holds several camera
      images; with the default one Fast DDS loses about half of them.
    - the variable by which the distribution keeps to this machine, with ``local_only``.

    Args:
        base: variables to start from; the process's own by default.
        local_only: keep away from the other machines of the network, as the demo and the tests do.

    Returns:
        A new dict, for ``subprocess`` or ``os.environ.update``.
    """
    environment = dict(os.environ if base is None else base)
    if not environment.get("AMENT_PREFIX_PATH") and (Path(sys.prefix) / "share" / "ament_index").is_dir():
        environment["AMENT_PREFIX_PATH"] = sys.prefix
    if not environment.get(PROFILE):
        environment[PROFILE] = str(share_path("config/fastdds_shm.xml"))
    if local_only:
        keep_local(environment)
    return environment


def node_command(
    name: str,
    *,
    namespace: str = "",
    params_file: str | Path | None = None,
    parameters: Mapping[str, ParameterValue] | None = None,
    remaps: Mapping[str, str] | None = None,
    log_level: str = "",
) -> list[str]:
    """The command line of one node: ``python -m mmkd_ros.nodes.NAME --ros-args ...``.

    Args:
        name: one of ``NODES``.
        namespace: of the node; empty for the root.
        params_file: a ROS parameter file.
        parameters: single parameters; they win over the file.
        remaps: topic names, from -> to.
        log_level: debug, info, warn, error or fatal; empty for the default.

    Raises:
        ValueError: an unknown node.
    """
    if name not in NODES:
        raise ValueError(f"There is no node '{name}'; choose one of {', '.join(NODES)}.")
    arguments: list[str] = []
    if namespace:
        arguments += ["-r", f"__ns:=/{namespace.strip('/')}"]
    for source, target in (remaps or {}).items():
        arguments += ["-r", f"{source}:={target}"]
    if params_file is not None:
        arguments += ["--params-file", str(params_file)]
    for key, value in (parameters or {}).items():
        # JSON is YAML with the quotes in place, so that the string "12" or "on" stays a string.
        arguments += ["-p", f"{key}:={json.dumps(value, ensure_ascii=False)}"]
    if log_level:
        arguments += ["--log-level", log_level]
    return [sys.executable, "-m", f"mmkd_ros.nodes.{name}", *(["--ros-args", *arguments] if arguments else [])]


def start_node(
    name: str,
    *,
    namespace: str = "",
    params_file: str | Path | None = None,
    parameters: Mapping[str, ParameterValue] | None = None,
    remaps: Mapping[str, str] | None = None,
    log_level: str = "",
    environment: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start one node in a process of its own; the arguments are those of `node_command`.

    The child is a session of its own: a Ctrl-C in the terminal reaches the parent alone, which ends its nodes with
    `stop_nodes`. Otherwise each node would get the signal twice, and the second one would break its orderly end.

    Args:
        environment: of the child; `ros_environment` by default.
        stdout: as in ``subprocess.Popen``.
        stderr: as in ``subprocess.Popen``.

    Raises:
        ValueError: an unknown node.
        OSError: the process cannot be started.
    """
    command = node_command(
        name, namespace=namespace, params_file=params_file, parameters=parameters, remaps=remaps, log_level=log_level
    )
    return subprocess.Popen(  # noqa: S603 (a list of arguments, no shell)
        command,
        env=dict(ros_environment() if environment is None else environment),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def stop_nodes(processes: Sequence[subprocess.Popen[bytes]], grace: float = 5.0) -> list[int]:
    """End nodes: SIGINT, after ``grace`` seconds SIGTERM, after as long again SIGKILL.

    Args:
        processes: of `start_node`; those that have ended already are left alone.
        grace: seconds for all of them together, per signal.

    Returns:
        The exit codes in the order of ``processes``, negative where a signal ended one.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline and any(process.poll() is None for process in processes):
            time.sleep(0.02)
    return [process.wait() for process in processes]
