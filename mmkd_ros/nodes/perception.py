"""``mmkd-perception``: the nodes of ``launch/perception.launch.py``, each its own process, without ``ros2 launch``."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import FrameType

from mmkd_ros import completion
from mmkd_ros.own_ports import OWN_PORTS
from mmkd_ros.processes import ros_environment, start_node, stop_nodes
from mmkd_ros.rigs import RigError, system_nodes
from mmkd_ros.share import share_path
from mmkd_ros.wiring import NodePlan, PerceptionOptions

_POLL_S = 0.05
_RESPAWN_DELAY_S = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the nodes and stay until a signal comes or a node ends.

    Returns:
        The exit code: 0 after SIGINT, SIGTERM or SIGHUP, 2 for options that do not fit, else that of the node that
        ended (128 + n when signal n killed it).
    """
    parser = build_parser()
    completion.answer(parser)
    options = PerceptionOptions(**vars(parser.parse_args(arguments)))
    try:
        params_file = Path(options.params_file or share_path("config/perception.yaml"))
        plans = system_nodes(options)
    except (FileNotFoundError, RigError) as error:
        return _refuse(str(error))
    if not params_file.is_file():
        return _refuse(f"there is no parameter file {params_file}; correct --params-file.")

    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, note)
    return _Supervisor(options, plans, params_file).run(received)


class _Supervisor:
    """The running nodes, one process each."""

    def __init__(self, options: PerceptionOptions, plans: Sequence[NodePlan], params_file: Path) -> None:
        self._options = options
        self._params_file = params_file
        self._plans = plans
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._due: dict[str, float] = {}  # when a node that ended is started again, on the monotonic clock

    def run(self, received: Sequence[int]) -> int:
        """Supervise until ``received`` holds a signal or a node ends; returns the exit code."""
        try:
            for plan in self._plans:
                self._start(plan)
            while not received:
                for plan in self._plans:
                    code = self._check(plan)
                    if code is not None:
                        return code
                time.sleep(_POLL_S)
            return 0
        except OSError as error:
            _say(f"a node could not be started: {error}")
            return 1
        finally:
            stop_nodes(list(self._processes.values()))

    def _check(self, plan: NodePlan) -> int | None:
        """Look after one node; an exit code when the system must end with it."""
        if plan.label in self._due:
            if time.monotonic() >= self._due[plan.label]:
                del self._due[plan.label]
                self._start(plan)
            return None
        code = self._processes[plan.label].poll()
        if code is None:
            return None
        if self._options.respawn and not plan.ends_all:
            _say(f"{plan.label} ended with code {code}; it starts again.")
            self._due[plan.label] = time.monotonic() + _RESPAWN_DELAY_S
            return None
        _say(f"{plan.label} {'is done' if code == 0 else f'ended with code {code}'}; ending the other nodes.")
        return code if code >= 0 else 128 - code

    def _start(self, plan: NodePlan) -> None:
        restart = {OWN_PORTS: "1"} if plan.label in self._processes else {}
        self._processes[plan.label] = start_node(
            plan.name,
            namespace=plan.namespace,
            params_file=self._params_file,
            parameters=plan.parameters,
            remaps=plan.remaps,
            log_level=self._options.log_level,
            environment=ros_environment() | restart,
        )
        _say(f"{plan.label} started (process {self._processes[plan.label].pid})")


def build_parser() -> argparse.ArgumentParser:
    """The options of the command: the fields of ``PerceptionOptions``."""
    parser = argparse.ArgumentParser(
        prog="mmkd-perception", description="Detect and track objects in an RGB and a thermal image stream."
    )
    for item in fields(PerceptionOptions):
        flag, text = f"--{item.name.replace('_', '-')}", item.metadata["description"]
        if isinstance(item.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=item.default, help=text)
        else:
            choices = item.metadata["choices"] or None
            parser.add_argument(flag, default=item.default, choices=choices, help=text)
    return parser


def _refuse(sentence: str) -> int:
    _say(sentence)
    return 2


def _say(sentence: str) -> None:
    print(f"mmkd-perception: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
