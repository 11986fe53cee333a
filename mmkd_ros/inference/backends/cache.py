"""A folder of small files that can be made again: graphs, and which engine was the fastest.

Each file begins with the sha256 of the rest; a damaged one is reported and counts as absent. A folder that cannot be
written costs time at the next start, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path

_DIGEST = hashlib.sha256().digest_size
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/mmkd_ros``, by default ``~/.cache/mmkd_ros``."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # The base directory specification: a relative path is invalid and counts as unset.
    return (Path(root) if os.path.isabs(root) else Path(os.path.expanduser("~/.cache"))) / "mmkd_ros"


def cache_name(kind: str, suffix: str, *facts: object) -> str:
    """A file name that changes with any of the JSON-ready facts."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{kind}-{digest[:32]}{suffix}"


def read_cache(name: str) -> bytes | None:
    """What was written under this name; None when there is nothing, or nothing sound."""
    path = cache_folder() / name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s cannot be read (%s) and is made again.", path, error)
        return None
    digest, payload = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        _log.warning("%s is damaged and is made again.", path)
        return None
    return payload


def write_cache(name: str, payload: bytes) -> None:
    """Keep a payload, in one step: a reader sees all of it or nothing."""
    path = cache_folder() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        _log.warning("%s cannot be written (%s); it will be made again at the next start.", path, error)
