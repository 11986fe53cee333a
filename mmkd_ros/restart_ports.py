"""Other DDS ports for a node that takes the place of one that was killed. No ROS import.

Fast DDS gives a process the lowest free participant id, and ports by that id. A node that is started again would get
those of the dead one, and the other processes would go on writing into the dead one's shared memory until their
watchdog finds out, up to two seconds later. With an id of its own it is heard at once.

In: the environment of a node. Out: the same, with a copy of the shipped Fast DDS profile that names a free id.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mmkd_ros.share import share_path

PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"
_LATER_PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"
_MIDDLEWARES = ("", "rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp")

# Participants on this machine look for each other at ids 0 to 31; Fast DDS itself counts from 0 upwards.
_IDS = range(16, 32)
# Formula of the DDSI-RTPS specification, 9.6.2: base, ports a domain, ports a participant, offset of the first.
_BASE, _DOMAIN_GAIN, _PARTICIPANT_GAIN, _OFFSET = 7400, 250, 2, 10


class RestartPorts:
    """Gives each restart the next free id; its profiles are removed by ``close``."""

    def __init__(self) -> None:
        self._turn = itertools.count(os.getpid())
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """That of a node to be started again; unchanged with another middleware, a profile of the user's own, or where
        no file can be written or read."""
        changed = dict(environment)
        try:
            shipped = share_path("config/fastdds_shm.xml")
            own = changed.get(_LATER_PROFILE) or Path(changed.get(PROFILE, "")).resolve() != shipped.resolve()
            if own or changed.get("RMW_IMPLEMENTATION", "") not in _MIDDLEWARES:
                return changed
            participant = self._free(int(changed.get("ROS_DOMAIN_ID") or 0))
            if participant is None:
                return changed
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="mmkd_restart_")
            profile = Path(self._folder.name) / f"participant_{participant}.xml"
            profile.write_text(with_participant(shipped.read_text(encoding="utf-8"), participant), encoding="utf-8")
        except (OSError, ValueError):  # a domain that is no number is for the node to refuse
            return changed
        return changed | {PROFILE: str(profile)}

    def close(self) -> None:
        """Remove the profiles."""
        if self._folder is not None:
            self._folder.cleanup()

    def _free(self, domain: int) -> int | None:
        used = used_ports()
        for _ in _IDS:
            participant = _IDS[next(self._turn) % len(_IDS)]
            if used.isdisjoint(ports(domain, participant)):
                return participant
        return None


def with_participant(profile: str, participant: int) -> str:
    """A profile's text with this participant id."""
    return profile.replace("<rtps>", f"<rtps>\n    <participantID>{participant}</participantID>", 1)


def ports(domain: int, participant: int) -> tuple[int, int]:
    """UDP ports of a participant, for discovery and for data."""
    first = _BASE + _DOMAIN_GAIN * domain + _OFFSET + _PARTICIPANT_GAIN * participant
    return first, first + 1


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
