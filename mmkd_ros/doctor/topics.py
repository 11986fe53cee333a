"""What the probe measures in the ROS system, and the checks that judge it. No ROS import: all of it travels as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

from mmkd_ros.distribution import apt_package
from mmkd_ros.doctor.finding import Finding, Section, examine, fail, ok, warn

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
TESTED_MIDDLEWARE = "rmw_fastrtps_cpp"

_LEAST_RATE_HZ = 1.0
_MISSING_SHARE, _PAUSE_S = 0.25, 1.0
# Clocks of two machines that are kept by NTP differ by less; no camera takes longer to send.
_FUTURE_S, _PAST_S = 0.1, 1.0
_LEAST_SHARE = 0.9
_SHOWN = 6


@dataclass(frozen=True)
class Offer:
    """One publisher of a topic; ``mismatch`` says why a subscription of the nodes gets nothing of it, or is empty."""

    node: str
    type: str
    reliability: str
    durability: str
    mismatch: str


@dataclass(frozen=True)
class CameraFacts:
    """One camera's topic as it was for a few seconds.

    Attributes:
        topic: its full name.
        offers: its publishers.
        window_s: how long it was listened to.
        stamps: header stamps in seconds, in the order of arrival.
        arrivals: system time of each arrival in seconds.
        encoding: of the last image: that of Image, the format of CompressedImage.
        size: (width, height) of the last image in pixels, (0, 0) for one that could not be read.
        problem: why the last image cannot be read; empty when it can.
    """

    topic: str
    offers: list[Offer] = field(default_factory=list)
    window_s: float = 0.0
    stamps: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    encoding: str = ""
    size: tuple[int, int] = (0, 0)
    problem: str = ""


@dataclass(frozen=True)
class ProbeReport:
    """All that the probe has to say.

    Attributes:
        middleware: the RMW implementation in use.
        messages: what is wrong with each message type that the nodes need, empty for nothing.
        image_topics: names of all image topics that are published; empty when no camera was asked for.
        cameras: facts by ``rgb`` and ``thermal``.
    """

    middleware: str
    messages: dict[str, str]
    image_topics: list[str] = field(default_factory=list)
    cameras: dict[str, CameraFacts] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ProbeReport:
        """The report of `to_json`.

        Raises:
            ValueError: the text is not JSON.
            TypeError, KeyError: it is not a report.
        """
        content: dict[str, Any] = json.loads(text)
        cameras = {name: _facts(camera) for name, camera in content.pop("cameras").items()}
        return cls(**content, cameras=cameras)


def check_middleware(report: ProbeReport) -> Finding:
    """rclpy works, with the middleware that this package is tested with."""
    if report.middleware == TESTED_MIDDLEWARE:
        return ok("ROS", f"rclpy works, with {report.middleware}")
    return warn(
        "ROS",
        f"rclpy works with {report.middleware}, which this package is not tested with",
        f"Set RMW_IMPLEMENTATION={TESTED_MIDDLEWARE} for cameras and nodes alike if images get lost.",
        Section.ROS,
    )


def check_messages(report: ProbeReport) -> Finding:
    """The message packages can be used."""
    broken = [f"{name}: {problem}" for name, problem in report.messages.items() if problem]
    if not broken:
        return ok("messages", ", ".join(report.messages))
    package = apt_package("vision_msgs")
    cure = f"Install the package (`sudo apt install {package}` for vision_msgs; `make env` without ROS)."
    return fail("messages", "; ".join(broken), cure, Section.MESSAGES)


def camera_findings(camera: str, facts: CameraFacts, image_topics: list[str]) -> list[Finding]:
    """The checks of one camera's topic, as far as they can be made."""
    checks: dict[str, Callable[[str, CameraFacts], Finding]]
    checks = {"publisher": partial(check_publishers, image_topics=image_topics)}
    if facts.offers:
        checks |= {"type": check_type, "QoS": check_qos, "rate": check_rate}
    if facts.stamps:
        checks |= {"image": check_image, "stamps": check_stamps}
    return [examine(f"{camera} {name}", partial(check, camera, facts)) for name, check in checks.items()]


def check_publishers(camera: str, facts: CameraFacts, image_topics: list[str]) -> Finding:
    """Exactly one node publishes the topic."""
    check, nodes = f"{camera} publisher", [offer.node for offer in facts.offers]
    if len(nodes) == 1:
        return ok(check, f"{facts.topic} is published by {nodes[0]}")
    if nodes:
        found = f"{facts.topic} has {len(nodes)} publishers: {', '.join(nodes[:_SHOWN])}"
        return warn(check, found, "Stop all but one, since their images would be mixed.", Section.PUBLISHERS)
    others = [name for name in image_topics if name != facts.topic]
    seen = ", ".join(others[:_SHOWN]) + (" and more" if len(others) > _SHOWN else "") if others else "none"
    cure = f"Start the camera driver in this ROS_DOMAIN_ID, or set {camera}_topic to the name that it publishes."
    return fail(check, f"nobody publishes {facts.topic}; image topics here: {seen}", cure, Section.PUBLISHERS)


def check_type(camera: str, facts: CameraFacts) -> Finding:
    """The type is the one that the nodes will subscribe to."""
    check, types = f"{camera} type", sorted({offer.type for offer in facts.offers})
    if len(types) > 1 or types[0] not in (IMAGE, COMPRESSED):
        cure = f"Name a topic of {IMAGE} or {COMPRESSED} as {camera}_topic."
        return fail(check, f"{facts.topic} carries {' and '.join(types)}", cure, Section.TYPE)
    named = facts.topic.endswith("/compressed")
    if types[0] == COMPRESSED and not named:
        cure = f"Set {camera}_compressed to true, in case the nodes start before the camera does."
        return warn(check, f"{COMPRESSED}, on a topic whose name does not end in /compressed", cure, Section.TYPE)
    if types[0] == IMAGE and named:
        cure = f"Rename {facts.topic}: nodes that start before the camera does expect CompressedImage there."
        return warn(check, f"{IMAGE}, on a topic whose name ends in /compressed", cure, Section.TYPE)
    return ok(check, types[0])


def check_qos(camera: str, facts: CameraFacts) -> Finding:
    """What each publisher offers is enough for what the nodes ask."""
    check = f"{camera} QoS"
    misfits = [f"{offer.node}: {offer.mismatch}" for offer in facts.offers if offer.mismatch]
    if misfits:
        cure = "Set image_reliability to best_effort, or let the camera driver offer reliable."
        return fail(check, f"{facts.topic}: {'; '.join(misfits)}", cure, Section.QOS)
    return ok(check, ", ".join(sorted({f"{offer.reliability}, {offer.durability}" for offer in facts.offers})))


def check_rate(camera: str, facts: CameraFacts) -> Finding:
    """Images come."""
    check, count = f"{camera} rate", len(facts.arrivals)
    if not count:
        return fail(
            check,
            f"no image of {facts.topic} came in {facts.window_s:.1f} s, though it has a publisher",
            "Look whether the camera streams, and give its driver the shared-memory profile.",
            Section.RATE,
        )
    rate, missing = count / facts.window_s, missing_images(facts.stamps)
    found = f"{rate:.1f} images/s ({count} in {facts.window_s:.1f} s)"
    if missing > _MISSING_SHARE * (count + missing):
        cure = "Start the camera driver with the DDS profile, and look at the load of this machine and of the network."
        return warn(check, f"{found}, and gaps in the stamps where {missing} more should be", cure, Section.RATE)
    if rate < _LEAST_RATE_HZ:
        cure = (
            "Give the camera driver the DDS profile if images get lost, else raise its frame rate or max_age_s (2 s)."
        )
        return warn(check, found, cure, Section.RATE)
    return ok(check, found)


def missing_images(stamps: list[float]) -> int:
    """How many images should lie in the gaps between stamps, if the lower quartile of the steps is the camera's period.

    Steps back and of more than a second say nothing about loss and are left out.
    """
    steps = sorted(after - before for before, after in pairwise(stamps) if 0.0 < after - before < _PAUSE_S)
    if not steps:
        return 0
    period = steps[len(steps) // 4]
    return sum(max(0, round(step / period) - 1) for step in steps)


def check_image(camera: str, facts: CameraFacts) -> Finding:
    """The last image can be read, and is of the kind of its camera."""
    check = f"{camera} image"
    if facts.problem:
        cure = f"Let the camera driver publish what {camera}_topic can read."
        return fail(check, facts.problem.rstrip("."), cure, Section.IMAGE)
    width, height = facts.size
    found = f"{width}x{height}, {facts.encoding or 'no encoding named'}"
    if camera == "thermal" and any(name in facts.encoding for name in ("rgb", "bgr", "8UC3", "8UC4", "bayer")):
        cure = "Look whether rgb_topic and thermal_topic are swapped, and switch the camera's false colours off."
        return warn(check, f"{found}: colour, where grey is expected", cure, Section.IMAGE)
    return ok(check, found)


def check_stamps(camera: str, facts: CameraFacts) -> Finding:
    """Header stamps are set, move forward, and come from this machine's time."""
    check, stamps = f"{camera} stamps", facts.stamps
    if 0.0 in stamps:
        cure = "Let the camera driver set header.stamp, since nothing can be paired without it."
        return fail(check, f"{stamps.count(0.0)} of {len(stamps)} are zero", cure, Section.STAMPS)
    if len(stamps) > 1 and len(set(stamps)) == 1:
        cure = "Restart the camera or its driver: every image has the same stamp, so it counts as frozen."
        return fail(check, f"{len(stamps)} images have one and the same stamp", cure, Section.STAMPS)
    backward = sum(after <= before for before, after in pairwise(stamps))
    if backward:
        cure = "Look for a second publisher, a looping recording, or a driver that sends out of order."
        return warn(check, f"{backward} of {len(stamps)} repeat or go back", cure, Section.STAMPS)
    age = median(arrival - stamp for arrival, stamp in zip(facts.arrivals, stamps, strict=True))
    if not -_FUTURE_S <= age <= _PAST_S:
        return warn(
            check,
            f"images are stamped {abs(age):.2f} s in the {'past' if age > 0 else 'future'} of this machine's clock",
            "Synchronise the clocks (chrony, PTP), or set use_sim_time for a recording that keeps its own time.",
            Section.STAMPS,
        )
    return ok(check, f"{age * 1e3:.0f} ms old on arrival (median)")


def check_stamp_distance(rgb: CameraFacts, thermal: CameraFacts, slop_s: float) -> Finding:
    """Images of the two cameras are close enough to be paired: each of the slower one to its nearest of the other."""
    slow, fast = sorted((rgb.stamps, thermal.stamps), key=len)
    # At the ends of the window the partner may be outside it.
    inner = [stamp for stamp in slow if min(fast) - slop_s <= stamp <= max(fast) + slop_s] or slow
    distances = [min(abs(stamp - other) for other in fast) for stamp in inner]
    share = sum(distance <= slop_s for distance in distances) / len(distances)
    middle = _short(median(distances))
    found = f"{share:.0%} of the images have a partner within {slop_s * 1e3:.0f} ms (median {middle})"
    if share >= _LEAST_SHARE:
        return ok("stamp distance", found)
    cure = "Trigger the cameras together or let them share a clock, or raise sync.slop_s (and slop_s of the tracker)."
    complaint = warn if share > 0 else fail
    return complaint("stamp distance", found, cure, Section.STAMP_DISTANCE)


def _short(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1.0 else f"{seconds:.1f} s"


def _facts(content: dict[str, Any]) -> CameraFacts:
    offers = [Offer(**offer) for offer in content.pop("offers")]
    width, height = content.pop("size")
    return CameraFacts(**content, offers=offers, size=(width, height))
