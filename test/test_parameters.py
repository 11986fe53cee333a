"""Parameters: the file, the table and the checks all follow from the dataclasses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmkd_ros.pairing import SyncOptions
from mmkd_ros.parameters import (
    NODE_PARAMETERS,
    DetectionParameters,
    ParameterError,
    TrackerParameters,
    build,
    parameter_table_markdown,
    specifications,
    unknown_parameter,
    values_of,
)
from mmkd_ros.tracking import TrackerOptions


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    names: dict[str, Any] = {}
    for name, value in values.items():
        names |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return names


def test_the_parameter_file_holds_every_parameter_at_its_default(repo_root: Path) -> None:
    text = yaml.safe_load((repo_root / "config" / "perception.yaml").read_text())
    assert set(text) == {f"/**/{node}" for node in NODE_PARAMETERS}
    for node, parameters in NODE_PARAMETERS.items():
        written = flat(text[f"/**/{node}"]["ros__parameters"])
        specs = specifications(parameters)
        assert written == {spec.name: list(spec.default) if spec.is_list else spec.default for spec in specs}  # type: ignore[arg-type]
        for spec in specs:
            items = written[spec.name] if spec.is_list else [written[spec.name]]
            kinds = {type(item) for item in items}
            assert kinds == {spec.type}, f"{node}: {spec.name} must be written as {spec.type.__name__}"


@pytest.mark.parametrize("parameters", NODE_PARAMETERS.values())
def test_every_parameter_is_described_and_its_default_fits(parameters: type) -> None:
    assert build(parameters, {spec.name: spec.default for spec in specifications(parameters)}) == parameters()
    for spec in specifications(parameters):
        assert len(spec.description) > 10 and not spec.description.endswith(".")
        if spec.type in (int, float) and not spec.is_list:
            assert spec.minimum is not None and spec.maximum is not None


def test_options_of_the_core_have_the_defaults_of_the_core() -> None:
    assert DetectionParameters().sync == SyncOptions()
    assert TrackerParameters().tracker == TrackerOptions()
    pytest.importorskip("torch")
    from mmkd_ros.inference import InferenceOptions

    shared = {field.name for field in dataclasses.fields(InferenceOptions)}
    ours = DetectionParameters()
    assert InferenceOptions(**{name: getattr(ours, name) for name in shared}) == InferenceOptions()


def test_the_table_names_everything() -> None:
    table = parameter_table_markdown()
    for node, parameters in NODE_PARAMETERS.items():
        section = table.partition(f"**{node}**")[2].partition("\n**")[0]
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        assert [row.split("`")[1] for row in rows] == [spec.name for spec in specifications(parameters)]
        assert all(row.count("|") == 5 for row in rows)


def test_dotted_names_reach_the_groups() -> None:
    built = build(DetectionParameters, {"sync.slop_s": 0.02, "score_threshold": 1, "device": "cuda:1"})
    assert built.sync == SyncOptions(slop_s=0.02)
    assert built.score_threshold == 1.0 and isinstance(built.score_threshold, float)
    assert build(TrackerParameters, {"tracker.n_init": 5}).tracker.n_init == 5


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"score_treshold": 0.5}, "no parameter 'score_treshold'; did you mean 'score_threshold'"),
        ({"slop": 0.5}, "did you mean 'sync.slop_s'"),
        ({"zzz": 0.5}, "known are autostart, backend, device"),
        ({"score_threshold": 1.5}, "'score_threshold' is 1.5, but must be 0 to 1"),
        ({"score_threshold": float("nan")}, "must be 0 to 1"),
        ({"score_threshold": "high"}, "must be a number"),
        ({"score_threshold": True}, "must be a number"),
        ({"max_detections": 3.0}, "must be a whole number"),
        ({"max_detections": True}, "must be a whole number"),
        ({"rgb_compressed": 1}, "must be true or false"),
        ({"rgb_topic": None}, "must be text"),
        ({"image_reliability": "perfect"}, "one of best_effort, reliable"),
        ({"registration.mode": "magic"}, "one of identity, homography, cameras"),
        ({"registration.rotation": 3.0}, "must be a list, each item a number"),
        ({"registration.rotation": ["x"] * 9}, "must be a number"),
        ({"registration.rotation": [1.0, 0.0]}, "must be 9 finite numbers"),
        ({"registration.mode": "homography"}, "rgb_size is (0, 0)"),
        ({"sync.policy": "luck"}, "one of native, approximate_time, exact_time"),
        ({"sync.max_queue": 0}, "'sync.max_queue' is 0, but must be 1 to 256"),
    ],
)
def test_what_does_not_fit_gets_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError) as refusal:
        build(DetectionParameters, values)
    assert sentence in str(refusal.value)


def test_lists_become_tuples_and_whole_numbers_floats() -> None:
    numbers = [1, 0, 5, 0, 1, 0, 0, 0, 1]
    built = build(DetectionParameters, {"registration.homography": numbers, "registration.rgb_size": [640, 512]})
    assert built.registration.homography == (1.0, 0.0, 5.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    assert all(isinstance(number, float) for number in built.registration.homography)
    assert built.registration.rgb_size == (640, 512)


def test_a_dataclass_made_by_hand_is_checked_too() -> None:
    with pytest.raises(ParameterError, match="nms_iou"):
        DetectionParameters(nms_iou=2.0)


def test_the_hint_is_a_name_that_exists() -> None:
    names = [spec.name for spec in specifications(TrackerParameters)]
    assert "'tracker.max_age_s'" in unknown_parameter("max_age", names)
    assert "'tracker.max_age_s'" in unknown_parameter("tracker.max_age", names)


def test_the_readme_shows_every_parameter_as_it_is(repo_root: Path) -> None:
    assert parameter_table_markdown().strip() in (repo_root / "README.md").read_text(encoding="utf-8")


RIGS = {"rigs": ["front", "rear"], "sync.slop_s": 0.03, "rgb_topic": "/rgb/image_raw"}


def test_a_rig_has_its_own_values_and_else_those_of_the_node() -> None:
    own = {"front.sync.thermal_offset_s": 1, "front.rgb_topic": "/cam/rgb", "rear.output.autoware": True}
    built = build(DetectionParameters, RIGS | own)
    front, rear = built.of_rig("front"), built.of_rig("rear")
    assert (front.rgb_topic, front.thermal_topic) == ("/cam/rgb", "thermal/image_raw")
    assert (rear.rgb_topic, rear.thermal_topic) == ("rgb/image_raw", "thermal/image_raw")
    assert front.sync == SyncOptions(slop_s=0.03, thermal_offset_s=1.0) and rear.sync == SyncOptions(slop_s=0.03)
    assert not front.output.autoware and rear.output.autoware
    assert values_of(built)["front.sync.thermal_offset_s"] == 1.0
    assert build(DetectionParameters, values_of(built)) == built


def test_without_names_there_is_one_rig_and_nothing_changes() -> None:
    built = DetectionParameters()
    assert built.rigs == ("",) and built.of_rig("") is built
    assert set(values_of(built)) == {spec.name for spec in specifications(DetectionParameters)}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rigs": ["front", "front"]}, "'rigs' has the name 'front' twice; each rig needs its own"),
        ({"rigs": ["front", ""]}, "'rigs' has the name '', but a rig's name is letters, digits and _"),
        ({"rigs": ["front-left"]}, "'rigs' has the name 'front-left', but"),
        ({"rigs": ["2nd"]}, "'rigs' has the name '2nd', but"),
        ({"rigs": ["sync"]}, "'rigs' has the name 'sync', which is a parameter"),
        ({"rigs": []}, "'rigs' is empty; write \\[''\\] for one rig"),
        ({"rigs": "front"}, "'rigs' is 'front', but must be a list"),
        ({**RIGS, "front.sync.slop": 0.1}, "no parameter 'front.sync.slop'; did you mean 'front.sync.slop_s'"),
        ({**RIGS, "left.sync.slop_s": 0.1}, "no parameter 'left.sync.slop_s'"),
        ({**RIGS, "front.threads": 2}, "no parameter 'front.threads'"),
        ({**RIGS, "rear.sync.slop_s": 7.0}, "'rear.sync.slop_s' is 7.0, but must be 0 to 1"),
        ({**RIGS, "rear.registration.mode": "homography"}, "Rig 'rear': Registration option rgb_size"),
        ({"front.sync.slop_s": 0.1}, "no parameter 'front.sync.slop_s'"),
    ],
)
def test_rigs_that_cannot_be_meant_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        build(DetectionParameters, values)
