"""Rigs of several RGB-thermal heads: one YAML file says how they differ, each head has a namespace of its own.

In: the file, and the options that all heads share. Out: the nodes to start, as from ``mmkd_ros.wiring``. What is wrong
in the file is said before any node starts. No ROS import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from mmkd_ros.parameters import (
    NODE_PARAMETERS,
    RIG_NAME,
    RIG_OPTIONS,
    DetectionParameters,
    ParameterError,
    build,
    specifications,
    unknown_parameter,
    value_of,
)
from mmkd_ros.processes import COMPOSED, ParameterValue
from mmkd_ros.wiring import NodePlan, PerceptionOptions, perception_nodes

_NODES = ("detection_node", "tracker_node", "overlay_node")


class RigError(ValueError):
    """A rig file, or an option beside it, that cannot be used; the sentence says what is wrong and where."""


@dataclass(frozen=True)
class Head:
    """One RGB and one thermal camera that look the same way.

    Attributes:
        name: namespace of its nodes and topics.
        rgb_topic: of the RGB images.
        thermal_topic: of the thermal images.
        rois_topic: where the ROIs of its detections go, such as Autoware's ``rois0``; empty leaves them where they are.
        tracked_rois_topic: the same for its tracks.
        parameters: node parameters by dotted name, each for those of its nodes that have it.

    Raises:
        RigError: a name that ROS refuses, a topic that is missing, a parameter that is unknown or does not fit.
    """

    name: str
    rgb_topic: str
    thermal_topic: str
    rois_topic: str = ""
    tracked_rois_topic: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not RIG_NAME.fullmatch(str(self.name)):
            raise RigError(f"the head name '{self.name}' must be letters, digits and _, a letter first.")
        for key in ("rgb_topic", "thermal_topic", "rois_topic", "tracked_rois_topic"):
            topic, required = getattr(self, key), key in ("rgb_topic", "thermal_topic")
            if not isinstance(topic, str) or (required and not topic):
                raise RigError(f"head '{self.name}' needs a topic name as {key}, got {topic!r}.")
        known = {spec.name for node in _NODES for spec in specifications(NODE_PARAMETERS[node])} - {"rigs"}
        for name in self.parameters:
            if name not in known:
                raise RigError(f"head '{self.name}': {unknown_parameter(name, known)}")
        if (self.rois_topic or self.tracked_rois_topic) and not self.parameters.get("output.autoware"):
            raise RigError(
                f"head '{self.name}' has a topic for ROIs; set its parameter output.autoware to true as well."
            )
        for node in _NODES:
            self.node_parameters(node)

    def node_parameters(self, node: str) -> dict[str, ParameterValue]:
        """Those of ``parameters`` that this node has, in their declared types.

        Raises:
            RigError: a value that does not fit.
        """
        kind = NODE_PARAMETERS[node]
        names = {spec.name for spec in specifications(kind)}
        own = {name: value for name, value in self.parameters.items() if name in names}
        try:
            built: Any = build(kind, own)
        except ParameterError as error:
            raise RigError(f"head '{self.name}': {error}") from error
        values: dict[str, Any] = {name: value_of(built, name) for name in own}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def remaps(self, node: str) -> dict[str, str]:
        """Where the ROIs of this node go."""
        topic = {"detection_node": self.rois_topic, "tracker_node": self.tracked_rois_topic}.get(node)
        # The name of the node keeps the rule to itself where two nodes share a process.
        return {f"{node}:~/output/rois": topic} if topic else {}


def load_rig(path: str | Path) -> tuple[Head, ...]:
    """Read and check a rig file.

    Its keys are ``heads``, a list of mappings with the attributes of :class:`Head`, and ``parameters``, which every
    head gets; its own win. Parameters may be nested, as in a ROS parameter file.

    Raises:
        RigError: there is no such file, or what it says cannot be meant.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RigError(f"The rig file {path} cannot be read: {error.strerror}; correct rig.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RigError(f"The rig file {path} is no YAML: {' '.join(str(error).split())}.") from error
    try:
        return _heads(_mapping(content, ("heads", "parameters"), "the file"))
    except RigError as error:
        raise RigError(f"Rig file {path}: {error}") from error


def _heads(content: Mapping[str, Any]) -> tuple[Head, ...]:
    listed = content.get("heads")
    if not isinstance(listed, list) or not listed:
        raise RigError("it needs heads: a list with one entry for each RGB and thermal camera pair.")
    shared = _flat(content.get("parameters") or {})
    heads: list[Head] = []
    for number, entry in enumerate(listed, 1):
        given = _mapping(entry, tuple(item.name for item in fields(Head)), f"head {number}")
        missing = [key for key in ("name", "rgb_topic", "thermal_topic") if key not in given]
        if missing:
            raise RigError(f"head {given.get('name', number)} lacks {' and '.join(missing)}.")
        heads.append(Head(**{**given, "parameters": shared | _flat(given.get("parameters") or {})}))
    for key in ("name", "rois_topic", "tracked_rois_topic"):
        values = [getattr(head, key) for head in heads if getattr(head, key)]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise RigError(f"two heads have the {key} '{twice}'; each needs its own.")
    return tuple(heads)


def _mapping(content: Any, known: tuple[str, ...], where: str) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise RigError(f"{where} must hold keys and values, got {content!r}.")
    for key in content:
        if key not in known:
            raise RigError(f"{where} has the unknown key '{key}'; known are {', '.join(known)}.")
    return content


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Parameters by dotted name."""
    if not isinstance(values, Mapping):
        raise RigError(f"parameters must hold names and values, got {values!r}.")
    names: dict[str, Any] = {}
    for name, value in values.items():
        names |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return names


def system_nodes(options: PerceptionOptions) -> tuple[NodePlan, ...]:
    """The nodes of one head, or with ``options.rig`` those of every head of the rig.

    Raises:
        RigError: a rig that cannot be used, or an option that makes no sense beside one.
    """
    if not options.rig:
        if options.shared_detector:
            raise RigError("shared_detector is for the heads of a rig; name its file with rig.")
        return perception_nodes(options)
    if options.shared_detector and options.composed:
        raise RigError("composed runs a detector in the process of each tracker; leave it out beside shared_detector.")
    for name in ("rgb_topic", "thermal_topic", "bag"):
        if getattr(options, name):
            raise RigError(f"{name} is for one head alone; leave it out beside rig.")
    for name in ("detections_topic", "tracks_topic"):
        if getattr(options, name).startswith("/"):
            raise RigError(
                f"{name} is '{getattr(options, name)}', where all heads of the rig would meet; drop the '/'."
            )
    heads = load_rig(options.rig)
    plans = tuple(plan for head in heads for plan in _head_nodes(head, options))
    if not options.shared_detector:
        return plans
    return (_shared_detector(heads, options), *(plan for plan in plans if plan.name != "detection_node"))


def _head_nodes(head: Head, options: PerceptionOptions) -> tuple[NodePlan, ...]:
    namespace = f"{options.namespace.rstrip('/')}/{head.name}" if options.namespace else head.name
    own = replace(options, rgb_topic=head.rgb_topic, thermal_topic=head.thermal_topic, namespace=namespace)
    plans = []
    for plan in perception_nodes(own):
        parameters, remaps = dict(plan.parameters), dict(plan.remaps)
        for node in ("detection_node", "tracker_node") if plan.name == COMPOSED else (plan.name,):
            parameters |= head.node_parameters(node)
            remaps |= head.remaps(node)
        plans.append(replace(plan, parameters=parameters, remaps=remaps))
    return tuple(plans)


def _shared_detector(heads: tuple[Head, ...], options: PerceptionOptions) -> NodePlan:
    """One detection node for all heads, with the topics that a node of each head would have.

    Raises:
        RigError: heads that differ in what one node has but once.
    """
    node = "detection_node"
    plan = perception_nodes(replace(options, rgb_topic="", thermal_topic=""))[0]
    parameters: dict[str, ParameterValue] = dict(plan.parameters)
    remaps: dict[str, str] = {}
    common: dict[str, dict[str, Any]] = {}
    for head in heads:
        own = head.node_parameters(node) | {"rgb_topic": head.rgb_topic, "thermal_topic": head.thermal_topic}
        for name, value in own.items():
            if name.partition(".")[0] in RIG_OPTIONS:
                parameters[f"{head.name}.{name}"] = value
            else:
                common.setdefault(name, {})[head.name] = value
        for source, target in plan.remaps.items():
            remaps[f"{head.name}/{source}"] = f"{head.name}/{target}"
        if head.rois_topic:
            topic = head.rois_topic if head.rois_topic.startswith("/") else f"{head.name}/{head.rois_topic}"
            remaps[f"{node}:{head.name}/{node}/output/rois"] = topic
    for name, values in common.items():
        if len(values) < len(heads) or any(value != values[heads[0].name] for value in values.values()):
            raise RigError(
                f"the heads differ in {name}, which the one node of shared_detector has but once; give it to all heads "
                "in the rig file's parameters."
            )
        parameters[name] = values[heads[0].name]
    parameters["rigs"] = [head.name for head in heads]
    try:
        build(DetectionParameters, {name: value for name, value in parameters.items() if name != "use_sim_time"})
    except ParameterError as error:
        raise RigError(f"shared_detector: {error}") from error
    return replace(plan, parameters=parameters, remaps=remaps)
