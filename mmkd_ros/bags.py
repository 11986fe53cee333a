"""Rosbag2 without ROS: raw CDR messages in time order out of mcap or sqlite3 bags, and a writer for mcap.

A bag is a folder with ``metadata.yaml``, a folder of storage files that lost it, or a lone ``.mcap`` or ``.db3`` file.
What is written under a name ending in ``.mcap`` is one such lone file, because everything reads that: ``ros2 bag
play``, rosbags, and plain MCAP tools, which cannot open a folder. Any other name becomes a folder with
``metadata.yaml``. Message definitions are embedded, so a reader needs no message package.
"""

from __future__ import annotations

import heapq
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)
DETECTION_ARRAY = "vision_msgs/msg/Detection2DArray"
DIAGNOSTIC_ARRAY = "diagnostic_msgs/msg/DiagnosticArray"
STRING = "std_msgs/msg/String"
FLOAT = "std_msgs/msg/Float64"

_STORAGE_SUFFIXES = (".mcap", ".db3")
_THERMAL_NAME = re.compile(r"thermal|infra|lwir|flir|boson|lepton|(^|[/_])(ir|tir)([/_]|$)", re.IGNORECASE)

# vision_msgs 4.1.1, the only types used here that rosbags does not ship.
_VISION_MSGS = {
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
    "vision_msgs/BoundingBox2D bbox\nstring id",
    "Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    "VisionClass": "uint16 class_id\nstring class_name",
    "LabelInfo": "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold",
    "VisionInfo": "std_msgs/Header header\nstring method\nstring database_location\nint32 database_version",
}


class BagError(Exception):
    """A bag that cannot be used as asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class BagTopic:
    """One topic of a bag: ``type`` as ``package/msg/Name``, ``count`` messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True, slots=True)
class BagMessage:
    """One recorded message: ``data`` is CDR with its 4-byte encapsulation header, ``time_ns`` when it was recorded."""

    topic: str
    type: str
    time_ns: int
    data: bytes


@cache
def typestore() -> Typestore:
    """The Jazzy message types and vision_msgs, for (de)serialisation; built once."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in _VISION_MSGS.items():
        types.update(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
    store.register(types)
    return store


def deserialize(message: BagMessage) -> Any:
    """The message as an object with the fields of its ROS type (arrays are numpy arrays).

    Raises:
        BagError: the bytes are not a message of the type that the bag names.
    """
    try:
        return typestore().deserialize_cdr(message.data, message.type)
    except Exception as error:  # the parser raises whatever the bytes lead it to
        raise BagError(
            f"A message on {message.topic} at {message.time_ns} ns is no readable {message.type} ({error}); "
            "record the topic again or name another one."
        ) from error


def serialize(message: Any) -> bytes:
    """CDR bytes, with encapsulation header, of a message made from the classes in ``typestore().types``."""
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def read_stamp(data: bytes) -> int:
    """Header stamp in nanoseconds of a serialised message whose first field is a ``std_msgs/Header``.

    Raises:
        BagError: too short to hold a header.
    """
    seconds, nanoseconds = struct.unpack_from(_stamp_format(data), data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def with_stamp(data: bytes, stamp_ns: int) -> bytes:
    """The same serialised message with another header stamp; nothing is deserialised.

    Args:
        data: CDR bytes of a message whose first field is a ``std_msgs/Header``. The stamp lies behind the 4 bytes of
            encapsulation as int32 seconds and uint32 nanoseconds, in the byte order that the second byte names.
        stamp_ns: nanoseconds, 0 to 2**31 seconds.

    Raises:
        BagError: too short to hold a header.
        ValueError: a stamp that ``builtin_interfaces/Time`` cannot hold.
    """
    form = _stamp_format(data)
    if not 0 <= stamp_ns < 2**31 * 1_000_000_000:
        raise ValueError(f"{stamp_ns} ns does not fit a ROS time stamp; use nanoseconds between 0 and 2**31 seconds.")
    return data[:4] + struct.pack(form, *divmod(stamp_ns, 1_000_000_000)) + data[12:]


def _stamp_format(data: bytes) -> str:
    if len(data) < 12:
        raise BagError(f"A message of {len(data)} bytes is too short to begin with a std_msgs/Header; record it again.")
    return "<iI" if data[1] & 1 else ">iI"


class BagReader:
    """A rosbag2 opened for reading; use it as a context manager.

    Raises:
        BagError: nothing there, of another kind, damaged, or compressed in a way that cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._readers: list[Reader] = []
        try:
            for part in _bag_parts(self.path):
                reader = Reader(part)
                reader.open()
                self._readers.append(reader)
            self.topics = self._list_topics()
        except BagError:
            self.close()
            raise
        except Exception as error:  # a parser fed with foreign bytes raises anything; each of them means the same here
            self.close()
            raise BagError(_damaged(self.path, error)) from error

    def _list_topics(self) -> dict[str, BagTopic]:
        topics: dict[str, BagTopic] = {}
        for connection in (c for reader in self._readers for c in reader.connections):
            known = topics.get(connection.topic)
            count = connection.msgcount + (known.count if known else 0)
            topics[connection.topic] = BagTopic(connection.topic, connection.msgtype, count)
        return topics

    def require(self, name: str, types: Sequence[str] = IMAGE_TYPES) -> BagTopic:
        """The topic, if it is there, of one of the types, and not empty.

        Raises:
            BagError: otherwise; the sentence lists what is there and which topics are of the wanted types.
        """
        fitting = [t for t in self.topics.values() if t.type in types and t.count]
        wanted = " or ".join(types)
        choose = f"choose one of {', '.join(t.name for t in fitting)}" if fitting else f"none is of type {wanted}"
        topic = self.topics.get(name)
        if topic is None:
            there = ", ".join(f"{t.name} ({t.type})" for t in self.topics.values()) or "no topic at all"
            raise BagError(f"The bag {self.path} has no topic {name}; it has {there}; {choose}.")
        if topic.type not in types:
            raise BagError(f"Topic {name} of {self.path} is a {topic.type}, not a {wanted}; {choose}.")
        if not topic.count:
            raise BagError(f"Topic {name} of {self.path} holds no message; {choose}.")
        return topic

    def image_topics(self, rgb: str = "", thermal: str = "") -> tuple[BagTopic, BagTopic]:
        """The RGB and the thermal topic: the named ones, or, where a name is empty, the one that must be meant.

        That is the only image topic whose name speaks of a thermal camera, and the only other one (a name that is given
        decides for the other camera too); of an image and its compressed twin the plain one is taken.

        Raises:
            BagError: a named topic is missing or no image, or more or less than one topic comes into question.
        """
        images = [t for t in self.topics.values() if t.type in IMAGE_TYPES and t.count]
        plain = {t.name for t in images if t.type == IMAGE}
        images = [t for t in images if t.name.removesuffix("/compressed") not in plain or t.type == IMAGE]
        hot = [t for t in images if _THERMAL_NAME.search(t.name)]
        found = []
        for name, kind, candidates in (
            (rgb, "RGB", [t for t in images if t not in hot and t.name != thermal]),
            (thermal, "thermal", [t for t in hot if t.name != rgb] or [t for t in images if rgb and t.name != rgb]),
        ):
            if name:
                found.append(self.require(name))
            elif len(candidates) == 1:
                found.append(candidates[0])
            else:
                there = ", ".join(t.name for t in images) or "none"
                raise BagError(
                    f"Which topic of {self.path} is the {kind} camera is not clear; its image topics are: {there}. "
                    f"Name the {kind} topic."
                )
        return found[0], found[1]

    def messages(self, topics: Sequence[str] | None = None) -> Iterator[BagMessage]:
        """Messages in the order of their recording, of the named topics or of all.

        Raises:
            BagError: the bag turns out to be damaged on the way.
        """
        streams = []
        for reader in self._readers:
            wanted = [c for c in reader.connections if topics is None or c.topic in topics]
            if wanted:
                streams.append(reader.messages(connections=wanted))
        try:
            for connection, time_ns, data in heapq.merge(*streams, key=lambda item: item[1]):
                yield BagMessage(connection.topic, connection.msgtype, time_ns, bytes(data))
        except Exception as error:
            raise BagError(_damaged(self.path, error)) from error

    def close(self) -> None:
        """Release the files; closing twice is harmless."""
        while self._readers:
            self._readers.pop().close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BagWriter:
    """A new rosbag2 with mcap storage; use it as a context manager.

    The bag appears under its name when it is closed; leaving the context by an exception leaves nothing behind.

    Args:
        path: ``NAME.mcap`` for one lone file, any other name for a folder with ``metadata.yaml``.
        overwrite: replace a bag that lies there.

    Raises:
        BagError: something is there already, or the place cannot be written to.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        if not overwrite and self.path.exists():
            raise BagError(f"{self.path} exists already; remove it or choose another name.")
        if self.path.is_dir() and not (self.path / "metadata.yaml").exists() and any(self.path.iterdir()):
            raise BagError(f"{self.path} is a folder with other things in it; choose another name for the bag.")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f".{self.path.stem}.", dir=self.path.parent))
            self._writer = Writer(self._folder / self.path.stem, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except OSError as error:
            raise BagError(f"Cannot write {self.path} ({error.strerror}); choose another place.") from error
        self._connections: dict[str, Connection] = {}

    def add_topic(self, name: str, message_type: str) -> None:
        """Announce a topic; a topic may stay without messages.

        Raises:
            BagError: a type that this package does not know.
        """
        if message_type not in typestore().fielddefs:
            raise BagError(f"Cannot record {name}: the message type {message_type} is unknown here.")
        self._connections[name] = self._writer.add_connection(name, message_type, typestore=typestore())

    def write(self, topic: str, time_ns: int, data: bytes) -> None:
        """Append CDR bytes to an announced topic at a time in nanoseconds."""
        self._writer.write(self._connections[topic], time_ns, data)

    def close(self) -> None:
        """Finish the bag and put it under its name."""
        self._writer.close()
        if self._overwrite and self.path.is_dir():
            shutil.rmtree(self.path)
        made = self._writer.path
        if self.path.suffix == ".mcap":
            made = made / f"{made.name}.mcap"
        made.replace(self.path)
        shutil.rmtree(self._folder)

    def abort(self) -> None:
        """Drop what was written."""
        self._writer.abort()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _bag_parts(path: Path) -> list[Path]:
    """What rosbags can open each by itself: the folder, the lone file, or the files of a folder without metadata."""
    if not path.exists():
        raise BagError(f"There is no bag at {path}; check the path.")
    if path.is_dir():
        if (path / "metadata.yaml").exists():
            return [path]
        files = sorted(f for f in path.iterdir() if f.suffix in _STORAGE_SUFFIXES)
        if not files:
            raise BagError(f"{path} holds neither metadata.yaml nor .mcap or .db3 files; name a rosbag2 folder.")
        return files
    if path.suffix == ".bag":
        raise BagError(f"{path} is a ROS 1 bag; convert it with `rosbags-convert --src {path.name} --dst NAME` first.")
    if path.suffix not in _STORAGE_SUFFIXES:
        raise BagError(f"{path} is no rosbag2: name its folder, or a file ending in .mcap or .db3.")
    return [path]


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).rstrip(".") or type(error).__name__
    return (
        f"The bag {path} cannot be read ({reason}). Copy it again, or repair a recording that was cut off with "
        "`ros2 bag reindex` (sqlite3) or `mcap recover` (mcap)."
    )
