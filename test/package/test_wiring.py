"""Options of the whole system and the nodes that they make."""

from __future__ import annotations

import pytest

from mmkd_ros.parameters import NODE_PARAMETERS, build
from mmkd_ros.processes import NODES
from mmkd_ros.wiring import PerceptionOptions, perception_nodes


def test_launch_arguments_become_options() -> None:
    options = PerceptionOptions.from_text({"overlay": "True", "autostart": "0", "rgb_topic": "/rgb"})
    assert options == PerceptionOptions(overlay=True, autostart=False, rgb_topic="/rgb")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"overlay": "maybe"}, "overlay is 'maybe', but must be true or false"),
        ({"log_level": "loud"}, "log_level is 'loud', but must be one of debug, info"),
        ({"rgb": "/rgb"}, "no option 'rgb'; known are rgb_topic"),
    ],
)
def test_a_wrong_option_gets_a_sentence(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        PerceptionOptions.from_text(values)


def test_every_parameter_that_is_set_exists_and_fits() -> None:
    options = PerceptionOptions(
        rgb_topic="/rgb",
        thermal_topic="/thermal",
        weights="w.safetensors",
        device="cpu",
        overlay=True,
        bag="b.mcap",
        use_sim_time=True,
        autostart=False,
    )
    plans = perception_nodes(options)
    assert [plan.name for plan in plans] == ["detection_node", "tracker_node", "overlay_node", "replay_node"]
    for plan in plans:
        assert plan.name in NODES
        own = {name: value for name, value in plan.parameters.items() if name != "use_sim_time"}
        assert own
        build(NODE_PARAMETERS[plan.name], own)
        assert plan.lifecycle == (plan.name != "replay_node")


def test_the_replay_publishes_the_clock_and_does_not_wait_for_it() -> None:
    replay = perception_nodes(PerceptionOptions(bag="b.mcap", use_sim_time=True))[-1]
    assert replay.name == "replay_node"
    assert replay.ends_all
    assert replay.parameters["publish_clock"] is True
    assert "use_sim_time" not in replay.parameters


def test_without_a_choice_the_parameter_file_decides_everything() -> None:
    for plan in perception_nodes(PerceptionOptions()):
        assert dict(plan.parameters) == {}
        assert dict(plan.remaps) == {}


def test_outputs_can_be_renamed_for_writer_and_reader_alike() -> None:
    for plan in perception_nodes(PerceptionOptions(detections_topic="objects", overlay=True)):
        assert plan.remaps == {"detections": "objects"}
