"""Throughput against the number of RGB-thermal rigs: one detection node for all of them beside one node each.

In: numbers of rigs and their rate. Out: pairs a second in all and of the rig that fares worst, latency, processor load
and memory of all detection nodes together. Trackers do not run; the cameras are played by one process.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from mmkd_ros.processes import start_node, stop_nodes
from mmkd_ros.rigs import RigError, system_nodes
from mmkd_ros.share import share_path
from mmkd_ros.status_file import read_status
from mmkd_ros.wiring import NodePlan, PerceptionOptions
from mmkd_train.errors import UserError
from mmkd_train.node_run import run_environment
from mmkd_train.process_watch import ProcessWatch
from mmkd_train.report_data import percentiles

LAYOUTS = ("shared", "apart")
_POLL_S = 0.1


def benchmark_rigs(
    output: Path,
    counts: Sequence[int],
    rates: Sequence[float],
    seconds: float,
    options: Mapping[str, str],
    threads: int,
) -> list[dict[str, Any]]:
    """Measure both layouts.

    Args:
        output: folder of logs.
        counts: numbers of rigs.
        rates: pairs per second of each rig.
        seconds: of each measurement.
        options: weights, device and the like, as fields of ``PerceptionOptions``.
        threads: of each detection node; 0: the nodes' own choice.

    Returns:
        One row a layout, number and rate, as :func:`summarise` with "layout", "rigs", "hz" and "threads".

    Raises:
        UserError: a node does not start or does not answer.
    """
    rows = []
    runs = [(layout, count, hz) for count in counts for hz in rates for layout in LAYOUTS]
    for layout, count, hz in tqdm(runs, desc="rigs", mininterval=1):
        names = [f"rig{number + 1}" for number in range(count)]
        try:
            found = _run(
                output / "logs", names, hz, seconds, {**options, "shared_detector": layout == "shared"}, threads
            )
        except (OSError, ValueError, RigError) as error:
            raise UserError(str(error)) from error
        rows.append({"layout": layout, "rigs": count, "hz": hz, "threads": threads, **found})
    return rows


def summarise(report: Mapping[str, Any], processes: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Figures of one measurement.

    Args:
        report: of the process that plays the cameras.
        processes: as :meth:`ProcessWatch.figures`, of the detection nodes.

    Returns:
        "pairs_per_s" in all, "least_pairs_per_s" of the rig that has least, "answered" as a share of the pairs sent,
        "latency_ms" ("p50", "p95": stamp to the arrival of the detections), "cpu_percent" of one core and "memory_mb",
        both added up over the nodes.
    """
    answered = [len(rig["delays_ms"]) for rig in report["rigs"].values()]
    delays = np.concatenate([rig["delays_ms"] for rig in report["rigs"].values()])
    return {
        "pairs_per_s": round(sum(answered) / report["seconds"], 2),
        "least_pairs_per_s": round(min(answered) / report["seconds"], 2),
        "answered": round(sum(answered) / max(1, sum(rig["sent"] for rig in report["rigs"].values())), 3),
        "latency_ms": percentiles(delays, 50, 95),
        "cpu_percent": round(sum(process["cpu_percent"] for process in processes.values()), 1),
        "memory_mb": round(sum(process["memory_mb"] for process in processes.values()), 1),
    }


def format_rigs(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of the printed table."""
    lines = []
    for row in rows:
        latency = row["latency_ms"]
        lines.append(
            f"{row['rigs']} rigs at {row['hz']:g} Hz, {row['layout']:<6}: {row['pairs_per_s']:.1f} pairs/s, the least "
            f"served rig {row['least_pairs_per_s']:.1f}; {100 * row['answered']:.0f} % answered; latency p50 "
            f"{latency['p50']}, p95 {latency['p95']} ms; {row['cpu_percent']:.0f} % of a core, "
            f"{row['memory_mb']:.0f} MB"
        )
    return lines


def _run(
    logs: Path, names: Sequence[str], hz: float, seconds: float, options: Mapping[str, Any], threads: int
) -> dict[str, Any]:
    logs.mkdir(parents=True, exist_ok=True)
    rig, report = logs / "rig.yaml", logs / "rig_load.json"
    report.unlink(missing_ok=True)
    heads = [{"name": name, "rgb_topic": "rgb/image_raw", "thermal_topic": "thermal/image_raw"} for name in names]
    rig.write_text(yaml.safe_dump({"heads": heads, "parameters": {"threads": threads}}), encoding="utf-8")
    plans = [plan for plan in system_nodes(PerceptionOptions(rig=str(rig), **options)) if plan.name == "detection_node"]
    command = [sys.executable, "-m", "mmkd_ros.nodes.rig_load", "--rigs", *names, "--hz", str(hz)]
    command += ["--seconds", str(seconds), "--report", str(report)]
    watch = ProcessWatch()
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with run_environment(None, logs) as environment:
        try:
            for plan in plans:
                processes[plan.label] = _start(plan, logs, environment)
            with open(logs / "rig_load.log", "wb") as log:
                load = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603
            processes["load"] = load
            while load.poll() is None:
                for label, process in processes.items():
                    if label != "load" and process.poll() is not None:
                        raise UserError(f"{label} ended with code {process.returncode}; look into its log in {logs}.")
                if read_status(report):
                    watch({label: process.pid for label, process in processes.items() if label != "load"})
                time.sleep(_POLL_S)
        finally:
            stop_nodes(list(processes.values()))
    if load.returncode:
        raise UserError(f"The rigs were not answered: {(logs / 'rig_load.log').read_text(errors='replace')[-300:]}")
    return summarise(read_status(report), watch.figures())


def _start(plan: NodePlan, logs: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with open(logs / f"{plan.label.replace('/', '_')}.log", "wb") as log:
        return start_node(
            plan.name,
            namespace=plan.namespace,
            params_file=share_path("config/perception.yaml"),
            parameters=plan.parameters,
            remaps=plan.remaps,
            environment=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
