"""A small JSON file that one process keeps up to date and another one reads. No ROS here."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class StatusFile:
    """Writes a JSON object, whole or not at all, and not more often than asked.

    Args:
        path: where; empty writes nothing.
        period_s: least seconds between two writes that are not forced.
    """

    def __init__(self, path: str, period_s: float = 0.2) -> None:
        self._path = Path(path) if path else None
        self._period_s = period_s
        self._written = float("-inf")

    def write(self, status: dict[str, Any], *, force: bool = False) -> None:
        """Replace the file's content.

        Raises:
            OSError: the file cannot be written.
        """
        now = time.monotonic()
        if self._path is None or (now - self._written < self._period_s and not force):
            return
        self._written = now
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(status, indent=2) + "\n", encoding="utf-8")
            partial.replace(self._path)
        except OSError as error:
            raise OSError(
                f"The report {self._path} cannot be written ({error.strerror}); check path and disk."
            ) from error


def read_status(path: str | Path) -> dict[str, Any]:
    """What the file says now; an empty dict while there is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; remove it.")
    return content
