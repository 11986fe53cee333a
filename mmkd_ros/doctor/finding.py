"""The answer of one check: a level, what was found, and the cure with the section of the document that explains it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

DOCUMENT = "docs/troubleshooting.md"


class _Text(str, Enum):
    """Texts that print as such: the standard library of Humble's Python 3.10 has no such class."""

    __str__ = str.__str__


class Level(_Text):
    """How bad a finding is: fine, may hurt, cannot work."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


class Section(_Text):
    """Anchors of the document that findings and the nodes' warnings link to."""

    VERSIONS = "versions"
    CV_BRIDGE = "cv-bridge"
    OPENCV = "opencv"
    TORCH = "torch"
    CORES = "cores"
    WEIGHTS = "weights"
    ROS = "ros"
    MESSAGES = "messages"
    DOMAIN = "domain"
    PROFILE = "profile"
    SHARED_MEMORY = "shared-memory"
    LEFTOVERS = "leftovers"
    PUBLISHERS = "publishers"
    TYPE = "topic-type"
    QOS = "qos"
    RATE = "rate"
    IMAGE = "image"
    STAMPS = "stamps"
    STAMP_DISTANCE = "stamp-distance"
    DOCTOR = "doctor"

    @property
    def link(self) -> str:
        """Where to read on, such as ``docs/troubleshooting.md#qos``."""
        return f"{DOCUMENT}#{self}"


@dataclass(frozen=True)
class Finding:
    """What one check has found.

    Attributes:
        check: its name.
        level: how bad it is.
        found: the facts, without a full stop.
        cure: one sentence, empty for OK alone.
        section: that explains it; None for OK alone.

    Raises:
        ValueError: a complaint without a cure or a section.
    """

    check: str
    level: Level
    found: str
    cure: str = ""
    section: Section | None = None

    def __post_init__(self) -> None:
        if self.level is not Level.OK and not (self.cure and self.section):
            raise ValueError(f"The finding '{self.found}' of the check {self.check} has no cure or no section.")

    @property
    def link(self) -> str:
        """Where the cure is explained; empty for OK."""
        return self.section.link if self.section else ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, found)


def warn(check: str, found: str, cure: str, section: Section) -> Finding:
    """It works, but may hurt."""
    return Finding(check, Level.WARN, found, cure, section)


def fail(check: str, found: str, cure: str, section: Section) -> Finding:
    """It cannot work like this."""
    return Finding(check, Level.FAIL, found, cure, section)


def examine(check: str, examination: Callable[[], Finding]) -> Finding:
    """The finding of an examination; one that breaks down is a failure of that check and of no other."""
    try:
        return examination()
    except Exception as error:  # whatever a broken installation raises is what we are here to show
        found = f"the check itself broke down with {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return fail(check, found, "Cure what this error names, and report it if it names nothing.", Section.DOCTOR)
