"""The parameters of every node: one frozen dataclass a node is where a name, a default or a range is written.

Declaration, ``config/perception.yaml`` and the README's tables follow from the fields' metadata (``description``,
``min``, ``max``, ``choices``, ``read_only``, ``live``). A nested dataclass makes a group: the field ``slop_s`` of the
group ``sync`` is the parameter ``sync.slop_s``. No ROS here.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mmkd_ros.autoware import AutowareOptions, AutowareTrackOptions
from mmkd_ros.option import option
from mmkd_ros.pairing import SyncOptions
from mmkd_ros.registration import RegistrationOptions
from mmkd_ros.tracking import TrackerOptions

P = TypeVar("P")
Value = bool | int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]

RIG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""Of an RGB-thermal rig, whose topics it stands before."""

RIG_OPTIONS = (
    "rgb_topic",
    "thermal_topic",
    "rgb_compressed",
    "thermal_compressed",
    "image_reliability",
    "registration",
    "sync",
    "output",
)
"""Fields of ``DetectionParameters`` that each rig may have of its own."""


class ParameterError(ValueError):
    """A parameter that is unknown or does not fit; the sentence says which and what to write instead."""


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One parameter as ROS sees it. ``read_only``: fixed when the node starts; ``live``: may change while the node
    runs; the others are fixed when it is configured.

    ``type`` is bool, int, float or str; with ``is_list``, of each item of a list. Lists are tuples here, and lists in
    ROS.
    """

    name: str
    type: type
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False
    is_list: bool = False
    live: bool = False


def _image_topic(camera: str) -> Any:
    return option(f"/{camera}/image_raw", f"topic of the {'RGB' if camera == 'rgb' else camera} images")


def _compressed(camera: str) -> Any:
    return option(
        False,
        f"{camera}_topic carries sensor_msgs/CompressedImage, as a name ending in /compressed says too; publishers "
        "that are there when the node is activated decide",
    )


def _reliability() -> Any:
    return option(
        "best_effort",
        "reliability asked of the image publishers; best_effort takes both kinds",
        choices=("best_effort", "reliable"),
    )


def _autostart() -> Any:
    return option(True, "configure and activate without a lifecycle manager", read_only=True)


def _device() -> Any:
    return option("auto", "where the network runs: auto (CUDA where there is one), cpu, cuda or cuda:N")


class _Validated:
    """Checks every field against its metadata when an instance is made."""

    def __post_init__(self) -> None:
        for spec in specifications(type(self)):
            _check(spec, value_of(self, spec.name))


@dataclass(frozen=True)
class DetectionParameters(_Validated):
    """Parameters of ``detection_node``.

    Raises:
        ParameterError: a value out of its range.
    """

    weights: str = option(
        "mmkd_student.safetensors",
        "detector weights, .safetensors or exported (.onnx, .xml): a path, or a name in the package's models folder",
    )
    input_size: tuple[int, ...] = option(
        (0, 0), "height and width of the network's input in pixels, multiples of 32; [0, 0]: as in the weights", 0, 4096
    )
    device: str = _device()
    backend: str = option(
        "auto",
        "engine of the network: on a CPU, auto times those that are installed once, at the first start; on CUDA auto "
        "is torch, and onnxruntime its TensorRT or CUDA provider",
        choices=("auto", "torch", "onnxruntime", "openvino"),
    )
    half: str = option(
        "auto",
        "16-bit arithmetic: float16 on CUDA; on a CPU bfloat16 by OpenVINO, which auto takes where backend is auto "
        "too, the processor computes in it and it is faster",
        choices=("auto", "on", "off"),
    )
    score_threshold: float = option(0.35, "least score of a published detection", 0.0, 1.0, live=True)
    nms_iou: float = option(0.4, "boxes of one class that overlap by more are one object", 0.0, 1.0, live=True)
    max_detections: int = option(100, "most detections in one message", 1, 1000, live=True)
    threads: int = option(0, "CPU threads of the network; 0 takes half of the cores", 0, 256)
    rigs: tuple[str, ...] = option(
        ("",),
        "names of the RGB-thermal rigs that this node serves, each with its topics under its name and, where given, "
        "parameters of its cameras, registration, sync and output, such as NAME.sync.slop_s; ['']: one without a name",
        read_only=True,
    )
    rgb_topic: str = _image_topic("rgb")
    thermal_topic: str = _image_topic("thermal")
    rgb_compressed: bool = _compressed("rgb")
    thermal_compressed: bool = _compressed("thermal")
    image_reliability: str = _reliability()
    registration: RegistrationOptions = field(default_factory=RegistrationOptions)
    sync: SyncOptions = field(default_factory=SyncOptions)
    output: AutowareOptions = field(default_factory=AutowareOptions)
    status_period_s: float = option(10.0, "seconds between two status lines in the log; 0 writes none", 0.0, 3600.0)
    autostart: bool = _autostart()
    own: Mapping[str, Value] = field(default_factory=dict, metadata={"of_rigs": True})
    """What a rig has of its own, as NAME.parameter."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rigs == ("",):
            return
        if not self.rigs:
            raise ParameterError("Parameter 'rigs' is empty; write [''] for one rig without a name.")
        groups = {spec.name.partition(".")[0] for spec in specifications(type(self))}
        for rig in self.rigs:
            if not RIG_NAME.fullmatch(rig):
                raise ParameterError(
                    f"Parameter 'rigs' has the name '{rig}', but a rig's name is letters, digits and _, a letter first."
                )
            if rig in groups:
                raise ParameterError(f"Parameter 'rigs' has the name '{rig}', which is a parameter; take another one.")
            if self.rigs.count(rig) > 1:
                raise ParameterError(f"Parameter 'rigs' has the name '{rig}' twice; each rig needs its own.")
            self.of_rig(rig)

    def of_rig(self, rig: str) -> DetectionParameters:
        """What holds for one of ``rigs``: its own values, and the node's where it has none. A topic that is the node's
        is under the rig's name: for the rig ``front``, /rgb/image_raw stands for front/rgb/image_raw.

        Raises:
            ParameterError: values that do not fit together.
        """
        if not rig:
            return self
        values = {spec.name: value_of(self, spec.name) for spec in specifications(type(self))}
        values |= {name: str(values[name]).lstrip("/") for name in ("rgb_topic", "thermal_topic")}
        values |= {name.partition(".")[2]: value for name, value in self.own.items() if name.partition(".")[0] == rig}
        try:
            return build(DetectionParameters, {**values, "rigs": ("",)})
        except ParameterError as error:
            raise ParameterError(f"Rig '{rig}': {error}") from error


@dataclass(frozen=True)
class TrackerParameters(_Validated):
    """Parameters of ``tracker_node``.

    Raises:
        ParameterError: a value out of its range.
    """

    appearance: bool = option(True, "compare objects by their looks too; needs both image topics and the weights")
    appearance_weights: str = option(
        "mmkd_appearance.safetensors",
        "appearance weights, .safetensors or exported (.onnx, .xml): a path, or a name in the package's models folder",
    )
    device: str = _device()
    rgb_topic: str = _image_topic("rgb")
    thermal_topic: str = _image_topic("thermal")
    rgb_compressed: bool = _compressed("rgb")
    thermal_compressed: bool = _compressed("thermal")
    image_reliability: str = _reliability()
    registration: RegistrationOptions = field(default_factory=RegistrationOptions)
    slop_s: float = option(
        0.05, "largest distance in seconds of the thermal image used beside the RGB image of a detection", 0.0, 1.0
    )
    image_cache: int = option(32, "images kept of each camera until their detections arrive", 1, 256)
    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    output: AutowareTrackOptions = field(default_factory=AutowareTrackOptions)
    autostart: bool = _autostart()


@dataclass(frozen=True)
class OverlayParameters(_Validated):
    """Parameters of ``overlay_node``.

    Raises:
        ParameterError: a value out of its range.
    """

    rgb_topic: str = _image_topic("rgb")
    thermal_topic: str = _image_topic("thermal")
    rgb_compressed: bool = _compressed("rgb")
    thermal_compressed: bool = _compressed("thermal")
    image_reliability: str = _reliability()
    registration: RegistrationOptions = field(default_factory=RegistrationOptions)
    slop_s: float = option(0.05, "largest distance in seconds of the thermal image beside an RGB image", 0.0, 1.0)
    image_cache: int = option(16, "images kept of each camera until their tracks arrive", 1, 256)
    trail_s: float = option(2.0, "seconds of the past that a track's trail shows; 0 draws none", 0.0, 60.0)
    thermal_panel: bool = option(True, "show the thermal image beside the RGB image")
    scale: float = option(1.0, "size of the picture relative to the RGB image", 0.1, 4.0)
    autostart: bool = _autostart()


@dataclass(frozen=True)
class ReplayParameters(_Validated):
    """Parameters of ``replay_node``.

    Raises:
        ParameterError: a value out of its range.
    """

    bag: str = option("", "rosbag2 recording (mcap or sqlite3): its folder or file")
    rgb_topic: str = option("", "RGB topic in the recording; empty looks for one by its name and type")
    thermal_topic: str = option("", "thermal topic in the recording; empty looks for one by its name and type")
    rgb_out: str = option("/rgb/image_raw", "topic on which the RGB images are published")
    thermal_out: str = option("/thermal/image_raw", "topic on which the thermal images are published")
    rate: float = option(1.0, "speed of the replay; 2.0 plays twice as fast", 0.01, 100.0)
    loop: bool = option(False, "start again at the end")
    restamp: bool = option(True, "move header stamps to the time of the replay; false keeps the recorded ones")
    publish_clock: bool = option(False, "publish /clock with the time of the replay")
    start_delay_s: float = option(0.0, "seconds to wait before the first message", 0.0, 600.0)
    wait_for_subscribers_s: float = option(
        0.0, "longest wait in seconds until both topics have a subscriber; 0 does not wait", 0.0, 600.0
    )
    image_reliability: str = option(
        "reliable",
        "reliability offered to subscribers; reliable serves both kinds",
        choices=("best_effort", "reliable"),
    )
    report: str = option("", "JSON file kept up to date with the progress of the replay; empty writes none")


@dataclass(frozen=True)
class RecorderParameters(_Validated):
    """Parameters of ``recorder_node``.

    Raises:
        ParameterError: a value out of its range.
    """

    output: str = option("", "recording to write: NAME.mcap for one lone file, any other name for a rosbag2 folder")
    overwrite: bool = option(False, "replace a recording that is there already")
    report: str = option("", "JSON file kept up to date with counters and latencies; empty writes none")
    watch_topics: str = option("", "more topics, separated by commas, whose subscribers the report names")


NODE_PARAMETERS: dict[str, type] = {
    "detection_node": DetectionParameters,
    "tracker_node": TrackerParameters,
    "overlay_node": OverlayParameters,
    "replay_node": ReplayParameters,
    "recorder_node": RecorderParameters,
}


def specifications(parameters: type) -> list[ParameterSpec]:
    """Every parameter of a dataclass, groups flattened to dotted names, in the order of the fields."""
    hints = typing.get_type_hints(parameters)
    specs: list[ParameterSpec] = []
    for item in dataclasses.fields(parameters):
        kind = hints[item.name]
        if item.metadata.get("of_rigs"):
            continue
        if dataclasses.is_dataclass(kind):
            group = specifications(typing.cast(type, kind))
            specs += [dataclasses.replace(spec, name=f"{item.name}.{spec.name}") for spec in group]
            continue
        meta = item.metadata
        is_list = typing.get_origin(kind) is tuple
        specs.append(
            ParameterSpec(
                item.name,
                typing.get_args(kind)[0] if is_list else kind,
                typing.cast(Value, item.default),
                meta["description"].rstrip("."),
                meta.get("min"),
                meta.get("max"),
                tuple(meta.get("choices") or ()),
                bool(meta.get("read_only", False)),
                is_list,
                bool(meta.get("live", False)),
            )
        )
    return specs


def known_parameters(parameters: type, values: Mapping[str, object]) -> dict[str, ParameterSpec]:
    """Every parameter by its dotted name; where ``values`` names ``rigs``, those of each rig too, as NAME.parameter."""
    specs = {spec.name: spec for spec in specifications(parameters)}
    rigs = values.get("rigs") if "rigs" in specs else None
    own = [spec for spec in specs.values() if spec.name.partition(".")[0] in RIG_OPTIONS]
    for rig in rigs if isinstance(rigs, list | tuple) else ():
        names = {f"{rig}.{spec.name}": spec for spec in own if rig}
        specs = {name: dataclasses.replace(spec, name=name) for name, spec in names.items()} | specs
    return specs


def values_of(parameters: object) -> dict[str, Value]:
    """Every value by its dotted name, what rigs have of their own included."""
    own: Mapping[str, Value] = getattr(parameters, "own", {})
    return {spec.name: value_of(parameters, spec.name) for spec in specifications(type(parameters))} | dict(own)


def value_of(parameters: object, name: str) -> Value:
    """The value of the parameter with this dotted name."""
    return typing.cast(Value, operator.attrgetter(name)(parameters))


def build(parameters: type[P], values: Mapping[str, object]) -> P:
    """Make a node's parameters from dotted names.

    What is not given keeps its default; whole numbers may stand for floats.

    Raises:
        ParameterError: an unknown name, a value of another type or out of its range.
    """
    specs = known_parameters(parameters, values)
    for name in values:
        if name not in specs:
            raise ParameterError(unknown_parameter(name, specs))
    checked = {name: _check(specs[name], value) for name, value in values.items()}
    return _construct(parameters, checked)


def unknown_parameter(name: str, known: Iterable[str]) -> str:
    """The sentence for a name that no parameter has, with the nearest one that exists."""
    names = sorted(known)
    # The last part too: `slop` means `sync.slop_s`.
    nearest = difflib.get_close_matches(name, names, 1, 0.6)
    nearest = nearest or [n for n in names if difflib.get_close_matches(name, [n.rpartition(".")[2]], 1, 0.6)]
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"known are {', '.join(names)}."
    return f"There is no parameter '{name}'; {hint}"


def _construct(parameters: type[P], values: Mapping[str, Value]) -> P:
    hints = typing.get_type_hints(parameters)
    arguments: dict[str, Any] = {}
    for item in dataclasses.fields(typing.cast(Any, parameters)):
        kind = hints[item.name]
        if item.metadata.get("of_rigs"):
            shared = {spec.name for spec in specifications(parameters)}
            arguments[item.name] = {name: value for name, value in values.items() if name not in shared}
        elif dataclasses.is_dataclass(kind):
            prefix = f"{item.name}."
            group = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
            try:
                arguments[item.name] = _construct(typing.cast(type, kind), group)
            except ParameterError:
                raise
            except ValueError as error:
                raise ParameterError(str(error)) from error
        elif item.name in values:
            arguments[item.name] = values[item.name]
    return parameters(**arguments)


def _check(spec: ParameterSpec, value: object) -> Value:
    """The value in its declared type.

    Raises:
        ParameterError: it does not fit.
    """
    if spec.is_list:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ParameterError(
                f"Parameter '{spec.name}' is {value!r}, but must be a list, each item {_TYPE_NAMES[spec.type]} "
                f"({spec.description})."
            )
        item = dataclasses.replace(spec, is_list=False)
        return tuple(typing.cast(float, _check(item, one)) for one in value)
    if spec.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, spec.type) or (isinstance(value, bool) and spec.type is not bool):
        raise ParameterError(
            f"Parameter '{spec.name}' is {value!r}, but must be {_TYPE_NAMES[spec.type]} ({spec.description})."
        )
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low = -math.inf if spec.minimum is None else spec.minimum
        high = math.inf if spec.maximum is None else spec.maximum
        if not low <= value <= high:
            raise ParameterError(
                f"Parameter '{spec.name}' is {value}, but must be {_range(spec)} ({spec.description})."
            )
    if spec.choices and value not in spec.choices:
        raise ParameterError(f"Parameter '{spec.name}' is {value!r}, but must be one of {', '.join(spec.choices)}.")
    return typing.cast(Value, value)


_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _range(spec: ParameterSpec) -> str:
    if spec.choices:
        return ", ".join(spec.choices)
    if spec.minimum is None and spec.maximum is None:
        return ""
    low = "" if spec.minimum is None else f"{spec.minimum:g}"
    high = "" if spec.maximum is None else f"{spec.maximum:g}"
    return f"{low} to {high}" if low and high else (f"at least {low}" if low else f"at most {high}")


def parameter_table_markdown() -> str:
    """The README's tables: for every node its parameters with default, range and meaning; a star marks those that may
    change while the node runs."""
    lines: list[str] = []
    for node, parameters in NODE_PARAMETERS.items():
        lines += [f"**{node}**", "", "| parameter | default | range | meaning |", "|---|---|---|---|"]
        for spec in specifications(parameters):
            default = str(spec.default).lower() if spec.type is bool else str(spec.default)
            if isinstance(spec.default, tuple):
                default = str(list(spec.default))
            default = f"`{default}`" if default else ""
            live = " *" if spec.live else ""
            lines.append(f"| `{spec.name}`{live} | {default} | {_range(spec)} | {spec.description} |")
        lines.append("")
    return "\n".join(lines)
