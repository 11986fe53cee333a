"""``demo``: replay a recording over DDS through the real nodes, record what they publish, and show it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmkd_ros.bags import COMPRESSED_IMAGE, BagError, BagReader, BagTopic
from mmkd_ros.pairing import PairingOptions
from mmkd_ros.processes import ParameterValue, ros_environment, start_node, stop_nodes
from mmkd_ros.replay import plan_replay
from mmkd_ros.share import share_path
from mmkd_ros.status_file import read_status
from mmkd_ros.wiring import PerceptionOptions, perception_nodes
from mmkd_train import demo_report
from mmkd_train.errors import UserError
from mmkd_train.make_bag import make_bag_from_frames

HELP = "Run the detection and tracking nodes on a recording (the embedded one by default) and draw what they find."

_DEMO_FRAMES = 120  # 12 s
_READY_S = 120.0  # a slow machine imports torch and loads the weights in this time
_QUIET_S = 2.5  # the nodes are done when they publish nothing for so long (diagnostics come once a second) ...
_DRAIN_S = 20.0  # ... and are not waited for any longer than this
_POLL_S = 0.1
_LOG_TAIL = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``demo``."""
    parser.add_argument(
        "--output", type=Path, default=Path("demo_out"), help="folder for the results; default: %(default)s"
    )
    parser.add_argument("--bag", type=Path, help="a rosbag2 (mcap or sqlite3) instead of the embedded recording")
    parser.add_argument("--rgb-topic", default="", help="RGB topic in the bag; default: found by name and type")
    parser.add_argument("--thermal-topic", default="", help="thermal topic in the bag; default: found by name and type")
    parser.add_argument("--weights", default="", help="detector weights; default: as in the parameter file")
    parser.add_argument("--device", default="", help="auto, cpu or cuda; default: as in the parameter file")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the replay; default: %(default)s")
    parser.add_argument("--params-file", type=Path, help="parameters of the nodes; default: config/perception.yaml")
    parser.add_argument(
        "--domain-id", type=int, help="ROS domain of the demo; default: one of its own, apart from every robot's"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo: 0 with results in the output folder, else a `UserError` (no pair was processed, for example)."""
    began = time.monotonic()
    if not 0.01 <= args.rate <= 100:
        raise UserError(f"--rate is {args.rate}, but must lie in 0.01 to 100.")
    output: Path = args.output.resolve()
    for name in ("overlay.mp4", "overlay.png", "result.mcap", "summary.json"):
        (output / name).unlink(missing_ok=True)  # an old result must not pass for a new one
    try:
        path = args.bag.resolve() if args.bag else embedded_recording(output)
        with BagReader(path) as bag:
            topics = bag.image_topics(args.rgb_topic, args.thermal_topic)
            print(f"{path}: {topics[0].count} images on {topics[0].name}, {topics[1].count} on {topics[1].name}.")
            plan = plan_replay(bag, [topic.name for topic in topics], args.rate)
            replay = _run_nodes(args, path, topics, output)
            results = demo_report.read_results(output / "result.mcap")
            summary = demo_report.summarise(results, replay)
            (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
            stamps = [demo_report.replayed_stamps(bag, t.name, plan, replay["start_ns"]) for t in topics]
            frames = demo_report.film_frames(stamps[0], stamps[1], results, round(PairingOptions().slop_s * 1e9))
            demo_report.render(bag, topics, frames, results, output)
    except KeyboardInterrupt:
        print("Stopped; the nodes are ended.")
        return 130
    except (BagError, ValueError, RuntimeError, OSError) as error:
        raise UserError(str(error)) from error
    print(demo_report.table(summary, output, time.monotonic() - began))
    if not summary["pairs"] or not summary["detections_messages"]:
        raise UserError(
            f"No pair was processed (images used alone: {summary['single_modality']}, dropped: {summary['dropped']}); "
            f"the log of the detection node says why: {output / 'logs' / 'detection_node.log'}."
        )
    return 0


def embedded_recording(output: Path) -> Path:
    """Render the demo scene into ``demo.mcap``, unless one of the same scene and program is there.

    Returns:
        Path of the bag.
    """
    from mmkd_train.data import synthetic  # heavy, and of no use with a bag of one's own

    bag, mark = output / "demo.mcap", output / "demo.json"
    sources = sorted(Path(synthetic.__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    made_by = {"scene": str(synthetic.DEMO_SCENE), "frames": _DEMO_FRAMES, "program": digest}
    if bag.is_file() and mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == made_by:
        return bag
    mark.unlink(missing_ok=True)
    scene = synthetic.SyntheticScene(synthetic.DEMO_SCENE)
    frames = map(scene.frame, tqdm(range(_DEMO_FRAMES), desc="rendering the recording", unit="frame"))
    make_bag_from_frames(
        ((frame.rgb, frame.thermal) for frame in frames), bag, synthetic.DEMO_SCENE.fps, overwrite=True
    )
    mark.write_text(json.dumps(made_by), encoding="utf-8")
    return bag


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


def _run_nodes(args: argparse.Namespace, bag: Path, topics: tuple[BagTopic, BagTopic], output: Path) -> dict[str, Any]:
    """Replay the bag through the nodes and record into ``result.mcap``; returns the last report of the replay."""
    live = [
        f"/{camera}/image_raw" + ("/compressed" if topic.type == COMPRESSED_IMAGE else "")
        for camera, topic in zip(("rgb", "thermal"), topics, strict=True)
    ]
    params_file = args.params_file.resolve() if args.params_file else share_path("config/perception.yaml")
    if not params_file.is_file():
        raise UserError(f"There is no parameter file {params_file}; correct --params-file.")
    weights = str(Path(args.weights).resolve()) if Path(args.weights).is_file() else args.weights
    reports = {name: output / "logs" / f"{name}.json" for name in ("replay", "recorder")}
    for report in reports.values():
        report.unlink(missing_ok=True)
    options = PerceptionOptions(
        rgb_topic=live[0], thermal_topic=live[1], weights=weights, device=args.device, params_file=str(params_file)
    )
    with _Nodes(output / "logs", _environment(args.domain_id, output / "logs")) as nodes:
        plans = perception_nodes(options)
        for plan in plans:
            nodes.start(plan.name, params_file=params_file, parameters=plan.parameters, remaps=plan.remaps)
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
        if not nodes.wait(lambda: _ready(read_status(reports["recorder"]), live), _READY_S):
            raise UserError(nodes.last_words("detection_node", f"The nodes are not active after {_READY_S:.0f} s"))
        replay_parameters: dict[str, ParameterValue] = {
            "bag": str(bag),
            "rgb_topic": topics[0].name,
            "thermal_topic": topics[1].name,
            "rgb_out": live[0],
            "thermal_out": live[1],
            "rate": float(args.rate),
            "restamp": True,
            "wait_for_subscribers_s": 10.0,
            "start_delay_s": 1.0,  # a subscriber may know of the publisher later than the other way round
            "report": str(reports["replay"]),
        }
        nodes.start("replay_node", parameters=replay_parameters)
        _follow(nodes, reports["replay"], reports["recorder"], topics[0].count + topics[1].count)
        nodes.stop(["replay_node", *(plan.name for plan in plans)], grace=10.0)
        nodes.stop(["recorder_node"], grace=20.0)  # last, so that nothing is published unheard
    replay = read_status(reports["replay"])
    if replay.get("state") != "done":
        raise UserError(f"The replay ended before the recording did; see {output / 'logs' / 'replay_node.log'}.")
    return replay


def _environment(domain_id: int | None, logs: Path) -> dict[str, str]:
    """That of the nodes: a ROS domain of their own, seen on this machine alone."""
    environment = ros_environment()
    # Ids above 101 reach into the ports that Linux hands out to other programs; 0 is everybody's default.
    own = 1 + os.getpid() % 101
    if str(own) == environment.get("ROS_DOMAIN_ID"):
        own = 1 + own % 101
    environment.update(
        ROS_DOMAIN_ID=str(own if domain_id is None else domain_id),
        ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        ROS_LOG_DIR=str(logs / "ros"),
        RCUTILS_COLORIZED_OUTPUT="0",
        PYTHONUNBUFFERED="1",
    )
    environment.pop("ROS_STATIC_PEERS", None)
    return environment


def _ready(recorder: dict[str, Any], images: list[str]) -> bool:
    """Whether both nodes are active: the detector listens to both cameras, the tracker to the detections."""
    subscribers = recorder.get("subscribers", {})
    return "tracker_node" in subscribers.get("/detections", ()) and all(
        "detection_node" in subscribers.get(topic, ()) for topic in images
    )


def _follow(nodes: _Nodes, replay_report: Path, recorder_report: Path, total: int) -> None:
    """Show progress until the recording has been played and the nodes have answered its last image."""
    last, changed, ended = (0, 0), time.monotonic(), None
    with tqdm(total=total, desc="replaying", unit="image", mininterval=0.5) as progress:
        while True:
            nodes.check()
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
