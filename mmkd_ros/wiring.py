"""Which nodes make up the perception system and how they are connected. No ROS import.

``launch/perception.launch.py`` and ``mmkd-perception`` both take their options and their nodes from here, so that
they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import yaml

from mmkd_ros.option import option
from mmkd_ros.parameters import NODE_PARAMETERS, specifications
from mmkd_ros.processes import COMPOSED, ParameterValue
from mmkd_ros.share import share_path

PRESETS = ("fast", "balanced", "accurate")
"""Names of the parameter files in config/presets."""

# The nodes need seconds to start; the replay waits until the first of them listens to both cameras.
_REPLAY_WAITS_S = 60.0


@dataclass(frozen=True)
class PerceptionOptions:
    """What a user chooses when starting the system; an empty text leaves the choice to the parameter file.

    Raises:
        ValueError: a value that is not among the choices.
    """

    rgb_topic: str = option("", "topic of the RGB images (empty: as in the parameter file)")
    thermal_topic: str = option("", "topic of the thermal images (empty: as in the parameter file)")
    rig: str = option("", "YAML file of several RGB-thermal heads, in place of rgb_topic and thermal_topic")
    shared_detector: bool = option(False, "with rig: one detection node for all heads instead of one each")
    params_file: str = option("", "ROS parameter file of all nodes (empty: the package's config/perception.yaml)")
    weights: str = option("", "detector weights, .safetensors or exported (empty: as in the parameter file)")
    preset: str = option("", "size of the network's input (empty: as in the parameter file)", choices=("", *PRESETS))
    device: str = option("", "where the network runs: auto, cpu, cuda or cuda:N (empty: as in the parameter file)")
    namespace: str = option("", "namespace of the nodes and of their outputs")
    detections_topic: str = option("detections", "topic of the detections")
    tracks_topic: str = option("tracks", "topic of the tracks")
    composed: bool = option(False, "detection and tracking in one process, which share images and detections")
    overlay: bool = option(False, "also draw the tracks into the RGB image, on the topic overlay")
    bag: str = option("", "rosbag2 recording to replay; its topics are rgb_topic and thermal_topic, or found by type")
    use_sim_time: bool = option(False, "take the time from /clock; with bag, the replay publishes it")
    autostart: bool = option(True, "configure and activate the nodes without a lifecycle manager")
    respawn: bool = option(False, "start a node again when it ends unexpectedly")
    log_level: str = option(
        "info", "least severity that is logged", choices=("debug", "info", "warn", "error", "fatal")
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            value, choices = getattr(self, item.name), item.metadata["choices"]
            if choices and value not in choices:
                raise ValueError(f"{item.name} is '{value}', but must be one of {', '.join(choices)}.")

    @classmethod
    def from_text(cls, values: Mapping[str, str]) -> PerceptionOptions:
        """Options from launch arguments, which are all text.

        Raises:
            ValueError: an unknown option, a switch that is neither true nor false, a value not among the choices.
        """
        known = {item.name: item for item in fields(cls)}
        converted: dict[str, Any] = {}
        for name, text in values.items():
            if name not in known:
                raise ValueError(f"There is no option '{name}'; known are {', '.join(known)}.")
            is_switch = isinstance(known[name].default, bool)
            converted[name] = _switch(name, text) if is_switch else text
        return cls(**converted)


@dataclass(frozen=True)
class NodePlan:
    """One node to start.

    Attributes:
        name: of the node, of its executable and of its module; ``COMPOSED`` for two nodes in one process.
        parameters: that win over the parameter file.
        remaps: topic names, from -> to.
        ends_all: the system ends with this node, as with a replay that is over.
        namespace: of the node, without a slash at its ends.
    """

    name: str
    parameters: Mapping[str, ParameterValue]
    remaps: Mapping[str, str]
    ends_all: bool = False
    namespace: str = ""

    @property
    def label(self) -> str:
        """Name and namespace, for messages."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def node_name(self) -> str | None:
        """Name that the process gets, None where its nodes keep their own."""
        return None if self.name == COMPOSED else self.name

    @property
    def lifecycle(self) -> bool:
        """Whether the node is managed (configure, activate, ...)."""
        return "autostart" in _parameter_names(self.name)


def perception_nodes(options: PerceptionOptions) -> tuple[NodePlan, ...]:
    """The nodes that the options ask for, connected with each other."""
    names = ["detection_node", "tracker_node"]
    plans = [NodePlan(name, _parameters(name, options), _remaps(options)) for name in names]
    if options.composed:
        # Parameters of the other node are left alone by each.
        together = {key: value for plan in plans for key, value in plan.parameters.items()}
        plans = [NodePlan(COMPOSED, together, _remaps(options))]
    if options.overlay:
        plans.append(NodePlan("overlay_node", _parameters("overlay_node", options), _remaps(options)))
    if options.bag:
        plans.append(NodePlan("replay_node", _replay_parameters(options), {}, ends_all=True))
    return tuple(replace(plan, namespace=options.namespace.strip("/")) for plan in plans)


def _parameters(name: str, options: PerceptionOptions) -> dict[str, ParameterValue]:
    chosen: dict[str, ParameterValue] = {
        "rgb_topic": options.rgb_topic,
        "thermal_topic": options.thermal_topic,
        "device": options.device,
    }
    if name == "detection_node":
        chosen["weights"] = options.weights
    known = _parameter_names(name)
    parameters = _preset(name, options.preset)
    parameters |= {key: value for key, value in chosen.items() if value and key in known}
    if not options.autostart and "autostart" in known:
        parameters["autostart"] = False
    if options.use_sim_time:
        parameters["use_sim_time"] = True
    return parameters


def _preset(name: str, preset: str) -> dict[str, ParameterValue]:
    """What a preset's file says to a node."""
    if not preset:
        return {}
    content = yaml.safe_load(share_path(f"config/presets/{preset}.yaml").read_text(encoding="utf-8"))
    return dict(content.get(f"/**/{name}", {}).get("ros__parameters", {}))


def _replay_parameters(options: PerceptionOptions) -> dict[str, ParameterValue]:
    parameters: dict[str, ParameterValue] = {"bag": options.bag, "wait_for_subscribers_s": _REPLAY_WAITS_S}
    for camera, topic in (("rgb", options.rgb_topic), ("thermal", options.thermal_topic)):
        if topic:
            parameters[f"{camera}_topic"] = parameters[f"{camera}_out"] = topic
    if options.use_sim_time:
        parameters["publish_clock"] = True
    return parameters


def _remaps(options: PerceptionOptions) -> dict[str, str]:
    wanted = {"detections": options.detections_topic, "tracks": options.tracks_topic}
    return {source: target for source, target in wanted.items() if target != source}


def _parameter_names(node: str) -> set[str]:
    return {spec.name for spec in specifications(NODE_PARAMETERS[node])} if node in NODE_PARAMETERS else set()


def _switch(name: str, text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise ValueError(f"{name} is '{text}', but must be true or false.")
