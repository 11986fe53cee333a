"""The launch file, with the real ``launch`` of a ROS distribution where there is one, and with recording stand-ins."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mmkd_ros.wiring import PerceptionOptions

# The folder launch/ of the source tree looks like a package of that name; launch_ros tells whether the real one is
# here.
HAVE_LAUNCH = importlib.util.find_spec("launch_ros") is not None
NAMES = {
    "launch": ("LaunchContext", "LaunchDescription", "LaunchDescriptionEntity"),
    "launch.actions": (
        "DeclareLaunchArgument",
        "IncludeLaunchDescription",
        "OpaqueFunction",
        "SetEnvironmentVariable",
        "Shutdown",
    ),
    "launch.conditions": ("IfCondition",),
    "launch.launch_description_sources": ("PythonLaunchDescriptionSource",),
    "launch.substitutions": ("LaunchConfiguration", "PathJoinSubstitution"),
    "launch_ros": (),
    "launch_ros.actions": ("LifecycleNode", "Node"),
    "launch_ros.substitutions": ("FindPackageShare",),
}


class Recorded:
    """An action or a substitution that only remembers how it was made."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments, self.options = arguments, options

    def perform(self, context: dict[str, str]) -> str:
        return context[self.arguments[0]]

    @property
    def kind(self) -> str:
        return type(self).__name__


def load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("perception_launch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording stand-ins in place of ``launch``."""
    for name, members in NAMES.items():
        module = types.ModuleType(name)
        for member in members:
            setattr(module, member, type(member, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def recorded(repo_root: Path, stand_ins: None) -> list[Recorded]:
    """The entities of the launch description, made of stand-ins."""
    description = load(repo_root / "launch" / "perception.launch.py").generate_launch_description()
    assert description.kind == "LaunchDescription"
    return description.arguments[0]


def arguments(entities: list[Recorded]) -> dict[str, Recorded]:
    return {entity.arguments[0]: entity for entity in entities if entity.kind == "DeclareLaunchArgument"}


def nodes(entities: list[Recorded], **chosen: str) -> dict[str, Recorded]:
    """The node actions that the launch file makes for the given arguments."""
    context = {name: entity.options["default_value"] for name, entity in arguments(entities).items()}
    context["params_file"] = "perception.yaml"
    assert set(chosen) <= set(context)
    (function,) = [entity for entity in entities if entity.kind == "OpaqueFunction"]
    return {action.options["name"]: action for action in function.options["function"]({**context, **chosen})}


def test_the_arguments_are_those_of_the_console_script(recorded: list[Recorded]) -> None:
    declared = arguments(recorded)
    assert set(declared) == {item.name for item in fields(PerceptionOptions)} | {"rviz"}
    assert all(len(entity.options["description"]) > 10 for entity in declared.values())


def test_the_parameter_file_is_found_in_the_package_share(recorded: list[Recorded]) -> None:
    default = arguments(recorded)["params_file"].options["default_value"]
    config, file = default.arguments[0]
    share, folder = config.arguments[0]
    assert (share.kind, share.arguments, folder, file) == (
        "FindPackageShare",
        ("mmkd_ros",),
        "config",
        "perception.yaml",
    )


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(("users", "expected"), [(None, 1), ("", 1), ("/etc/mine.xml", 0)])
def test_the_fast_dds_profile_is_set_only_where_the_user_has_none(
    users: str | None, expected: int, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = "FASTRTPS_DEFAULT_PROFILES_FILE"
    monkeypatch.delenv(variable, raising=False)
    if users is not None:
        monkeypatch.setenv(variable, users)
    entities = load(repo_root / "launch" / "perception.launch.py").generate_launch_description().arguments[0]
    actions = [entity for entity in entities if entity.kind == "SetEnvironmentVariable"]
    assert len(actions) == expected
    for action in actions:
        name, path = action.arguments
        assert (name, path.kind, path.arguments[0][1]) == (variable, "PathJoinSubstitution", "fastdds_shm.xml")


def test_by_default_two_managed_nodes_run_with_the_parameter_file(recorded: list[Recorded]) -> None:
    made = nodes(recorded)
    assert set(made) == {"detection_node", "tracker_node"}
    for name, action in made.items():
        assert action.kind == "LifecycleNode"
        assert action.options["package"] == "mmkd_ros"
        assert action.options["executable"] == name
        assert action.options["parameters"] == ["perception.yaml"]
        assert action.options["remappings"] == []
        assert action.options["ros_arguments"] == ["--log-level", "info"]
        assert action.options["respawn"] is False
        assert action.options["additional_env"] is None
        assert action.options["on_exit"] is None


def test_what_the_user_chooses_reaches_the_nodes(recorded: list[Recorded]) -> None:
    made = nodes(
        recorded,
        rgb_topic="/cam/rgb",
        weights="w.safetensors",
        namespace="robot",
        overlay="true",
        use_sim_time="true",
        autostart="false",
        respawn="true",
        log_level="debug",
        tracks_topic="objects",
    )
    assert set(made) == {"detection_node", "tracker_node", "overlay_node"}
    detection = made["detection_node"].options
    assert detection["parameters"] == [
        "perception.yaml",
        {"rgb_topic": "/cam/rgb", "weights": "w.safetensors", "autostart": False, "use_sim_time": True},
    ]
    for action in made.values():
        assert action.options["namespace"] == "robot"
        assert action.options["remappings"] == [("tracks", "objects")]
        assert action.options["ros_arguments"] == ["--log-level", "debug"]
        assert action.options["respawn"] is True
        assert action.options["additional_env"] == {"MMKD_OWN_PORTS": "1"}


def test_two_nodes_in_one_process_keep_their_names(recorded: list[Recorded]) -> None:
    made = nodes(recorded, composed="true", weights="w.onnx", preset="fast", overlay="true")
    assert set(made) == {None, "overlay_node"}
    together = made[None].options  # type: ignore[index]
    assert made[None].kind == "Node" and together["executable"] == "composed_node"  # type: ignore[index]
    assert together["parameters"] == ["perception.yaml", {"weights": "w.onnx", "input_size": [256, 320]}]


def test_a_recording_is_replayed_on_the_topics_that_the_nodes_read(recorded: list[Recorded]) -> None:
    made = nodes(recorded, bag="night.mcap", thermal_topic="/ir", respawn="true")
    replay = made["replay_node"]
    assert replay.kind == "Node"
    assert replay.options["respawn"] is False
    assert replay.options["on_exit"].kind == "Shutdown"
    chosen = replay.options["parameters"][1]
    assert (chosen["bag"], chosen["thermal_topic"], chosen["thermal_out"]) == ("night.mcap", "/ir", "/ir")
    assert "rgb_topic" not in chosen
    assert made["detection_node"].options["parameters"][1] == {"thermal_topic": "/ir"}


def test_rviz_opens_on_request_only(recorded: list[Recorded], repo_root: Path) -> None:
    (rviz,) = [entity for entity in recorded if entity.kind == "Node"]
    condition = rviz.options["condition"]
    assert (condition.kind, condition.arguments[0].arguments) == ("IfCondition", ("rviz",))
    assert arguments(recorded)["rviz"].options["default_value"] == "false"
    assert (repo_root / "config" / rviz.options["arguments"][1].arguments[0][1]).is_file()


def test_a_rig_makes_the_nodes_of_every_head(recorded: list[Recorded], repo_root: Path) -> None:
    (function,) = [entity for entity in recorded if entity.kind == "OpaqueFunction"]
    context = {name: entity.options["default_value"] for name, entity in arguments(recorded).items()}
    context |= {"params_file": "perception.yaml", "rig": str(repo_root / "config" / "rig_example.yaml")}
    made = function.options["function"](context)
    assert [(action.options["namespace"], action.options["name"]) for action in made] == [
        ("front", "detection_node"),
        ("front", "tracker_node"),
        ("rear", "detection_node"),
        ("rear", "tracker_node"),
    ]
    front = made[0].options
    assert front["parameters"][1]["rgb_topic"] == "/sensing/camera/front_rgb/image_raw"
    assert front["remappings"] == [("detection_node:~/output/rois", "/perception/object_recognition/detection/rois0")]


def test_a_rig_with_one_detector_for_all_its_heads(recorded: list[Recorded], repo_root: Path) -> None:
    (function,) = [entity for entity in recorded if entity.kind == "OpaqueFunction"]
    context = {name: entity.options["default_value"] for name, entity in arguments(recorded).items()}
    context |= {"params_file": "perception.yaml", "rig": str(repo_root / "config" / "rig_example.yaml")}
    made = function.options["function"]({**context, "shared_detector": "true"})
    assert [(action.options["namespace"], action.options["name"]) for action in made] == [
        ("", "detection_node"),
        ("front", "tracker_node"),
        ("rear", "tracker_node"),
    ]
    shared = made[0].options
    assert made[0].kind == "LifecycleNode" and shared["parameters"][1]["rigs"] == ["front", "rear"]
    place = "/perception/object_recognition/detection"
    assert ("detection_node:front/detection_node/output/rois", f"{place}/rois0") in shared["remappings"]


@pytest.mark.usefixtures("stand_ins")
def test_the_launch_file_of_rigs_hands_its_file_on(repo_root: Path) -> None:
    description = load(repo_root / "launch" / "rig.launch.py").generate_launch_description()
    argument, include = description.arguments[0]
    assert argument.arguments == ("rig",) and "default_value" not in argument.options  # there is no rig to fall back on
    (path,) = include.arguments[0].arguments[0]
    assert path.arguments[0][1:] == ["launch", "perception.launch.py"]
    assert (repo_root / "launch" / path.arguments[0][2]).is_file()
    ((name, value),) = include.options["launch_arguments"]
    assert (name, value.arguments) == ("rig", ("rig",))


@pytest.mark.skipif(not HAVE_LAUNCH, reason="needs launch and launch_ros, which come with a ROS distribution")
class TestRealLaunch:
    """The same file, read by the real ``launch``."""

    @pytest.fixture
    def context(self, repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        from launch import LaunchContext

        # An ament index with the source tree in it: the test needs no installation.
        marker = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / "mmkd_ros"
        marker.parent.mkdir(parents=True)
        marker.touch()
        (tmp_path / "share" / "mmkd_ros").symlink_to(repo_root)
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
        monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
        yield LaunchContext(argv=[])

    def test_the_description_is_valid_and_makes_its_nodes(self, context: Any, repo_root: Path, tmp_path: Path) -> None:
        from launch.actions import OpaqueFunction

        description = load(repo_root / "launch" / "perception.launch.py").generate_launch_description()
        declared = description.get_launch_arguments()
        assert {item.name for item in fields(PerceptionOptions)} < {argument.name for argument in declared}
        context.launch_configurations.update(overlay="true", namespace="robot", bag=str(tmp_path))
        made = []
        for entity in description.entities:
            if entity.condition is not None and not entity.condition.evaluate(context):
                continue
            result = entity.visit(context)
            if isinstance(entity, OpaqueFunction):
                made += result
        assert [action.node_executable for action in made] == [
            "detection_node",
            "tracker_node",
            "overlay_node",
            "replay_node",
        ]
        assert context.environment["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("config/fastdds_shm.xml")
