"""Other DDS ports for a node that takes the place of one that was killed. No ROS import.

Fast DDS gives a process the lowest free participant id, and ports by that id. A node that is started again would get
those of the dead one, and the other processes would go on writing into the dead one's shared memory until their
watchdog finds out, up to two seconds later. With an id of its own it is heard at once.

In: the environment of a node process that may be a restart. Out: the same, with a copy of the shipped Fast DDS profile
that names an id without remains of a dead process.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mmkd_ros.distribution import LATER_PROFILE, PROFILE
from mmkd_ros.share import share_path

OWN_PORTS = "MMKD_OWN_PORTS"
"""Set to anything for a node that is, or may be, started again."""

_MIDDLEWARES = ("", "rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - not a place of ours; looked at only

# Participants on this machine look for each other at ids 0 to 31; Fast DDS itself counts from 0 upwards.
_IDS = range(16, 32)
# Formula of the DDSI-RTPS specification, 9.6.2: base, ports a domain, ports a participant, offset of the first.
_BASE, _DOMAIN_GAIN, _PARTICIPANT_GAIN, _OFFSET = 7400, 250, 2, 10


def with_own_ports(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of this very process, to be put in force before ROS starts.

    Args:
        environment: such as ``os.environ``.

    Returns:
        Unchanged without ``MMKD_OWN_PORTS``, with another middleware, a profile of the user's own, or where the system
        does not allow it; else with the profile in a file that goes with this process (SIGKILL leaves it, 1 kB).
    """
    changed = dict(environment)
    if not changed.get(OWN_PORTS) or changed.get("RMW_IMPLEMENTATION", "") not in _MIDDLEWARES:
        return changed
    try:
        shipped = share_path("config/fastdds_shm.xml")
        if changed.get(LATER_PROFILE) or Path(changed.get(PROFILE, "")).resolve() != shipped.resolve():
            return changed
        participant = free_participant(int(changed.get("ROS_DOMAIN_ID") or 0))
        if participant is None:
            return changed
        text = with_participant(shipped.read_text(encoding="utf-8"), participant)
        # A file in memory would do, but Fast DDS wants one with a path.
        file, path = tempfile.mkstemp(prefix="mmkd_fastdds_", suffix=".xml")
        atexit.register(Path(path).unlink, missing_ok=True)
        with open(file, "w", encoding="utf-8") as profile:
            profile.write(text)
    except (OSError, ValueError):  # a domain that is no number is for the node to refuse
        return changed
    return changed | {PROFILE: path}


def free_participant(domain: int) -> int | None:
    """A participant id whose ports nobody has, if there is one without remains of a dead process such a one.

    Raises:
        OSError: the system does not tell.
    """
    used = used_ports()
    start = os.getpid()  # nodes that start at one time begin to look at different ids
    order = [_IDS[(start + step) % len(_IDS)] for step in range(len(_IDS))]
    free = [participant for participant in order if used.isdisjoint(ports(domain, participant))]
    clean = [participant for participant in free if not any(map(has_remains, ports(domain, participant)))]
    return next(iter(clean or free), None)


def with_participant(profile: str, participant: int) -> str:
    """A profile's text with this participant id."""
    return profile.replace("<rtps>", f"<rtps>\n    <participantID>{participant}</participantID>", 1)


def ports(domain: int, participant: int) -> tuple[int, int]:
    """UDP ports of a participant, for discovery and for data; those in shared memory have the same numbers."""
    first = _BASE + _DOMAIN_GAIN * domain + _OFFSET + _PARTICIPANT_GAIN * participant
    return first, first + 1


def has_remains(port: int) -> bool:
    """Whether Fast DDS's shared memory has a port of this number, of a process that lives or was killed."""
    return (_SHARED_MEMORY / f"fastrtps_port{port}").exists()


def used_ports() -> set[int]:
    """UDP ports that processes of this machine have.

    Raises:
        OSError: the system does not tell (not Linux).
    """
    found = set()
    for table in (Path("/proc/net/udp"), Path("/proc/net/udp6")):
        if table.name == "udp6" and not table.exists():
            continue  # no IPv6
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            found.add(int(line.split()[1].rpartition(":")[2], 16))
    return found
