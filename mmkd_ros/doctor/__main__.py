"""The command line of the doctor: runs all checks, prints one line for each, and the cure below what is wrong."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from mmkd_ros import completion
from mmkd_ros.distribution import distribution
from mmkd_ros.doctor import dds, machine
from mmkd_ros.doctor.finding import Finding, Level, Section, examine, fail
from mmkd_ros.doctor.topics import (
    ProbeReport,
    camera_findings,
    check_messages,
    check_middleware,
    check_stamp_distance,
)
from mmkd_ros.parameters import DetectionParameters
from mmkd_ros.processes import ros_environment

_PROBE_S = 90.0
_DEFAULTS = DetectionParameters()


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine this machine.

    Returns:
        The exit code: 1 if a check failed, 0 for warnings and better.
    """
    parser = build_parser()
    completion.answer(parser)
    options = parser.parse_args(arguments)
    findings = []
    for finding in examine_all(options):
        findings.append(finding)
        if not options.json:
            print(as_text(finding), flush=True)
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    if options.json:
        print(json.dumps({"findings": [as_dict(finding) for finding in findings], "counts": counts}, indent=2))
    else:
        print(", ".join(f"{count} {level}" for level, count in counts.items()))
    return 1 if counts[Level.FAIL] else 0


def examine_all(options: argparse.Namespace) -> Iterator[Finding]:
    """All findings, one after the other."""
    for check, examination in (
        ("python", machine.check_python),
        ("packages", machine.check_packages),
        ("opencv", machine.check_opencv),
        ("torch", machine.check_torch),
        ("cores", machine.check_cores),
        ("cv_bridge", machine.check_cv_bridge),
        ("weights", partial(machine.check_weights, options.weights)),
        ("domain", dds.check_domain),
        ("DDS profile", dds.check_profile),
        ("shared memory", dds.check_shared_memory),
        ("DDS leftovers", dds.check_leftovers),
    ):
        yield examine(check, examination)
    topics = {"rgb": options.rgb_topic, "thermal": options.thermal_topic}
    try:
        report = run_probe({camera: topic for camera, topic in topics.items() if topic}, options.image_reliability)
    except ProbeError as error:
        yield fail("ROS", str(error), error.cure, Section.ROS)
        return
    yield examine("ROS", lambda: check_middleware(report))
    yield examine("messages", lambda: check_messages(report))
    for camera, facts in report.cameras.items():
        yield from camera_findings(camera, facts, report.image_topics)
    if len(report.cameras) == 2 and all(facts.stamps for facts in report.cameras.values()):
        pair = report.cameras["rgb"], report.cameras["thermal"]
        yield examine("stamp distance", lambda: check_stamp_distance(*pair, options.slop_s))


class ProbeError(Exception):
    """ROS does not work here: the sentence says how that shows, ``cure`` what to do."""

    def __init__(self, found: str, cure: str) -> None:
        super().__init__(found)
        self.cure = cure


def run_probe(topics: dict[str, str], reliability: str) -> ProbeReport:
    """What the probe measures, in a process of its own.

    Args:
        topics: by camera; may be empty.
        reliability: that the nodes ask of the image publishers.

    Raises:
        ProbeError: rclpy is absent, or the probe died or hung.
    """
    if importlib.util.find_spec("rclpy") is None:
        raise ProbeError(
            f"rclpy cannot be found by {sys.executable}",
            f"Run `source /opt/ros/{distribution()}/setup.bash` first, or `make env` and use .venv/bin/python.",
        )
    command = [sys.executable, "-m", "mmkd_ros.nodes.doctor_probe", "--reliability", reliability]
    for camera, topic in topics.items():
        command += [f"--{camera}", topic]
    cure = "Use the Python and the RMW_IMPLEMENTATION that belong to the ROS distribution that is sourced."
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter, a list of arguments)
            command, env=ros_environment(), capture_output=True, text=True, check=False, timeout=_PROBE_S
        )
    except subprocess.TimeoutExpired:
        raise ProbeError(f"a test program hung for {_PROBE_S:.0f} s", cure) from None
    if done.returncode:
        said = machine.last_line(done.stderr) or "nothing"
        raise ProbeError(f"a test program ended with code {done.returncode} and said: {said}", cure)
    try:
        return ProbeReport.from_json(done.stdout.splitlines()[-1])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ProbeError(f"a test program gave no report ({type(error).__name__}: {error})", cure) from error


def as_text(finding: Finding) -> str:
    """One line, and a second one with the cure."""
    line = f"{finding.level:<5}{finding.check:<18}{finding.found}"
    return f"{line}\n{'':5}-> {finding.cure} See {finding.link}" if finding.cure else line


def as_dict(finding: Finding) -> dict[str, str]:
    """For --json."""
    return {
        "check": finding.check,
        "level": finding.level,
        "found": finding.found,
        "cure": finding.cure,
        "link": finding.link,
    }


def build_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="mmkd-doctor", description="Find what is wrong with this machine, and name the cure."
    )
    parser.add_argument("--rgb-topic", default="", help="topic of the RGB images to look at")
    parser.add_argument("--thermal-topic", default="", help="topic of the thermal images to look at")
    parser.add_argument("--weights", default=_DEFAULTS.weights, help="detector weights (default: %(default)s)")
    parser.add_argument(
        "--image-reliability",
        default=_DEFAULTS.image_reliability,
        choices=("best_effort", "reliable"),
        help="the nodes' parameter of this name (default: %(default)s)",
    )
    parser.add_argument(
        "--slop-s", type=float, default=_DEFAULTS.sync.slop_s, help="the parameter sync.slop_s (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object instead of lines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
