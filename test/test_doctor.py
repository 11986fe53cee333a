"""The doctor's checks in made-up environments, and the document that its findings link to."""

from __future__ import annotations

import ast
import fcntl
import importlib.metadata
import importlib.util
import json
import re
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from mmkd_ros.doctor import __main__ as command
from mmkd_ros.doctor import dds, machine
from mmkd_ros.doctor.finding import DOCUMENT, Finding, Level, Section, examine, ok
from mmkd_ros.doctor.topics import (
    COMPRESSED,
    IMAGE,
    CameraFacts,
    Offer,
    ProbeReport,
    camera_findings,
    check_messages,
    check_middleware,
    check_stamp_distance,
    missing_images,
)
from mmkd_ros.parameters import NODE_PARAMETERS, specifications

Usage = namedtuple("Usage", "total used free")
NOW = 1_000_000.0


def judged(finding: Finding) -> tuple[Level, Section | None]:
    return finding.level, finding.section


# ---- the document


def test_every_section_is_in_the_document_once_and_in_use(repo_root: Path) -> None:
    anchors = re.findall(r'<a id="([^"]+)"></a>', (repo_root / DOCUMENT).read_text(encoding="utf-8"))
    assert len(anchors) == len(set(anchors))
    assert {str(section) for section in Section} <= set(anchors)
    used = {
        node.attr
        for path in (repo_root / "mmkd_ros" / "doctor").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Section"
    }
    assert used == set(Section.__members__)


def test_a_link_of_the_document_leads_somewhere(repo_root: Path) -> None:
    document = repo_root / DOCUMENT
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text)
    assert targets
    for file, anchor in targets:
        assert not file or (document.parent / file).exists(), file
        assert file or f'<a id="{anchor}"></a>' in text, anchor


def test_a_parameter_of_the_document_exists(repo_root: Path) -> None:
    named = set(re.findall(r"`((?:sync|tracker)\.\w+)", (repo_root / DOCUMENT).read_text(encoding="utf-8")))
    known = {spec.name for kind in NODE_PARAMETERS.values() for spec in specifications(kind)}
    assert named
    assert named <= known


def test_a_complaint_needs_a_cure() -> None:
    with pytest.raises(ValueError, match="no cure"):
        Finding("check", Level.WARN, "all is lost")


# ---- Python and packages


@pytest.mark.parametrize(
    ("version", "limits", "fits"),
    [
        ("2.13.0+cpu", ">=2.4", True),
        ("2.3.1", ">=2.4", False),
        ("4.13.0.92", "<5,>=4.6", True),
        ("5.0.0", "<5,>=4.6", False),
        ("4.6", ">=4.6.0", False),  # fewer numbers are less; no pin of ours is written like that
        ("1.0rc1", "", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, limits: str, fits: bool) -> None:
    assert machine.satisfies(version, limits) is fits


def test_limits_that_are_not_understood_are_not_passed_over() -> None:
    with pytest.raises(ValueError, match="'~=1.0' is not understood"):
        machine.satisfies("1.0", "~=1.0")


def test_all_our_requirements_are_understood() -> None:
    wanted = machine.requirements()
    assert {"numpy", "torch", "safetensors"} <= set(wanted)
    assert "accelerate" not in wanted, "training is not the robot's business"
    for limits in wanted.values():
        machine.satisfies("1.0", limits)
    assert machine.check_packages().level is Level.OK
    assert machine.check_python().level is Level.OK


def test_wrong_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=99", "no-such-package>=1.2", 'torch>=99; extra == "torch"', 'dacite>=99; extra == "train"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: lines)
    finding = machine.check_packages()
    assert judged(finding) == (Level.FAIL, Section.VERSIONS)
    for part in ("numpy ", "(needs >=99)", "no-such-package is missing (needs >=1.2)", "torch "):
        assert part in finding.found
    assert 'pip install "numpy>=99" "no-such-package>=1.2" "torch>=99"' in finding.cure
    assert "dacite" not in finding.found


def test_a_package_that_is_not_installed_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    monkeypatch.setattr(importlib.metadata, "metadata", absent)
    assert judged(machine.check_packages()) == (Level.WARN, Section.VERSIONS)
    assert machine.check_python().level is Level.OK


def test_an_old_interpreter_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "metadata", lambda _: {"Requires-Python": ">=99"})
    assert judged(machine.check_python()) == (Level.FAIL, Section.VERSIONS)


@pytest.mark.requires_ros
@pytest.mark.parametrize(
    ("body", "level", "words"),
    [
        ("import numpy; return numpy.zeros((2, 2, 3))", Level.OK, "works beside numpy"),
        ("raise AttributeError('_ARRAY_API not found')", Level.WARN, "_ARRAY_API not found"),
        ("import numpy; return numpy.zeros((2, 2))", Level.WARN, "shape (2, 2)"),
        ("import os; os.abort()", Level.WARN, "exit code -6"),
    ],
    ids=["works", "raises", "wrong", "crashes"],
)
def test_cv_bridge_is_tried_out(
    body: str, level: Level, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"class CvBridge:\n    def imgmsg_to_cv2(self, message, encoding):\n        {body}\n"
    (tmp_path / "cv_bridge.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = machine.check_cv_bridge()
    assert finding.level is level
    assert words in finding.found


def test_two_opencvs_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_opencv().level is Level.OK
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "4.10")
    assert judged(machine.check_opencv()) == (Level.WARN, Section.OPENCV)


# ---- torch, cores, weights


def cuda(monkeypatch: pytest.MonkeyPatch, *, available: bool, total: float = 512.0) -> None:
    """A torch whose GPU adds up to ``total``."""
    fake = ModuleType("torch")
    product = SimpleNamespace(sum=lambda: total)
    ones = type("Ones", (), {"__matmul__": lambda *_: product})()
    device = SimpleNamespace(is_available=lambda: available, get_device_name=lambda: "Big GPU")
    vars(fake).update(__version__="9.9", cuda=device, ones=lambda *_, **__: ones, float16="half")
    monkeypatch.setitem(sys.modules, "torch", fake)


def test_torch_is_tried_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda(monkeypatch, available=True)
    assert machine.check_torch() == ok("torch", "9.9, Big GPU, float16 works")
    cuda(monkeypatch, available=True, total=511.0)
    assert judged(machine.check_torch()) == (Level.FAIL, Section.TORCH)


def test_a_gpu_that_torch_does_not_see_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda(monkeypatch, available=False)
    monkeypatch.setattr(machine, "NVIDIA_DEVICE", tmp_path / "nvidia")
    assert machine.check_torch().level is Level.OK
    (tmp_path / "nvidia").touch()
    assert judged(machine.check_torch()) == (Level.WARN, Section.TORCH)


@pytest.mark.parametrize(("engine", "level"), [(None, Level.FAIL), ("openvino", Level.WARN)])
def test_an_absent_torch_is_a_failure_unless_an_exported_model_could_run(
    monkeypatch: pytest.MonkeyPatch, engine: str | None, level: Level
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == engine else None)
    assert judged(machine.check_torch()) == (level, Section.TORCH)


@pytest.mark.parametrize(
    ("files", "cores", "quota", "judgement"),
    [
        ({}, 16, None, (Level.OK, None)),
        ({"cpu.max": "max 100000\n"}, 2, None, (Level.OK, None)),
        ({"cpu.max": "150000 100000\n"}, 16, 1.5, (Level.WARN, Section.CORES)),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4, None, (Level.OK, None)),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4, 0.5, (Level.WARN, Section.CORES)),
        ({}, 1, None, (Level.WARN, Section.CORES)),
    ],
)
def test_threads_are_held_against_what_may_be_used(
    files: dict[str, str],
    cores: int,
    quota: float | None,
    judgement: tuple[Level, Section | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(cores)))
    assert machine.cpu_quota() == quota
    finding = machine.check_cores()
    assert judged(finding) == judgement
    if quota == 1.5:
        assert "threads to 1" in finding.cure


def test_the_shipped_weights_are_good_and_damaged_ones_are_not(repo_root: Path, tmp_path: Path) -> None:
    name = "mmkd_student.safetensors"
    finding = machine.check_weights(name)
    assert finding.level is Level.OK
    assert "person, car, bicycle; input 512x384; sha256 " in finding.found
    damaged = tmp_path / name
    shutil.copy(repo_root / "models" / name, damaged)
    content = bytearray(damaged.read_bytes())
    content[-1000] ^= 1
    damaged.write_bytes(content)
    for path, words in ((damaged, "does not match its own sha256"), (tmp_path / "none", "does not exist")):
        finding = machine.check_weights(str(path))
        assert judged(finding) == (Level.FAIL, Section.WEIGHTS)
        assert words in finding.found
    assert "not part of this installation" in machine.check_weights("none.safetensors").found


# ---- the middleware's environment


@pytest.mark.parametrize(
    ("variables", "level", "words"),
    [
        ({}, Level.OK, "0, discovery range SUBNET"),
        ({"ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, Level.OK, "this machine alone"),
        ({"ROS_LOCALHOST_ONLY": "1"}, Level.OK, "this machine alone"),
        ({"ROS_DOMAIN_ID": "150"}, Level.WARN, "150"),
        ({"ROS_DOMAIN_ID": "233"}, Level.FAIL, "no domain"),
        ({"ROS_DOMAIN_ID": "seven"}, Level.FAIL, "no domain"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, Level.WARN, "do not find each other"),
    ],
)
def test_the_domain(variables: dict[str, str], level: Level, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    finding = dds.check_domain()
    assert finding.level is level
    assert words in finding.found


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        (None, Level.WARN, "is not set"),
        ("absent", Level.FAIL, "cannot be read"),
        ("<dds>", Level.FAIL, "cannot be read"),
        ("<dds/>", Level.WARN, "no shared-memory segment of its own"),
        ("{shipped}", Level.OK, "segment of 64 MiB"),
        ("{small}", Level.WARN, "segment of 0.5 MiB"),
        ("{unused}", Level.WARN, "no shared-memory segment of its own"),
    ],
)
def test_the_profile(
    text: str | None, level: Level, words: str, repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = (repo_root / "config" / "fastdds_shm.xml").read_text()
    variants = {
        "{shipped}": shipped,
        "{small}": shipped.replace("67108864", "524288"),
        "{unused}": shipped.replace('is_default_profile="true"', ""),
    }
    path = tmp_path / "profile.xml"
    if text not in (None, "absent"):
        path.write_text(variants.get(text, text))
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    monkeypatch.setenv(dds.PROFILE, "" if text is None else str(path))
    finding = dds.check_profile()
    assert (finding.level, words in finding.found) == (level, True), finding
    if level is not Level.OK:
        assert f"export {dds.PROFILE}={repo_root / 'config' / 'fastdds_shm.xml'}" in finding.cure


def test_the_profile_variable_of_later_releases_is_no_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(dds.PROFILE)
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    monkeypatch.setenv(dds.LATER_PROFILE, "/mine.xml")
    assert dds.LATER_PROFILE in dds.check_profile().found
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert dds.check_profile() == ok("DDS profile", "not used by rmw_cyclonedds_cpp")


@pytest.mark.parametrize(("free_mib", "level"), [(60, Level.FAIL), (200, Level.WARN), (400, Level.OK)])
def test_the_room_for_shared_memory(
    free_mib: int, level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dds, "SHM", tmp_path)
    monkeypatch.setattr(dds.shutil, "disk_usage", lambda _: Usage(1024 * dds.MIB, 0, free_mib * dds.MIB))
    finding = dds.check_shared_memory()
    assert finding.level is level
    assert finding.found.startswith(f"{free_mib} of 1024 MiB free")
    monkeypatch.setattr(dds, "SHM", tmp_path / "none")
    assert dds.check_shared_memory().level is Level.FAIL


def test_segments_of_the_dead_are_told_from_those_of_the_living(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dds, "SHM", tmp_path)
    monkeypatch.setattr(dds.shutil, "which", lambda *_, **__: None)
    assert dds.check_leftovers() == ok("DDS leftovers", "none (0 in use)")
    for name in ("0123456789abcdef", "fedcba9876543210", "00000000000000aa"):
        (tmp_path / f"fastrtps_{name}").write_bytes(bytes(2 * dds.MIB))
        (tmp_path / f"fastrtps_{name}_el").touch()
    (tmp_path / "fastrtps_port7410_el").touch()
    with (tmp_path / "fastrtps_fedcba9876543210_el").open("rb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        finding = dds.check_leftovers()
    assert judged(finding) == (Level.WARN, Section.LEFTOVERS)
    names = "fastrtps_00000000000000aa,fastrtps_0123456789abcdef"
    assert finding.found == f"2 segments of processes that were killed, 4 MiB (1 in use): {names}"
    assert finding.cure == f"Remove them: `rm {tmp_path}/{{{names}}}*`."
    monkeypatch.setattr(dds.shutil, "which", lambda *_, **__: "/opt/fastdds")
    assert dds.check_leftovers().cure == "Remove them: `/opt/fastdds shm clean`."
    assert len(list(tmp_path.iterdir())) == 7, "the doctor itself removes nothing"
    for number in range(4):
        (tmp_path / f"fastrtps_{number:016d}_el").touch()
    found = dds.check_leftovers().found
    assert found.startswith("7 segments") and found.endswith("fastrtps_0000000000000002,..."), found


# ---- what the probe has measured

OFFER = Offer("/camera", IMAGE, "reliable", "volatile", "")
TIMES = [NOW + 0.1 * number for number in range(20)]
GOOD = CameraFacts("/rgb/image_raw", [OFFER], 2.0, TIMES, [time + 0.02 for time in TIMES], "rgb8", (640, 512))


def complaints(camera: str, facts: CameraFacts, image_topics: list[str] | None = None) -> dict[str, Finding]:
    findings = camera_findings(camera, facts, image_topics or [])
    return {finding.check: finding for finding in findings if finding.level is not Level.OK}


def shifted(facts: CameraFacts, seconds: float) -> CameraFacts:
    return replace(facts, stamps=[stamp + seconds for stamp in facts.stamps])


def test_good_cameras_give_no_complaint() -> None:
    findings = camera_findings("rgb", GOOD, [GOOD.topic])
    assert {finding.check for finding in findings} == {
        f"rgb {name}" for name in ("publisher", "type", "QoS", "rate", "image", "stamps")
    }
    assert complaints("rgb", GOOD) == {}
    assert "10.0 images/s (20 in 2.0 s)" in [finding.found for finding in findings]
    assert "20 ms old on arrival (median)" in [finding.found for finding in findings]
    assert check_stamp_distance(GOOD, shifted(GOOD, 0.02), 0.05).level is Level.OK


def test_a_silent_name_is_answered_with_those_that_speak() -> None:
    found = complaints("thermal", CameraFacts("/ir", window_s=2.0), ["/lwir/image", "/rgb/image_raw"])
    assert set(found) == {"thermal publisher"}
    finding = found["thermal publisher"]
    assert judged(finding) == (Level.FAIL, Section.PUBLISHERS)
    assert finding.found.endswith("image topics here: /lwir/image, /rgb/image_raw")
    assert "set thermal_topic" in finding.cure


STRING = replace(OFFER, type="std_msgs/msg/String")
PACKED = replace(OFFER, type=COMPRESSED)
LOSSY = [TIMES[number] for number in (0, 1, 5, 6, 12, 13, 19)]


@pytest.mark.parametrize(
    ("change", "check", "level", "section"),
    [
        ({"offers": [OFFER, OFFER]}, "publisher", Level.WARN, Section.PUBLISHERS),
        ({"offers": [STRING]}, "type", Level.FAIL, Section.TYPE),
        ({"offers": [PACKED]}, "type", Level.WARN, Section.TYPE),
        ({"topic": "/rgb/compressed"}, "type", Level.WARN, Section.TYPE),
        ({"offers": [replace(OFFER, mismatch="Best effort publisher")]}, "QoS", Level.FAIL, Section.QOS),
        ({"stamps": [], "arrivals": []}, "rate", Level.FAIL, Section.RATE),
        ({"stamps": TIMES[:1], "arrivals": TIMES[:1]}, "rate", Level.WARN, Section.RATE),
        (
            {"stamps": LOSSY, "arrivals": LOSSY},
            "rate",
            Level.WARN,
            Section.RATE,
        ),
        ({"problem": "The image has no pixels."}, "image", Level.FAIL, Section.IMAGE),
        ({"stamps": [0.0, *TIMES[1:]]}, "stamps", Level.FAIL, Section.STAMPS),
        ({"stamps": TIMES[:1] * 20}, "stamps", Level.FAIL, Section.STAMPS),
        ({"stamps": [*TIMES[:18], TIMES[3], TIMES[19]]}, "stamps", Level.WARN, Section.STAMPS),
        ({"stamps": [time + 0.5 for time in TIMES]}, "stamps", Level.WARN, Section.STAMPS),
        ({"stamps": [time - 5.0 for time in TIMES]}, "stamps", Level.WARN, Section.STAMPS),
    ],
)
def test_each_fault_gets_its_complaint_and_no_other(
    change: dict[str, object], check: str, level: Level, section: Section
) -> None:
    found = complaints("rgb", replace(GOOD, **change))  # type: ignore[arg-type]
    assert {name: judged(finding) for name, finding in found.items()} == {f"rgb {check}": (level, section)}


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ([0.1, 0.4, 0.1, 0.6, 0.1, 0.6], 13),
        ([0.2] * 9, 0),
        ([0.08, 0.12, 0.09, 0.11, 0.1], 0),
        ([0.1, 0.1, 7.0, 0.1, -3.0], 0),
        ([0.0, 0.0], 0),
        ([], 0),
    ],
    ids=["lost", "steady", "unsteady", "pause and jump", "frozen", "one"],
)
def test_lost_images_show_as_gaps(steps: list[float], missing: int) -> None:
    assert missing_images(list(accumulate(steps, initial=NOW))) == missing


def test_a_thermal_image_in_colour_is_a_warning() -> None:
    found = complaints("thermal", GOOD)
    assert judged(found["thermal image"]) == (Level.WARN, Section.IMAGE)
    assert complaints("thermal", replace(GOOD, encoding="16UC1")) == {}


HALF = replace(GOOD, stamps=[time + (0.0 if number % 2 else 0.05) for number, time in enumerate(TIMES[:19])])


@pytest.mark.parametrize(
    ("thermal", "slop_s", "level", "words"),
    [
        (shifted(GOOD, 0.04), 0.05, Level.OK, "100% of the images have a partner within 50 ms (median 40 ms)"),
        (shifted(GOOD, 3.0), 0.05, Level.FAIL, "0% of the images have a partner within 50 ms (median 2.0 s)"),
        (HALF, 0.02, Level.WARN, "47% of the images"),  # 9 of 19
        (replace(GOOD, stamps=TIMES[::3]), 0.05, Level.OK, "100%"),  # a slower camera
    ],
)
def test_the_distance_of_the_stamps(thermal: CameraFacts, slop_s: float, level: Level, words: str) -> None:
    finding = check_stamp_distance(GOOD, thermal, slop_s)
    assert (finding.level, words in finding.found) == (level, True), finding


def test_the_middleware_and_the_messages() -> None:
    good = ProbeReport("rmw_fastrtps_cpp", {"vision_msgs/Detection2DArray": ""})
    assert (check_middleware(good).level, check_messages(good).level) == (Level.OK, Level.OK)
    bad = ProbeReport("rmw_cyclonedds_cpp", {"vision_msgs/Detection2DArray": "ModuleNotFoundError: vision_msgs"})
    assert judged(check_middleware(bad)) == (Level.WARN, Section.ROS)
    assert judged(check_messages(bad)) == (Level.FAIL, Section.MESSAGES)


def test_a_report_survives_its_journey() -> None:
    report = ProbeReport("rmw", {"a": ""}, ["/rgb/image_raw"], {"rgb": GOOD, "thermal": CameraFacts("/ir")})
    assert ProbeReport.from_json(report.to_json()) == report


# ---- the command


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> ProbeReport:
    """A machine with nothing to complain about."""
    for module in (machine, dds):
        for name in [name for name in vars(module) if name.startswith("check_")]:
            monkeypatch.setattr(module, name, lambda *_, name=name: ok(name, "fine"))
    report = ProbeReport("rmw_fastrtps_cpp", {"a": ""}, [], {"rgb": GOOD, "thermal": replace(GOOD, encoding="mono8")})
    monkeypatch.setattr(command, "run_probe", lambda *_: report)
    return report


def test_a_healthy_machine_gets_one_line_a_check(healthy: ProbeReport, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{len(lines) - 1} OK, 0 WARN, 0 FAIL"
    assert {line.split()[0] for line in lines[:-1]} == {"OK"}
    assert any(line.startswith("OK   stamp distance") for line in lines)


def test_a_check_that_breaks_down_is_a_failure_and_the_others_go_on(
    healthy: ProbeReport, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Finding:
        raise OSError("the disk\nis gone")

    monkeypatch.setattr(machine, "check_opencv", broken)
    assert command.main(["--json"]) == 1
    findings = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["opencv"]["level"] == "FAIL"
    assert findings["opencv"]["found"] == "the check itself broke down with OSError: the disk is gone"
    assert findings["opencv"]["link"] == f"{DOCUMENT}#doctor"
    assert [name for name, finding in findings.items() if finding["level"] != "OK"] == ["opencv"]


def test_a_broken_check_of_a_topic_does_not_hide_the_others() -> None:
    lame = replace(GOOD, arrivals=GOOD.arrivals[:-1])  # no such report can come
    found = complaints("rgb", lame)
    assert [judged(finding) for finding in found.values()] == [(Level.FAIL, Section.DOCTOR)]


def test_examine_passes_a_finding_through() -> None:
    assert examine("check", lambda: ok("check", "fine")) == ok("check", "fine")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.stderr.write('no such rmw\\n'); sys.exit(102)", "ended with code 102 and said: no such rmw"),
        ("print('no report')", "gave no report"),
        ("pass", "gave no report"),
        ("import time; time.sleep(60)", "hung for"),
    ],
)
def test_without_a_working_ros_the_other_checks_are_still_made(
    code: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start: Callable[..., object] = command.subprocess.run

    def run(_: list[str], **options: object) -> object:
        return start([sys.executable, "-c", code], **options)

    monkeypatch.setattr(command.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(command.subprocess, "run", run)
    monkeypatch.setattr(command, "_PROBE_S", 1.0 if "sleep" in code else 60.0)
    with pytest.raises(command.ProbeError, match=words):
        command.run_probe({}, "best_effort")


def test_an_absent_ros_is_a_failure_with_a_cure(
    healthy: ProbeReport, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> ProbeReport:
        raise command.ProbeError("rclpy cannot be found", "Source it.")

    monkeypatch.setattr(command, "run_probe", absent)
    assert command.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "11 OK, 0 WARN, 1 FAIL"
    assert lines[-2] == f"     -> Source it. See {DOCUMENT}#ros"
