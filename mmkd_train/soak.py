"""``soak``: the real nodes, started as a user starts them, on cameras that fail again and again; what grows and what
is lost."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmkd_ros.bags import BagError
from mmkd_ros.processes import start_node, stop_nodes
from mmkd_ros.share import share_path
from mmkd_ros.status_file import read_status
from mmkd_train.errors import UserError
from mmkd_train.make_bag import RGB_TOPIC, THERMAL_TOPIC
from mmkd_train.node_run import nodes_ready, run_environment
from mmkd_train.process_watch import Sample, look
from mmkd_train.report_data import DETECTIONS_SERIES, TRACKS_SERIES, RunRecord, read_run
from mmkd_train.soak_figures import (
    Limits,
    backward_steps,
    broken_limits,
    latency_figures,
    process_figures,
)
from mmkd_train.soak_recording import record

HELP = "Run the nodes for minutes or hours on cameras that fail again and again, and say what grows and what is lost."

_NODES = ("detection_node", "tracker_node")
_TOPICS = (RGB_TOPIC, THERMAL_TOPIC)
_READY_S, _SAMPLE_S, _DRAIN_S = 180.0, 1.0, 2.0
_SOURCE_DEATHS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``soak``."""
    parser.add_argument("--minutes", type=float, default=1.0, help="length; default: %(default)s")
    parser.add_argument("--fps", type=float, default=10.0, help="of each camera; default: %(default)s")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 512), metavar=("W", "H"), help="of the images")
    parser.add_argument("--weights", default="", help="detector weights; default: as in the parameter file")
    parser.add_argument("--params-file", type=Path, help="parameters of the nodes; default: config/perception.yaml")
    parser.add_argument("--output", type=Path, default=Path("soak_out"), help="folder for soak.json and the logs")
    parser.add_argument(
        "--domain-id",
        type=int,
        default=os.environ.get("ROS_DOMAIN_ID"),
        help="ROS domain; default: ROS_DOMAIN_ID, else one of its own",
    )
    for limit in fields(Limits):
        flag = f"--max-{limit.name.replace('_', '-')}"
        parser.add_argument(flag, type=float, default=limit.default, help="limit; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Soak: 0, or 1 when a limit is broken; a `UserError` when it could not be done at all."""
    if not 0 < args.minutes <= 60 * 24 * 7 or not 1 <= args.fps <= 120:
        raise UserError("--minutes must lie in 0 to 10080 (a week), and --fps in 1 to 120.")
    output: Path = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    try:
        faults = record(output / "cameras.mcap", args.fps, *args.size)
        soak = _Soak(args, output)
        soak.run()
        report = _report(soak, read_run(output / "result.mcap"), args)
    except (BagError, ValueError, OSError) as error:
        raise UserError(str(error)) from error
    finally:
        (output / "cameras.mcap").unlink(missing_ok=True)
    limits = Limits(**{limit.name: getattr(args, f"max_{limit.name}") for limit in fields(Limits)})
    report |= {"faults_in_each_round": faults, "limits": asdict(limits), "broken": broken_limits(report, limits)}
    (output / "soak.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))
    return 1 if report["broken"] else 0


class _Soak:
    """One run: ``samples`` by node, and the last reports of the sources that played."""

    def __init__(self, args: argparse.Namespace, output: Path) -> None:
        self.samples: dict[str, list[Sample]] = {name: [] for name in _NODES}
        self.sources: list[Path] = []
        self.log = output / "perception.log"
        self.seconds = args.minutes * 60
        self._output, self._args = output, args
        self._params = args.params_file.resolve() if args.params_file else share_path("config/perception.yaml")
        self._environment: dict[str, str] = {}
        self._processes: dict[str, int] = {}
        self._log_read = 0

    def run(self) -> None:
        with run_environment(self._args.domain_id, self._output) as self._environment:
            self._run()

    def _run(self) -> None:
        command = [sys.executable, "-m", "mmkd_ros.nodes.perception", "--respawn", "--params-file", str(self._params)]
        command += ["--weights", str(Path(self._args.weights).resolve())] if self._args.weights else []
        status = self._output / "recorder.json"
        status.unlink(missing_ok=True)
        processes: list[subprocess.Popen[bytes]] = []
        try:
            with self.log.open("wb") as log:
                system = subprocess.Popen(  # noqa: S603 - this package's own program, no shell
                    command, env=self._environment, stdout=log, stderr=log, start_new_session=True
                )
            processes.append(system)
            record_into = {"output": str(self._output / "result.mcap"), "overwrite": True, "report": str(status)}
            processes.append(self._start("recorder_node", **record_into, watch_topics=",".join(_TOPICS)))
            self._wait(lambda: nodes_ready(read_status(status), _TOPICS), processes)
            processes.append(self._source())
            self._wait(self._playing, processes)
            self._sample(processes)
            stop_nodes(processes[2:], 5.0)
            time.sleep(_DRAIN_S)
        finally:
            stop_nodes(processes[:1] + processes[2:], 20.0)
            stop_nodes(processes[1:2], 20.0)  # the recorder last, so that nothing is published unheard

    def process_ids(self) -> dict[str, int]:
        """The latest process of each node, by the log of the supervisor."""
        with self.log.open("rb") as log:
            log.seek(self._log_read)
            lines = log.read()
        lines = lines[: lines.rfind(b"\n") + 1]
        self._log_read += len(lines)
        for name, process in re.findall(rb"(\w+) started \(process (\d+)\)", lines):
            self._processes[name.decode()] = int(process)
        return self._processes

    def _start(self, name: str, **parameters: Any) -> subprocess.Popen[bytes]:
        with (self._output / f"{name}.log").open("ab") as log:
            return start_node(name, parameters=parameters, environment=self._environment, stdout=log, stderr=log)

    def _source(self) -> subprocess.Popen[bytes]:
        self.sources.append(self._output / f"source_{len(self.sources)}.json")
        self.sources[-1].unlink(missing_ok=True)
        bag, report = str(self._output / "cameras.mcap"), str(self.sources[-1])
        return self._start("replay_node", bag=bag, loop=True, wait_for_subscribers_s=10.0, report=report)

    def _playing(self) -> bool:
        return read_status(self.sources[-1]).get("state") == "playing"

    def _wait(self, ready: Callable[[], bool], processes: list[subprocess.Popen[bytes]]) -> None:
        deadline = time.monotonic() + _READY_S
        while not ready():
            if any(process.poll() is not None for process in processes) or time.monotonic() > deadline:
                raise UserError(f"The nodes do not start; their logs are {self.log} and *_node.log beside it.")
            time.sleep(0.2)

    def _sample(self, processes: list[subprocess.Popen[bytes]]) -> None:
        """Look at the nodes once a second until the time is over; the source is killed now and then."""
        began = time.monotonic()
        deaths = [self.seconds * (i + 1) / (_SOURCE_DEATHS + 1) for i in range(_SOURCE_DEATHS)]
        with tqdm(total=round(self.seconds), desc="soaking", unit="s", mininterval=5) as progress:
            while (at := time.monotonic() - began) < self.seconds:
                for name, process in self.process_ids().items():
                    sample = look(process, at)
                    if sample is not None and name in self.samples:
                        self.samples[name].append(sample)
                if processes[0].poll() is not None:
                    raise UserError(f"The system ended with code {processes[0].returncode}; see {self.log}.")
                if deaths and at >= deaths[0] and self._playing():
                    deaths.pop(0)
                    processes[2].kill()
                    processes[2].wait()
                    processes[2] = self._source()
                progress.update(min(round(at), progress.total) - progress.n)
                time.sleep(_SAMPLE_S)


def _report(soak: _Soak, record: RunRecord, args: argparse.Namespace) -> dict[str, Any]:
    figures = record.figures
    detections, tracks = (record.published.get(series, []) for series in (DETECTIONS_SERIES, TRACKS_SERIES))
    published = [read_status(source) for source in soak.sources]
    images = sum(status.get("rgb", 0) + status.get("thermal", 0) for status in published)
    received = sum(int(figures.get(f"frames_{camera}", 0)) for camera in ("rgb", "thermal"))
    nodes = {}
    for name, samples in soak.samples.items():
        last = [sample for sample in samples if sample.process == samples[-1].process] if samples else []
        if len(last) < 3:
            raise UserError(f"{name} was not there long enough to be measured; see {soak.log}, or soak for longer.")
        nodes[name] = process_figures(last, args.fps)
    return {
        "minutes": args.minutes,
        "fps": args.fps,
        "size": list(args.size),
        "images": images,
        # A killed source has counted some images less than it sent.
        "missed": max(0, images - received),
        "outputs": len(detections),
        "tracks_messages": len(tracks),
        "backward_stamps": backward_steps(detections) + backward_steps(tracks),
        "latency": latency_figures(detections),
        "restarts": soak.log.read_text(encoding="utf-8", errors="replace").count("it starts again"),
        "source_deaths": len(soak.sources) - 1,
        "dropped": {k.partition(".")[2]: int(v) for k, v in figures.items() if k.startswith("dropped.") and v != "0"},
        "device": figures.get("device", ""),
        "nodes": nodes,
    }


def table(report: dict[str, Any]) -> str:
    """The report as text."""
    latency = report["latency"]
    lines = [
        f"{report['minutes']:g} minutes at {report['fps']:g} Hz, {report['images']} images of "
        f"{report['size'][0]}x{report['size'][1]}, source killed {report['source_deaths']} times",
        f"outputs {report['outputs']}, tracks {report['tracks_messages']}, missed images {report['missed']}, "
        f"stamps that went back {report['backward_stamps']}, restarts {report['restarts']}",
        f"latency p50 {latency['p50_ms']:.1f} ms, p99 {latency['p99_ms']:.1f} ms, drift {latency['drift_ms']:+.1f} ms",
        f"dropped: {', '.join(f'{reason} {number}' for reason, number in report['dropped'].items()) or 'none'}",
    ]
    for name, node in report["nodes"].items():
        lines.append(
            f"{name}: {node['memory_mb']:.0f} MB, {node['slope_mb_per_hour']:+.1f} MB/h "
            f"({node['slope_percent_per_1e6_frames']:+.2f} % per 1e6 frames), "
            f"descriptors {node['descriptors']:.0f} ({node['more_descriptors']:+.0f}), "
            f"threads {node['threads']:.0f} ({node['more_threads']:+.0f})"
        )
    return "\n".join([*lines, *(f"BROKEN: {sentence}" for sentence in report["broken"])])
