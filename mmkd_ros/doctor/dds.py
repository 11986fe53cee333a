"""Checks of the middleware's environment: domain, Fast DDS profile, shared memory and what the killed left there."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from mmkd_ros.distribution import LATER_PROFILE, PROFILE, RANGE, discovery_range
from mmkd_ros.doctor.finding import Finding, Section, fail, ok, warn
from mmkd_ros.share import share_path

SHM = Path("/dev/shm")  # noqa: S108 (where Linux keeps shared memory)
MIB = 2**20

# Eight uncompressed colour images of 1000x700; the default segment of 0.5 MiB does not hold one.
_LEAST_SEGMENT = 16 * MIB
# Two cameras, detection, tracker and overlay, each with the segment of config/fastdds_shm.xml.
_SEGMENT, _PROCESSES = 67 * MIB, 5
_SHOWN = 3  # names of leftovers
# Linux hands out ports from 32768 on; domains above 101 have theirs there.
_LAST_SAFE_DOMAIN, _LAST_DOMAIN = 101, 232
_RANGES = ("SUBNET", "LOCALHOST", "SYSTEM_DEFAULT")
# Its owner holds a lock on it for as long as it lives.
_SEGMENT_LOCK = re.compile(r"fastrtps_[0-9a-z]{16}_el")


def check_domain() -> Finding:
    """Who can be seen: ROS_DOMAIN_ID and the discovery range."""
    text = os.environ.get("ROS_DOMAIN_ID", "") or "0"
    cure = f"Set ROS_DOMAIN_ID to one number from 0 to {_LAST_SAFE_DOMAIN} for cameras and nodes alike."
    if not text.isdecimal() or int(text) > _LAST_DOMAIN:
        return fail("domain", f"ROS_DOMAIN_ID is '{text}', which is no domain", cure, Section.DOMAIN)
    if int(text) > _LAST_SAFE_DOMAIN:
        found = f"ROS_DOMAIN_ID is {text}, whose ports Linux may give to other programs"
        return warn("domain", found, cure, Section.DOMAIN)
    reach = discovery_range()
    if reach not in _RANGES:
        return warn(
            "domain",
            f"the discovery range is {reach}, with which nodes do not find each other by themselves",
            f"Unset {RANGE}, or set it to SUBNET or LOCALHOST.",
            Section.DOMAIN,
        )
    where = "this machine alone is seen" if reach == "LOCALHOST" else "other machines are seen too"
    return ok("domain", f"{text}, discovery range {reach}: {where}")


def check_profile() -> Finding:
    """The Fast DDS profile of this shell, which camera drivers started from it get."""
    middleware = os.environ.get("RMW_IMPLEMENTATION", "") or "rmw_fastrtps_cpp"
    if not middleware.startswith("rmw_fastrtps"):
        return ok("DDS profile", f"not used by {middleware}")
    ours = share_path("config/fastdds_shm.xml")
    cure = f"Run `export {PROFILE}={ours}` before the camera drivers start; this package's own nodes set it themselves."
    name = os.environ.get(PROFILE, "")
    if not name:
        found = f"{PROFILE} is not set, so large images of drivers started here get lost"
        if os.environ.get(LATER_PROFILE):
            found += f" ({LATER_PROFILE} is set, which Jazzy's Fast DDS does not read)"
        return warn("DDS profile", found, cure, Section.PROFILE)
    try:
        size = segment_bytes(Path(name))
    except (OSError, ElementTree.ParseError) as error:
        return fail("DDS profile", f"{PROFILE} is {name}, which cannot be read: {error}", cure, Section.PROFILE)
    if size < _LEAST_SEGMENT:
        held = f"a shared-memory segment of {size / MIB:.1f} MiB" if size else "no shared-memory segment of its own"
        return warn("DDS profile", f"{name} has {held}, too little for images", cure, Section.PROFILE)
    return ok("DDS profile", f"{name}, segment of {size / MIB:.0f} MiB")


def segment_bytes(path: Path) -> int:
    """Size of the shared-memory segment that the default participant of a profiles file uses; 0 when it sets none.

    Raises:
        OSError: the file cannot be read.
        xml.etree.ElementTree.ParseError: it is not XML.
    """
    root = ElementTree.parse(path).getroot()  # noqa: S314 (the file that every ROS process here reads)
    used = {
        item.text
        for participant in root.findall(".//{*}participant")
        if participant.get("is_default_profile") == "true"
        for item in participant.findall(".//{*}userTransports/{*}transport_id")
    }
    return max(
        (
            int(transport.findtext("{*}segment_size") or 0)
            for transport in root.findall(".//{*}transport_descriptor")
            if transport.findtext("{*}type") == "SHM" and transport.findtext("{*}transport_id") in used
        ),
        default=0,
    )


def check_shared_memory() -> Finding:
    """Room in /dev/shm: every Fast DDS process takes its segment there, or falls back to UDP and loses images."""
    cure = "Give the container more (docker run --shm-size 1g, or --ipc host), or clear what others have left there."
    if not SHM.is_dir():
        return fail("shared memory", f"there is no {SHM}", cure, Section.SHARED_MEMORY)
    room = shutil.disk_usage(SHM)
    found = f"{room.free // MIB} of {room.total // MIB} MiB free in {SHM}"
    if room.free < _SEGMENT:
        return fail("shared memory", f"{found}, one process takes {_SEGMENT // MIB}", cure, Section.SHARED_MEMORY)
    if room.free < _PROCESSES * _SEGMENT:
        found = f"{found}, {_PROCESSES} processes take {_PROCESSES * _SEGMENT // MIB}"
        return warn("shared memory", found, cure, Section.SHARED_MEMORY)
    return ok("shared memory", found)


def check_leftovers() -> Finding:
    """Segments in /dev/shm whose process was killed and could not clear up."""
    dead, hidden, alive = [], 0, 0
    for lock in sorted(path for path in SHM.glob("fastrtps_*_el") if _SEGMENT_LOCK.fullmatch(path.name)):
        try:
            if _is_held(lock):
                alive += 1
            else:
                dead.append(lock.with_name(lock.name.removesuffix("_el")))
        except PermissionError:
            hidden += 1
        except FileNotFoundError:  # its owner has ended in this moment
            continue
    others = f"{alive} in use" + (f", {hidden} of other users not examined" if hidden else "")
    if not dead:
        return ok("DDS leftovers", f"none ({others})")
    size = sum(path.stat().st_blocks * 512 for path in dead if path.exists())
    names = ",".join(path.name for path in dead)
    shown = ",".join(path.name for path in dead[:_SHOWN]) + (",..." if len(dead) > _SHOWN else "")
    tool = shutil.which("fastdds", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    listed = f"{SHM}/{{{names}}}" if len(dead) > 1 else f"{SHM}/{names}"
    command = f"{tool} shm clean" if tool else f"rm {listed}*"
    return warn(
        "DDS leftovers",
        f"{len(dead)} segments of processes that were killed, {size / MIB:.0f} MiB ({others}): {shown}",
        f"Remove them: `{command}`.",
        Section.LEFTOVERS,
    )


def _is_held(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
