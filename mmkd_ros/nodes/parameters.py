"""Declares a parameter dataclass on a node and reads it back."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from mmkd_ros.parameters import (
    NODE_PARAMETERS,
    ParameterError,
    ParameterSpec,
    build,
    known_parameters,
    specifications,
    unknown_parameter,
    values_of,
)
from mmkd_ros.share import share_path

P = TypeVar("P")

_EVERY_NODE = ("use_sim_time", "start_type_description_service")


def declare_parameters(node: Node, parameters: type[P], changeable: Callable[[], bool] | None = None) -> P:
    """Declare every parameter of a dataclass with its description and range, and check what the user has set. Of the
    parameters that a rig may have of its own, those are declared that are set.

    Args:
        node: whose parameters they become.
        parameters: one of the dataclasses of ``mmkd_ros.parameters``.
        changeable: says whether all parameters may be set now, as in a node that is not configured, or the live ones
            alone; None never allows any.

    Returns:
        The values the node starts with.

    Raises:
        ParameterError: the parameter file or the command line holds an unknown name, or a value that does not fit.
    """
    others = {spec.name for kind in NODE_PARAMETERS.values() for spec in specifications(kind)}
    # Set names that nobody declares would be dropped without a word, and rclpy offers no other way to see them.
    given = {name: parameter.value for name, parameter in node._parameter_overrides.items()}
    specs = known_parameters(parameters, given)
    for name in [name for name in given if name not in specs]:
        del given[name]
        if name in others:  # a section `/**` of the parameter file reaches every node
            node.get_logger().debug(f"Parameter '{name}' belongs to another node and is not used here.")
        elif name not in _EVERY_NODE and not name.startswith("qos_overrides."):
            raise ParameterError(f"{node.get_name()}: {unknown_parameter(name, specs)}")
    try:
        values = build(parameters, given)
    except ParameterError as error:
        raise ParameterError(f"{node.get_name()}: {error}") from error
    for name, value in values_of(values).items():
        spec = specs[name]
        # A whole number in the file is a float where one is wanted; rclpy alone would refuse it.
        node.declare_parameter(
            name,
            list(value) if isinstance(value, tuple) else value,
            _descriptor(spec, fixed=spec.read_only or changeable is None),
            ignore_override=True,
        )
    if changeable is not None:
        node.add_on_set_parameters_callback(lambda changes: _judge(node, parameters, changes, changeable()))
    return values


def read_parameters(node: Node, parameters: type[P]) -> P:
    """The present values.

    Raises:
        ParameterError: values that do not fit together.
    """
    return build(parameters, _present(node, parameters))


def weights_path(name: str) -> Path:
    """Where a weights file is: the path as given, else a file of that name among the package's models.

    Raises:
        FileNotFoundError: neither; the sentence says where it was looked for.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.name != name:
        raise FileNotFoundError(f"There is no weights file {path}; correct the path.")
    return share_path(f"models/{name}")


def _present(node: Node, parameters: type) -> dict[str, object]:
    """The declared parameters of a dataclass, those of rigs included."""
    values = {spec.name: node.get_parameter(spec.name).value for spec in specifications(parameters)}
    others = known_parameters(parameters, values).keys() - values.keys()
    return values | {name: node.get_parameter(name).value for name in others if node.has_parameter(name)}


def _judge(node: Node, parameters: type[P], changes: list[Parameter], changeable: bool) -> SetParametersResult:
    present = _present(node, parameters)
    specs = known_parameters(parameters, present)
    ours = {change.name: change.value for change in changes if change.name in specs}
    fixed = [name for name in ours if not specs[name].live]
    if fixed and not changeable:
        reason = f"{', '.join(fixed)}: read when {node.get_name()} is configured; clean the node up first."
        return SetParametersResult(successful=False, reason=reason)
    try:
        build(parameters, present | ours)
    except ParameterError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def _descriptor(spec: ParameterSpec, *, fixed: bool) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=spec.description, read_only=fixed)
    if spec.choices:
        descriptor.additional_constraints = f"one of {', '.join(spec.choices)}"
    if spec.minimum is None and spec.maximum is None:
        return descriptor
    low, high = spec.minimum, spec.maximum
    if spec.type is int:
        low, high = (-(2**63) if low is None else int(low)), (2**63 - 1 if high is None else int(high))
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    else:
        low, high = (-math.inf if low is None else float(low)), (math.inf if high is None else float(high))
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return descriptor
