"""Options of the whole system and the nodes that they make."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmkd_ros.parameters import NODE_PARAMETERS, build
from mmkd_ros.processes import NODES
from mmkd_ros.wiring import PRESETS, PerceptionOptions, perception_nodes


def test_launch_arguments_become_options() -> None:
    options = PerceptionOptions.from_text({"overlay": "True", "autostart": "0", "rgb_topic": "/rgb"})
    assert options == PerceptionOptions(overlay=True, autostart=False, rgb_topic="/rgb")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"overlay": "maybe"}, "overlay is 'maybe', but must be true or false"),
        ({"log_level": "loud"}, "log_level is 'loud', but must be one of debug, info"),
        ({"preset": "slow"}, "preset is 'slow', but must be one of"),
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


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_parameters_that_exist(repo_root: Path, preset: str) -> None:
    detection, *others = perception_nodes(PerceptionOptions(preset=preset, weights="w.safetensors"))
    height, width = detection.parameters["input_size"]  # type: ignore[misc]
    assert height % 32 == width % 32 == 0 < height < width
    assert build(NODE_PARAMETERS["detection_node"], detection.parameters).weights == "w.safetensors"
    assert not any(plan.parameters for plan in others)
    assert {path.stem for path in (repo_root / "config" / "presets").iterdir()} == set(PRESETS)


def test_the_presets_are_in_order() -> None:
    pixels = []
    for preset in PRESETS:
        height, width = perception_nodes(PerceptionOptions(preset=preset))[0].parameters["input_size"]  # type: ignore[misc]
        pixels.append(height * width)
    assert pixels == sorted(pixels)


def test_the_replay_publishes_the_clock_and_does_not_wait_for_it() -> None:
    replay = perception_nodes(PerceptionOptions(bag="b.mcap", use_sim_time=True))[-1]
    assert replay.name == "replay_node"
    assert replay.ends_all
    assert replay.parameters["publish_clock"] is True
    assert "use_sim_time" not in replay.parameters


def test_one_process_gets_the_parameters_of_both_nodes() -> None:
    chosen = {"rgb_topic": "/rgb", "weights": "w.onnx", "preset": "fast", "device": "cpu", "tracks_topic": "objects"}
    apart = perception_nodes(PerceptionOptions(**chosen))  # type: ignore[arg-type]
    (together,) = perception_nodes(PerceptionOptions(**chosen, composed=True))  # type: ignore[arg-type]
    assert together.name == "composed_node" and together.node_name is None and together.remaps == {"tracks": "objects"}
    assert together.parameters == {**apart[0].parameters, **apart[1].parameters}
    assert [plan.node_name for plan in apart] == ["detection_node", "tracker_node"]


def test_without_a_choice_the_parameter_file_decides_everything() -> None:
    for plan in perception_nodes(PerceptionOptions()):
        assert dict(plan.parameters) == {}
        assert dict(plan.remaps) == {}


def test_outputs_can_be_renamed_for_writer_and_reader_alike() -> None:
    for plan in perception_nodes(PerceptionOptions(detections_topic="objects", overlay=True)):
        assert plan.remaps == {"detections": "objects"}
