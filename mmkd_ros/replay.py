"""When a replayed message is due and which stamp it carries: arithmetic on nanoseconds, shared by replay and demo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mmkd_ros.bags import BagError, BagReader, read_stamp

# Enough to see the usual transport delay of a topic, few enough to start at once on a long recording.
_SAMPLES_PER_TOPIC = 50
_SAMPLES_IN_ALL = 2000
_MAX_CLOCK_DIFFERENCE_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """Maps recording times and header stamps onto the time line of one replay.

    Attributes:
        origin_ns: recording time of the first message.
        lag_ns: the shortest delay between header stamp and recording. With it the freshest message carries the time at
            which it is published, no stamp lies in the future, and the cameras keep their distance in time. None where
            header stamps are of no use: recording times then serve as stamps.
        rate: speed; 2.0 plays twice as fast and the stamps follow.
        restamp: False keeps the recorded header stamps.
        warning: a sentence when header stamps had to be given up, else empty.

    Raises:
        ValueError: a rate that is not above 0.
    """

    origin_ns: int
    lag_ns: int | None
    rate: float = 1.0
    restamp: bool = True
    warning: str = ""

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"A replay rate of {self.rate} never ends; use a rate above 0, such as 1.0.")

    def due(self, time_ns: int) -> int:
        """Nanoseconds after the start of the replay at which a message recorded at ``time_ns`` is published."""
        return round((time_ns - self.origin_ns) / self.rate)

    def stamp(self, time_ns: int, header_ns: int, start_ns: int) -> int:
        """Header stamp in nanoseconds to publish.

        Args:
            time_ns: recording time of the message.
            header_ns: its recorded header stamp.
            start_ns: ROS time at which the replay began.
        """
        if not self.restamp:
            return header_ns
        return start_ns + self.due(time_ns if self.lag_ns is None else header_ns + self.lag_ns)


def plan_replay(bag: BagReader, topics: Sequence[str], rate: float = 1.0, restamp: bool = True) -> ReplayPlan:
    """Look at the beginning of a bag and decide how to replay it.

    Header stamps are given up for recording times when a camera never set them, set the same one for ever, or when the
    cameras' clocks differ by more than a second: nothing could be paired by such stamps.

    Raises:
        BagError: none of the topics holds a message.
        ValueError: a rate that is not above 0.
    """
    headers: dict[str, list[int]] = {topic: [] for topic in topics}
    lags: dict[str, list[int]] = {topic: [] for topic in topics}
    origin: int | None = None
    for seen, message in enumerate(bag.messages(topics)):
        origin = message.time_ns if origin is None else origin
        if len(lags[message.topic]) < _SAMPLES_PER_TOPIC:
            headers[message.topic].append(read_stamp(message.data))
            lags[message.topic].append(message.time_ns - headers[message.topic][-1])
        if seen >= _SAMPLES_IN_ALL or all(len(values) >= _SAMPLES_PER_TOPIC for values in lags.values()):
            break
    if origin is None:
        raise BagError(f"The bag {bag.path} holds no message on {' or '.join(topics)}; name other topics.")
    warning = _useless_stamps(headers, lags) if restamp else ""
    lag = None if warning else min(lag for values in lags.values() for lag in values)
    return ReplayPlan(origin, lag, rate, restamp, warning)


def _useless_stamps(headers: dict[str, list[int]], lags: dict[str, list[int]]) -> str:
    """Why header stamps cannot be used, as a sentence, or nothing."""
    for topic, stamps in headers.items():
        if stamps and (0 in stamps or (len(stamps) > 1 and len(set(stamps)) == 1)):
            return f"The header stamps of {topic} are zero or never change; its recording times are used instead."
    usual = [median(values) for values in lags.values() if values]
    if usual and max(usual) - min(usual) > _MAX_CLOCK_DIFFERENCE_NS:
        apart = (max(usual) - min(usual)) / 1e9
        return (
            f"The header stamps of {' and '.join(headers)} come from clocks {apart:.1f} s apart; "
            "recording times are used instead."
        )
    return ""
