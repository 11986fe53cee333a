"""A dataclass field that is an option of the user's: a node parameter, a launch argument, a flag of a command."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def option(
    default: Any,
    description: str,
    low: float | None = None,
    high: float | None = None,
    *,
    choices: tuple[str, ...] = (),
    read_only: bool = False,
    live: bool = False,
) -> Any:
    """The field; what is said of it stands in its metadata under ``description``, ``min``, ``max``, ``choices``,
    ``read_only`` and ``live``.

    Args:
        default: its value when the user is silent.
        description: for tables and ``--help``.
        low, high: the range of a number, both ends included; None is open.
        choices: the texts that it may be; empty for any.
        read_only: fixed when the node starts.
        live: may change while the node runs.
    """
    metadata = {
        "description": description,
        "min": low,
        "max": high,
        "choices": choices,
        "read_only": read_only,
        "live": live,
    }
    return field(default=default, metadata=metadata)
