"""The images of a bag by their index, and the stamps under which they were used: for the demo's film and the report.

In: an open bag and its topics. Out: decoded arrays, one in memory at a time; header stamps in nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from mmkd_ros import imaging
from mmkd_ros.bags import COMPRESSED_IMAGE, BagMessage, BagReader, BagTopic, deserialize, read_stamp
from mmkd_ros.replay import ReplayPlan
from mmkd_train.progress import steps


class TopicImages:
    """The images of one topic, to be asked for by ascending index (a smaller one reads the bag again).

    Args:
        bag: stays open while images are asked for.
        topic: of images.
        thermal: read as (H, W) uint8 or uint16 counts, else as (H, W, 3) uint8, red first.
    """

    def __init__(self, bag: BagReader, topic: BagTopic, thermal: bool) -> None:
        self._bag, self._topic, self._thermal = bag, topic, thermal
        self._stream: Iterator[tuple[int, BagMessage]] = iter(())
        self._index, self._image = -1, None
        self._rewind()

    def _rewind(self) -> None:
        self._stream, self._index = enumerate(self._bag.messages([self._topic.name])), -1

    def get(self, index: int | None) -> NDArray[Any] | None:
        """The image; None for no index, and for an image that no node could read either."""
        if index is None:
            return None
        if index < self._index:
            self._rewind()
        if index != self._index:
            self._index, message = next(item for item in self._stream if item[0] == index)
            self._image = self._decode(message)
        return self._image

    def _decode(self, message: BagMessage) -> Any:
        compressed = message.type == COMPRESSED_IMAGE
        if self._thermal:
            decode: Any = imaging.thermal_from_compressed if compressed else imaging.thermal_from_image
        else:
            decode = imaging.rgb_from_compressed if compressed else imaging.rgb_from_image
        try:
            return decode(deserialize(message))
        except imaging.ImagingError:
            return None  # counted by the detection node as dropped; here it is an empty pane


def image_stamps(bag: BagReader, topic: str, plan: ReplayPlan | None = None, start_ns: int = 0) -> list[int]:
    """Header stamps in ns of a topic's images, in their order: as recorded, or as a replay published them.

    Args:
        bag: the recording.
        topic: its name.
        plan: of the replay; None takes the recorded stamps.
        start_ns: when the replay began.
    """
    messages = steps(bag.messages([topic]), "reading stamps", bag.topics[topic].count, "image")
    if plan is None:
        return [read_stamp(message.data) for message in messages]
    return [plan.stamp(m.time_ns, read_stamp(m.data), start_ns) for m in messages]


def nearest(stamps: list[int], stamp: int) -> int | None:
    """Index of the nearest of ascending stamps; None where there is none."""
    if not stamps:
        return None
    right = bisect_left(stamps, stamp)
    return min((i for i in (right - 1, right) if 0 <= i < len(stamps)), key=lambda i: abs(stamps[i] - stamp))
