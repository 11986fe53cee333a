"""Rig files: what they make, and the sentence for what is wrong in one."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmkd_ros.parameters import NODE_PARAMETERS, RIG_OPTIONS, DetectionParameters, build
from mmkd_ros.processes import COMPOSED
from mmkd_ros.rigs import Head, RigError, load_rig, system_nodes
from mmkd_ros.wiring import PerceptionOptions, perception_nodes

HOMOGRAPHY = [2.0, 0.0, 320.5, 0.0, 2.0, 256.5, 0.0, 0.0, 1.0]


@pytest.fixture
def rig(repo_root: Path) -> str:
    return str(repo_root / "config" / "rig_example.yaml")


def write(folder: Path, content: Any) -> str:
    path = folder / "rig.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def test_every_head_has_its_nodes_in_its_namespace(rig: str) -> None:
    plans = {plan.label: plan for plan in system_nodes(PerceptionOptions(rig=rig, device="cpu", overlay=True))}
    assert set(plans) == {
        f"{head}/{node}" for head in ("front", "rear") for node in ("detection_node", "tracker_node", "overlay_node")
    }
    front, rear = plans["front/detection_node"], plans["rear/detection_node"]
    assert front.parameters["rgb_topic"] == "/sensing/camera/front_rgb/image_raw"
    assert rear.parameters["thermal_topic"] == "/sensing/camera/rear_thermal/image_raw"
    assert front.parameters["device"] == rear.parameters["device"] == "cpu"
    assert front.parameters["sync.thermal_offset_s"] == -0.012 and "sync.thermal_offset_s" not in rear.parameters
    assert rear.parameters["sync.slop_s"] == 0.03 and rear.parameters["output.label_map"] == ["person:PEDESTRIAN"]
    # Both cameras' registration holds for every node that looks at both.
    for node in ("detection_node", "tracker_node", "overlay_node"):
        assert plans[f"front/{node}"].parameters["registration.homography"] == HOMOGRAPHY
    assert plans["rear/tracker_node"].parameters["output.camera_info_topic"] == "/sensing/camera/rear_rgb/camera_info"
    assert (
        "output.camera_info_topic" not in rear.parameters
        and "output.autoware" not in plans["rear/overlay_node"].parameters
    )
    for plan in plans.values():
        build(NODE_PARAMETERS[plan.name], plan.parameters)


def test_rois_go_where_autoware_looks_for_them(rig: str) -> None:
    plans = {plan.label: plan.remaps for plan in system_nodes(PerceptionOptions(rig=rig))}
    place = "/perception/object_recognition/detection"
    assert plans["front/detection_node"] == {"detection_node:~/output/rois": f"{place}/rois0"}
    assert plans["front/tracker_node"] == {"tracker_node:~/output/rois": f"{place}/tracked_rois0"}
    assert plans["rear/tracker_node"] == {}


def test_two_nodes_in_one_process_get_what_each_of_them_would(rig: str) -> None:
    (front, rear) = system_nodes(PerceptionOptions(rig=rig, composed=True, namespace="/robot/"))
    assert (front.label, rear.label) == (f"robot/front/{COMPOSED}", f"robot/rear/{COMPOSED}")
    assert front.parameters["sync.thermal_offset_s"] == -0.012
    assert front.parameters["output.camera_info_topic"] == "/sensing/camera/front_rgb/camera_info"
    assert set(front.remaps) == {"detection_node:~/output/rois", "tracker_node:~/output/rois"}


def test_one_detection_node_may_serve_all_heads(rig: str) -> None:
    apart = {plan.label: plan for plan in system_nodes(PerceptionOptions(rig=rig, namespace="robot", overlay=True))}
    options = PerceptionOptions(
        rig=rig,
        namespace="robot",
        overlay=True,
        shared_detector=True,
        device="cpu",
        detections_topic="objects",
        preset="fast",
    )
    shared, *others = system_nodes(options)
    assert shared.label == "robot/detection_node" and shared.lifecycle
    # Trackers and overlays are those of the other layout.
    assert [plan.label for plan in others] == [label for label in apart if "detection_node" not in label]
    for plan in others:
        assert apart[plan.label].parameters.items() <= plan.parameters.items()
    parameters = dict(shared.parameters)
    assert parameters["rigs"] == ["front", "rear"] and parameters["device"] == "cpu"
    assert parameters["input_size"] == [256, 320]
    built = build(DetectionParameters, parameters)
    for head in ("front", "rear"):
        alone = build(DetectionParameters, apart[f"robot/{head}/detection_node"].parameters)
        served = built.of_rig(head)
        for name in RIG_OPTIONS:
            assert getattr(served, name) == getattr(alone, name), name
    place = "/perception/object_recognition/detection"
    assert shared.remaps == {
        "front/detections": "front/objects",
        "rear/detections": "rear/objects",
        "detection_node:front/detection_node/output/rois": f"{place}/rois0",
        "detection_node:rear/detection_node/output/rois": f"{place}/rois1",
    }


def test_a_value_of_all_heads_is_the_node_s_and_one_that_differs_is_refused(tmp_path: Path) -> None:
    content = copy.deepcopy(GOOD) | {"parameters": {"score_threshold": 0.2}}
    shared = system_nodes(PerceptionOptions(rig=write(tmp_path, content), shared_detector=True))[0]
    assert shared.parameters["score_threshold"] == 0.2 and shared.parameters["rear.rgb_topic"] == "/c"
    content["heads"][1]["parameters"] = {"score_threshold": 0.3}
    with pytest.raises(
        RigError, match="the heads differ in score_threshold, which the one node of shared_detector has"
    ):
        system_nodes(PerceptionOptions(rig=write(tmp_path, content), shared_detector=True))
    del content["parameters"]
    with pytest.raises(RigError, match="the heads differ in score_threshold"):
        system_nodes(PerceptionOptions(rig=write(tmp_path, content), shared_detector=True))
    system_nodes(PerceptionOptions(rig=write(tmp_path, content)))  # a node each has one each


def test_rois_without_a_slash_stay_under_the_head(tmp_path: Path) -> None:
    content = copy.deepcopy(GOOD) | {"parameters": {"output.autoware": True}}
    content["heads"][0]["rois_topic"] = "rois0"
    shared = system_nodes(PerceptionOptions(rig=write(tmp_path, content), shared_detector=True))[0]
    assert shared.remaps == {"detection_node:front/detection_node/output/rois": "front/rois0"}


def test_a_head_named_like_a_parameter_cannot_share_a_node(tmp_path: Path) -> None:
    path = write(tmp_path, spoiled(name="sync"))
    with pytest.raises(RigError, match="shared_detector: Parameter 'rigs' has the name 'sync', which is a parameter"):
        system_nodes(PerceptionOptions(rig=path, shared_detector=True))


def test_without_a_rig_nothing_changes() -> None:
    options = PerceptionOptions(rgb_topic="/rgb", namespace="robot", bag="b.mcap")
    assert system_nodes(options) == perception_nodes(options)


GOOD: dict[str, Any] = {
    "heads": [
        {"name": "front", "rgb_topic": "/a", "thermal_topic": "/b"},
        {"name": "rear", "rgb_topic": "/c", "thermal_topic": "/d"},
    ]
}


def spoiled(**changes: Any) -> dict[str, Any]:
    """The good rig with another second head."""
    content = copy.deepcopy(GOOD)
    head = content["heads"][1]
    for key, value in changes.items():
        if value is None:
            del head[key]
        else:
            head[key] = value
    return content


def test_the_least_that_a_rig_needs(tmp_path: Path) -> None:
    assert load_rig(write(tmp_path, GOOD)) == (Head("front", "/a", "/b"), Head("rear", "/c", "/d"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (spoiled(name="front"), "two heads have the name 'front'; each needs its own"),
        (spoiled(thermal_topic=None), "head rear lacks thermal_topic"),
        (spoiled(name=None, rgb_topic=None), "head 2 lacks name and rgb_topic"),
        (spoiled(rgb_topic=""), "head 'rear' needs a topic name as rgb_topic, got ''"),
        (spoiled(rgb_topic=3), "head 'rear' needs a topic name as rgb_topic, got 3"),
        (spoiled(thermal="/d"), "head 2 has the unknown key 'thermal'; known are name, rgb_topic, thermal_topic"),
        (spoiled(name="rear-left"), "the head name 'rear-left' must be letters, digits and _"),
        (spoiled(parameters={"sync": {"slop": 1}}), "head 'rear': There is no parameter 'sync.slop'; did you mean"),
        (spoiled(parameters={"sync.slop_s": 7.0}), "head 'rear': Parameter 'sync.slop_s' is 7.0, but must be 0 to 1"),
        (spoiled(parameters={"rigs": ["a"]}), "head 'rear': There is no parameter 'rigs'"),
        (spoiled(parameters={"registration.mode": "homography"}), "head 'rear': Registration option rgb_size is"),
        (spoiled(parameters=[1]), "parameters must hold names and values, got [1]"),
        (spoiled(rois_topic="/rois1"), "head 'rear' has a topic for ROIs; set its parameter output.autoware to true"),
        ({"heads": []}, "it needs heads: a list with one entry"),
        ({"head": []}, "the file has the unknown key 'head'; known are heads, parameters"),
        ("", "the file must hold keys and values, got None"),
        ("heads: [", "is no YAML: "),
    ],
)
def test_what_cannot_be_meant_gets_one_sentence(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(RigError) as refusal:
        load_rig(write(tmp_path, content))
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)
    assert str(tmp_path / "rig.yaml") in str(refusal.value)


def test_two_heads_must_not_write_the_same_rois(tmp_path: Path) -> None:
    content = copy.deepcopy(GOOD) | {"parameters": {"output.autoware": True}}
    for head in content["heads"]:
        head["rois_topic"] = "/rois0"
    with pytest.raises(RigError, match="two heads have the rois_topic '/rois0'"):
        load_rig(write(tmp_path, content))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rgb_topic": "/rgb"}, "rgb_topic is for one head alone; leave it out beside rig"),
        ({"bag": "b.mcap"}, "bag is for one head alone"),
        ({"tracks_topic": "/tracks"}, "tracks_topic is '/tracks', where all heads of the rig would meet"),
        ({"rig": "", "shared_detector": True}, "shared_detector is for the heads of a rig; name its file with rig"),
        ({"shared_detector": True, "composed": True}, "composed runs a detector in the process of each tracker"),
        ({"rig": "none.yaml"}, "The rig file none.yaml cannot be read: No such file or directory"),
    ],
)
def test_options_that_make_no_sense_beside_a_rig_are_refused(rig: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RigError, match=sentence):
        system_nodes(PerceptionOptions(**({"rig": rig} | options)))


def test_the_command_says_it_before_any_node_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mmkd_ros.nodes.perception", "--rig", write(tmp_path, spoiled(name="front"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("mmkd-perception: Rig file ") and "two heads have the name 'front'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.requires_ros
@pytest.mark.parametrize("shared", [False, True])
def test_the_heads_of_a_rig_run_side_by_side(ros_domain: int, rig: str, shared: bool) -> None:
    import rclpy

    # Waiting for a manager, the nodes load no weights; they are there with their names and parameters.
    command = [sys.executable, "-m", "mmkd_ros.nodes.perception", "--rig", rig, "--no-autostart"]
    command += ["--shared-detector"] * shared
    system = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    watcher = rclpy.create_node("watcher", context=context)
    wanted = {(node, f"/{head}") for head in ("front", "rear") for node in ("detection_node", "tracker_node")}
    if shared:
        wanted = {("detection_node", "/"), *(entry for entry in wanted if "tracker_node" in entry)}
    try:
        deadline = time.monotonic() + 120.0
        while not wanted <= set(watcher.get_node_names_and_namespaces()):
            assert system.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        watcher.destroy_node()
        context.try_shutdown()
        system.send_signal(signal.SIGINT)
        _, said = system.communicate(timeout=120)
    assert system.returncode == 0
    assert ("mmkd-perception: detection_node started" if shared else "front/detection_node started") in said
    assert "rear/tracker_node started" in said
