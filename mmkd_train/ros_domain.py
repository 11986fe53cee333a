"""A ROS domain that no other run on this machine has: for the demo, the benchmark and the soak, and for the tests.

In: an id to keep out of. Out: an id, locked as long as the ``with`` block runs.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmkd_train.errors import UserError

DOMAINS = range(1, 102)
"""Ids above 101 reach into the ports that Linux hands out to other programs; 0 is everybody's default."""

_turn = itertools.count(os.getpid())


@contextmanager
def own_domain(avoid: str | None = None) -> Iterator[int]:
    """A domain id for the block alone.

    A lock on a file per id keeps other runs of this machine away; it goes with the process that holds it, however that
    ends, and child processes do not inherit it.

    Args:
        avoid: an id that is not to be taken, such as the robot's.

    Raises:
        UserError: none is free.
    """
    folder = Path(tempfile.gettempdir())
    for _ in DOMAINS:
        domain = DOMAINS[next(_turn) % len(DOMAINS)]
        if str(domain) == avoid:
            continue
        try:
            lock = os.open(
                folder / f"mmkd_ros_domain_{domain}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
        except OSError:  # another user's run holds or held it
            continue
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain
            return
        finally:
            os.close(lock)
    raise UserError(
        f"No ROS domain id is free: all of {DOMAINS[0]} to {DOMAINS[-1]} are used by other runs, or no file can be "
        f"made in {folder}. End the others, or name an id with --domain-id."
    )
