"""A result bag -> what its page tells: histories of tracks, latencies, modality over time, counts. No pictures here.

In: a rosbag2 with ``tracks`` or ``detections``, and, where they were recorded, diagnostics and the debug topics. Out:
one :class:`RunRecord`, whose size grows with tracks and messages, not with pixels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.bags import (
    DETECTION_ARRAY,
    DIAGNOSTIC_ARRAY,
    FLOAT,
    STRING,
    BagError,
    BagMessage,
    BagReader,
    deserialize,
    read_stamp,
)
from mmkd_ros.drawing import DrawnObject, objects_from_message
from mmkd_train.progress import steps

TRACKS_SERIES = "camera to tracks"
DETECTIONS_SERIES = "camera to detections"
NETWORK_SERIES = "network alone"
SERIES = (TRACKS_SERIES, DETECTIONS_SERIES, NETWORK_SERIES)

# A track that missed no more than so many messages in a row counts as seen all the while.
_MISSED = 5
_ERROR = 2  # diagnostic_msgs/DiagnosticStatus


@dataclass(frozen=True, slots=True)
class Moment:
    """One sight of a track: header stamp in ns and its box in pixels of the image with that stamp."""

    stamp_ns: int
    drawn: DrawnObject

    @property
    def merit(self) -> float:
        """Score times the side of a square as large as the box: sure and large sights first."""
        x1, y1, x2, y2 = self.drawn.box
        score = self.drawn.score if math.isfinite(self.drawn.score) else 0.0
        return score * math.sqrt(max(0.0, x2 - x1) * max(0.0, y2 - y1))


@dataclass(slots=True)
class TrackHistory:
    """All that is kept of one track.

    Attributes:
        id: as published.
        best: its sight of most merit.
        sights: messages that held it.
        names: how often it was given each class.
        spans: recording times in ns, from and to, in which it was seen.
    """

    id: str
    best: Moment
    sights: int = 0
    names: Counter[str] = field(default_factory=Counter)
    spans: list[tuple[int, int]] = field(default_factory=list)
    _last_number: int = -_MISSED - 2

    @property
    def name(self) -> str:
        """The class that it was given most often."""
        return self.names.most_common(1)[0][0]

    @property
    def seen_s(self) -> float:
        """Seconds in all spans."""
        return sum(end - begin for begin, end in self.spans) / 1e9

    def add(self, moment: Moment, time_ns: int, number: int) -> None:
        """One more sight, recorded at ``time_ns`` in message ``number``."""
        self.sights += 1
        self.names[moment.drawn.name] += 1
        if moment.merit > self.best.merit:
            self.best = moment
        if number - self._last_number > _MISSED + 1:
            self.spans.append((time_ns, time_ns))
        else:
            self.spans[-1] = (self.spans[-1][0], time_ns)
        self._last_number = number


@dataclass(slots=True)
class RunRecord:
    """What one recording tells. Times are recording times in ns: they never go back, whatever the header stamps do.

    Attributes:
        begin_ns, end_ns: of the first and the last message that is used.
        tracks: id -> history.
        published: series -> (recording time, header stamp) of every message of tracks and of detections, in ns.
        tracked: header stamp in ns -> tracked objects; empty unless they were asked for.
        messages: topic -> messages.
        objects: class -> detections (of tracks, where no detections were recorded).
        delays: series -> (time in ns, milliseconds); publish time minus header stamp, or the network's own time.
        modality: (time in ns, cameras in use from then on), at every change.
        figures: last diagnostics of the detection node.
    """

    begin_ns: int = 0
    end_ns: int = 0
    tracks: dict[str, TrackHistory] = field(default_factory=dict)
    published: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    tracked: dict[int, list[DrawnObject]] = field(default_factory=dict)
    messages: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    delays: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    modality: list[tuple[int, str]] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the first to the last message."""
        return (self.end_ns - self.begin_ns) / 1e9

    @property
    def longest_way(self) -> list[tuple[int, float]]:
        """Delays from the cameras to the tracks, or to the detections where there are no tracks."""
        return self.delays.get(TRACKS_SERIES) or self.delays.get(DETECTIONS_SERIES) or []


def percentiles(values: Sequence[float] | NDArray[np.float64], *ranks: int) -> dict[str, float | None]:
    """``p50`` and the like, rounded to two digits; None of no values."""
    return {f"p{rank}": round(float(np.percentile(values, rank)), 2) if len(values) else None for rank in ranks}


def read_run(path: Path, tracks_topic: str = "", detections_topic: str = "", with_boxes: bool = False) -> RunRecord:
    """Read a recording.

    Args:
        path: of a rosbag2.
        tracks_topic: empty takes the only one called ``tracks``, in whatever namespace.
        detections_topic: the same for ``detections``.
        with_boxes: keep every box of every track, which a recording of a day would fill the memory with.

    Returns:
        The record, without any message where nothing was published.

    Raises:
        BagError: no such bag, it has no topic of ours, or it is not clear which one is meant.
    """
    with BagReader(path) as bag:
        tracks, detections = _result_topics(bag, tracks_topic, detections_topic)
        reader = _Reader(tracks, detections, with_boxes)
        takers: dict[str, Callable[[BagMessage], None]] = {}
        for topic in bag.topics.values():
            taker = reader.taker(topic.name, topic.type)
            if taker is not None:
                takers[topic.name] = taker
        total = sum(bag.topics[name].count for name in takers)
        for message in steps(bag.messages(list(takers)), "reading", total, "message"):
            takers[message.topic](message)
    if not reader.run.modality:
        reader.run.modality = reader.modality_told
    return reader.run


def _result_topics(bag: BagReader, tracks: str, detections: str) -> tuple[str, str]:
    """Names of the topics of tracks and of detections; empty where there is none."""
    ours = [topic.name for topic in bag.topics.values() if topic.type == DETECTION_ARRAY]
    if not ours:
        there = ", ".join(sorted(bag.topics)) or "no topic at all"
        raise BagError(
            f"{bag.path} holds no detections or tracks ({DETECTION_ARRAY}), only {there}. Record them with the "
            "recorder_node, or with `ros2 bag record /detections /tracks /diagnostics`."
        )
    found = []
    for given, kind in ((tracks, "tracks"), (detections, "detections")):
        called = [name for name in ours if name.rpartition("/")[2] == kind]
        if given:
            found.append(bag.require(given, (DETECTION_ARRAY,)).name)
        elif len(called) > 1:
            raise BagError(f"{bag.path} holds {', '.join(called)}; choose one with --{kind}-topic.")
        else:
            found.append(called[0] if called else "")
    if not any(found):
        raise BagError(
            f"Which topic of {bag.path} holds the tracks is not clear; name one of {', '.join(ours)} with "
            "--tracks-topic or --detections-topic."
        )
    return found[0], found[1]


class _Reader:
    """Fills a record, message by message in the order of time."""

    def __init__(self, tracks: str, detections: str, with_boxes: bool) -> None:
        self.run = RunRecord()
        self.modality_told: list[tuple[int, str]] = []  # by diagnostics: coarser than the topic
        self._tracks, self._detections, self._with_boxes = tracks, detections, with_boxes

    def taker(self, topic: str, kind: str) -> Callable[[BagMessage], None] | None:
        """What to do with the messages of a topic; None: nothing."""
        if topic in (self._tracks, self._detections):
            return self._take_objects
        if kind == DIAGNOSTIC_ARRAY:
            return self._take_diagnostics
        if kind == STRING and topic.endswith("/modality"):
            return lambda message: _change(self.run.modality, message.time_ns, deserialize(message).data)
        if kind == FLOAT and topic.endswith("/debug/processing_time_ms"):
            return lambda message: self._delay(NETWORK_SERIES, message.time_ns, deserialize(message).data)
        if kind == FLOAT and topic.endswith("/debug/latency_ms") and not self._detections:
            return lambda message: self._delay(DETECTIONS_SERIES, message.time_ns, deserialize(message).data)
        return None

    def _take_objects(self, message: BagMessage) -> None:
        run, stamp = self.run, read_stamp(message.data)
        run.begin_ns, run.end_ns = run.begin_ns or message.time_ns, message.time_ns
        run.messages[message.topic] += 1
        objects = objects_from_message(deserialize(message))
        is_tracks = message.topic == self._tracks
        series = TRACKS_SERIES if is_tracks else DETECTIONS_SERIES
        run.published.setdefault(series, []).append((message.time_ns, stamp))
        self._delay(series, message.time_ns, (message.time_ns - stamp) / 1e6)
        if not (is_tracks and self._detections):
            run.objects.update(drawn.name for drawn in objects)
        if is_tracks and self._with_boxes:
            run.tracked[stamp] = objects
        if is_tracks:
            for drawn in filter(lambda item: item.id, objects):
                moment = Moment(stamp, drawn)
                history = run.tracks.setdefault(drawn.id, TrackHistory(drawn.id, moment))
                history.add(moment, message.time_ns, run.messages[message.topic])

    def _take_diagnostics(self, message: BagMessage) -> None:
        for status in deserialize(message).status:
            if status.name.rpartition("/")[2] != "detection_node":
                continue
            self.run.figures = {pair.key: pair.value for pair in status.values}
            used = "none" if int(status.level) == _ERROR else self.run.figures.get("modality", "none")
            _change(self.modality_told, message.time_ns, used)

    def _delay(self, series: str, time_ns: int, milliseconds: Any) -> None:
        if math.isfinite(milliseconds):
            self.run.delays.setdefault(series, []).append((time_ns, float(milliseconds)))


def _change(states: list[tuple[int, str]], time_ns: int, state: str) -> None:
    if not states or states[-1][1] != state:
        states.append((time_ns, state))
