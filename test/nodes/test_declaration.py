"""Parameters as ROS sees them: declared with ranges, set from files and by services."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter

from mmkd_ros.nodes.parameters import declare_parameters, read_parameters, weights_path
from mmkd_ros.parameters import DetectionParameters, ParameterError, ReplayParameters, specifications


@pytest.fixture
def context(ros_domain: int) -> Iterator[rclpy.Context]:
    made = rclpy.Context()
    rclpy.init(context=made, domain_id=ros_domain)
    yield made
    made.try_shutdown()


def make(context: rclpy.Context, *arguments: str, name: str = "detection_node", namespace: str = "") -> Node:
    return Node(
        name, context=context, namespace=namespace, cli_args=["--ros-args", *arguments], use_global_arguments=False
    )


def test_every_parameter_is_declared_with_its_description_and_range(context: rclpy.Context) -> None:
    node = make(context)
    assert declare_parameters(node, DetectionParameters) == DetectionParameters()
    for spec in specifications(DetectionParameters):
        descriptor = node.describe_parameter(spec.name)
        assert descriptor.description == spec.description
        value = node.get_parameter(spec.name).value
        assert (tuple(value) if spec.is_list else value) == spec.default
        ranges = descriptor.floating_point_range if spec.type is float else descriptor.integer_range
        if spec.minimum is not None:
            assert (ranges[0].from_value, ranges[0].to_value) == (spec.minimum, spec.maximum)
    node.destroy_node()


@pytest.mark.parametrize("namespace", ["", "/robot/front"])
def test_the_parameter_file_reaches_nodes_in_any_namespace(
    context: rclpy.Context, repo_root: Path, tmp_path: Path, namespace: str
) -> None:
    file = tmp_path / "changed.yaml"
    text = (repo_root / "config" / "perception.yaml").read_text()
    file.write_text(text.replace("slop_s: 0.05", "slop_s: 0.02", 1).replace("nms_iou: 0.4", "nms_iou: 1"))
    node = make(context, "--params-file", str(file), "-p", "device:=cpu", namespace=namespace)
    values = declare_parameters(node, DetectionParameters)
    assert values.sync.slop_s == 0.02 and values.device == "cpu"
    assert values.nms_iou == 1.0, "a whole number must do for a float"
    assert read_parameters(node, DetectionParameters) == values
    node.destroy_node()


def test_a_section_for_all_nodes_may_hold_parameters_of_others(context: rclpy.Context, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text("/**:\n  ros__parameters:\n    use_sim_time: true\n    trail_s: 1.0\n    rgb_topic: /a\n")
    node = make(context, "--params-file", str(file))
    assert declare_parameters(node, DetectionParameters).rgb_topic == "/a"
    assert node.get_parameter("use_sim_time").value is True
    node.destroy_node()


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [("weihgts:=a", "did you mean 'weights'"), ("sync.slop_s:=9.0", "must be 0 to 1"), ("device:=1", "must be text")],
)
def test_what_does_not_fit_is_refused_with_the_name_of_the_node(
    context: rclpy.Context, argument: str, sentence: str
) -> None:
    node = make(context, "-p", argument)
    with pytest.raises(ParameterError) as refusal:
        declare_parameters(node, DetectionParameters)
    assert str(refusal.value).startswith("detection_node: ") and sentence in str(refusal.value)
    node.destroy_node()


def test_parameters_that_are_read_once_cannot_be_set(context: rclpy.Context) -> None:
    node = make(context, name="replay_node")
    declare_parameters(node, ReplayParameters)
    assert not node.set_parameters([Parameter("rate", value=2.0)])[0].successful
    node.destroy_node()


def test_changes_are_judged_by_the_dataclass(context: rclpy.Context) -> None:
    node = make(context)
    allowed = True
    declare_parameters(node, DetectionParameters, changeable=lambda: allowed)
    assert node.set_parameters([Parameter("sync.slop_s", value=0.01)])[0].successful
    result = node.set_parameters([Parameter("image_reliability", value="perfect")])[0]
    assert not result.successful and "one of best_effort, reliable" in result.reason
    assert not node.set_parameters([Parameter("autostart", value=False)])[0].successful
    assert read_parameters(node, DetectionParameters).sync.slop_s == 0.01
    allowed = False
    assert node.set_parameters([Parameter("sync.slop_s", value=0.02)])[0].successful  # may change while the node runs
    result = node.set_parameters([Parameter("sync.slop_s", value=2.0)])[0]
    assert not result.successful
    result = node.set_parameters([Parameter("device", value="cpu")])[0]
    assert not result.successful and "clean the node up first" in result.reason
    node.destroy_node()


def test_weights_are_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"")
    assert weights_path(str(tmp_path / "w.safetensors")) == tmp_path / "w.safetensors"
    with pytest.raises(FileNotFoundError, match="There is no weights file"):
        weights_path(str(tmp_path / "x.safetensors"))
    with pytest.raises(FileNotFoundError, match="models/x.safetensors"):
        weights_path("x.safetensors")
    monkeypatch.chdir(tmp_path)
    assert weights_path("w.safetensors") == Path("w.safetensors")
