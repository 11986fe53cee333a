"""Replay a recording over DDS through the real nodes, each a process of its own, and record what they publish.

In: a rosbag2 and the options of the system. Out: ``result.mcap``, logs and the last report of the replay. The demo and
the benchmark of the nodes are built on it; the soak shares its environment.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmkd_ros.bags import COMPRESSED_IMAGE, BagTopic
from mmkd_ros.distribution import LOCALHOST_ONLY, RANGE, keep_local
from mmkd_ros.processes import ParameterValue, ros_environment, start_node, stop_nodes
from mmkd_ros.status_file import read_status
from mmkd_ros.wiring import PerceptionOptions, perception_nodes
from mmkd_train.errors import UserError
from mmkd_train.ros_domain import own_domain

_READY_S = 120.0  # a slow machine imports torch and loads the weights in this time
_QUIET_S = 2.5  # the nodes are done when they publish nothing for so long (diagnostics come once a second) ...
_DRAIN_S = 20.0  # ... and are not waited for any longer than this
_POLL_S = 0.1
_LOG_TAIL = 15


def live_topics(topics: tuple[BagTopic, BagTopic]) -> tuple[str, str]:
    """Names under which the RGB and the thermal topic of a recording are played."""
    rgb, thermal = (
        f"/{camera}/image_raw" + ("/compressed" if topic.type == COMPRESSED_IMAGE else "")
        for camera, topic in zip(("rgb", "thermal"), topics, strict=True)
    )
    return rgb, thermal


def replay_through_nodes(
    options: PerceptionOptions,
    bag: Path,
    topics: tuple[BagTopic, BagTopic],
    output: Path,
    rate: float = 1.0,
    domain_id: int | None = None,
    watch: Callable[[Mapping[str, int]], None] | None = None,
) -> dict[str, Any]:
    """Replay the bag through the nodes and record into ``output/result.mcap``.

    Args:
        options: of the system; ``params_file`` is given and the image topics are those of :func:`live_topics`.
        bag: the recording.
        topics: its RGB and thermal topic.
        output: folder of the recording and, in ``logs``, of the nodes' logs and reports.
        rate: speed of the replay.
        domain_id: ROS domain, by default one of its own.
        watch: is called ten times a second while the recording is played, with the process ids of the nodes by name.

    Returns:
        The last report of the replay.

    Raises:
        UserError: a node does not start, dies, or the replay does not come to its end.
    """
    logs = output / "logs"
    reports = {name: logs / f"{name}.json" for name in ("replay", "recorder")}
    for report in reports.values():
        report.unlink(missing_ok=True)
    live = (options.rgb_topic, options.thermal_topic)
    with run_environment(domain_id, logs) as environment, _Nodes(logs, environment) as nodes:
        plans = perception_nodes(options)
        for plan in plans:
            nodes.start(plan.name, params_file=options.params_file, parameters=plan.parameters, remaps=plan.remaps)
        nodes.start(
            "recorder_node",
            parameters={
                "output": str(output / "result.mcap"),
                "overwrite": True,
                "report": str(reports["recorder"]),
                "watch_topics": ",".join(live),
            },
        )
        print("Starting the nodes ...", flush=True)
        if not nodes.wait(lambda: nodes_ready(read_status(reports["recorder"]), live, options.composed), _READY_S):
            raise UserError(nodes.last_words(plans[0].name, f"The nodes are not active after {_READY_S:.0f} s"))
        replay_parameters: dict[str, ParameterValue] = {
            "bag": str(bag),
            "rgb_topic": topics[0].name,
            "thermal_topic": topics[1].name,
            "rgb_out": live[0],
            "thermal_out": live[1],
            "rate": float(rate),
            "restamp": True,
            "wait_for_subscribers_s": 10.0,
            "start_delay_s": 1.0,  # a subscriber may know of the publisher later than the other way round
            "report": str(reports["replay"]),
        }
        nodes.start("replay_node", parameters=replay_parameters)
        _follow(nodes, reports["replay"], reports["recorder"], topics[0].count + topics[1].count, watch)
        nodes.stop(["replay_node", *(plan.name for plan in plans)], grace=10.0)
        nodes.stop(["recorder_node"], grace=20.0)  # last, so that nothing is published unheard
    replay = read_status(reports["replay"])
    if replay.get("state") != "done":
        raise UserError(f"The replay ended before the recording did; see {logs / 'replay_node.log'}.")
    return replay


class _Nodes:
    """The node processes of one run, each with its log file; none of them outlives the ``with`` block."""

    def __init__(self, logs: Path, environment: dict[str, str]) -> None:
        self._logs, self._environment = logs, environment
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, **options: Any) -> None:
        with open(self._logs / f"{name}.log", "wb") as log:
            self._processes[name] = start_node(
                name, environment=self._environment, stdout=log, stderr=subprocess.STDOUT, **options
            )

    @property
    def process_ids(self) -> dict[str, int]:
        """By the name of the node."""
        return {name: process.pid for name, process in self._processes.items()}

    def ended(self, name: str) -> bool:
        return self._processes[name].poll() is not None

    def check(self) -> None:
        """Raise a UserError with the end of its log when a node has died."""
        for name, process in self._processes.items():
            code = process.poll()
            if code is not None and not (code == 0 and name == "replay_node"):
                raise UserError(self.last_words(name, f"{name} ended unexpectedly with code {code}"))

    def last_words(self, name: str, what: str) -> str:
        path = self._logs / f"{name}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL:]
        return "\n".join([f"{what}. Its log {path} ends with:", *(f"  {line}" for line in lines)])

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition while all nodes live; False when it does not come true in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def stop(self, names: list[str], grace: float) -> None:
        """End nodes in an orderly way, and say so where one would not."""
        codes = stop_nodes([self._processes[name] for name in names], grace)
        for name, code in zip(names, codes, strict=True):
            if code != 0:
                print(self.last_words(name, f"{name} did not end cleanly (code {code})"), file=sys.stderr)

    def __enter__(self) -> _Nodes:
        # The nodes are sessions of their own: nothing but this process would end them.
        self._former = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        return self

    def __exit__(self, *_: object) -> None:
        stop_nodes(list(self._processes.values()))
        signal.signal(signal.SIGTERM, self._former)


@contextmanager
def run_environment(domain_id: int | None, logs: Path) -> Iterator[dict[str, str]]:
    """That of the nodes: seen on this machine alone, in a ROS domain of their own as long as the block runs.

    Args:
        domain_id: the domain; None takes one that no other run and no test has.
        logs: folder for the log files of ROS.

    Raises:
        UserError: no domain is free.
    """
    environment = ros_environment()
    for name in (RANGE, LOCALHOST_ONLY, "ROS_STATIC_PEERS"):
        environment.pop(name, None)
    keep_local(environment)
    environment.update(ROS_LOG_DIR=str(logs / "ros"), RCUTILS_COLORIZED_OUTPUT="0", PYTHONUNBUFFERED="1")
    with own_domain(environment.get("ROS_DOMAIN_ID")) if domain_id is None else nullcontext(domain_id) as domain:
        yield environment | {"ROS_DOMAIN_ID": str(domain)}


def nodes_ready(recorder: dict[str, Any], images: tuple[str, str], composed: bool = False) -> bool:
    """Whether both nodes are active, by the recorder's report on who listens to ``images`` and ``/detections``: the
    detector to both cameras, the tracker (which starts first where both are one process) to the detections."""
    subscribers = recorder.get("subscribers", {})
    return (composed or "tracker_node" in subscribers.get("/detections", ())) and all(
        "detection_node" in subscribers.get(topic, ()) for topic in images
    )


def _follow(
    nodes: _Nodes,
    replay_report: Path,
    recorder_report: Path,
    total: int,
    watch: Callable[[Mapping[str, int]], None] | None,
) -> None:
    """Show progress until the recording has been played and the nodes have answered its last image."""
    last, changed, ended = (0, 0), time.monotonic(), None
    with tqdm(total=total, desc="replaying", unit="image", mininterval=0.5) as progress:
        while True:
            nodes.check()
            if watch is not None and not nodes.ended("replay_node"):
                watch(nodes.process_ids)
            replay, recorder = read_status(replay_report), read_status(recorder_report)
            shown = {"results": recorder.get("detections", 0), "tracks": recorder.get("track_ids", 0)}
            progress.set_postfix(shown, refresh=False)
            progress.update(replay.get("rgb", 0) + replay.get("thermal", 0) - progress.n)
            now, seen = time.monotonic(), (recorder.get("detections", 0), recorder.get("tracks", 0))
            if seen != last:
                last, changed = seen, now
            if ended is None and nodes.ended("replay_node"):
                ended = now
            if ended is not None and (now - max(changed, ended) > _QUIET_S or now - ended > _DRAIN_S):
                return
            time.sleep(_POLL_S)
