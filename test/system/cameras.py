"""Two cameras that send at a steady rate and fail on demand, and a watch on what comes out, both with arrival times."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from node_bench import Bench, image
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from mmkd_ros.messages import stamp_nanoseconds

RATE_HZ = 10.0
PERIOD_S = 1 / RATE_HZ
CAMERAS = ("rgb", "thermal")


@dataclass(frozen=True)
class Sent:
    """One image: its stamp in nanoseconds, and when it was published on the monotonic clock, seconds."""

    stamp_ns: int
    at: float


class Cameras:
    """Sends images of both cameras in a thread, from ``with`` to its end.

    Args:
        bench: whose publishers are used.
        origin: stamp of the first image, seconds.
        clock: also publish each stamp on /clock.
        rate_hz: of the faster camera.

    Attributes:
        alive: the cameras that send; a test takes one out to let it die.
        frozen: the cameras that repeat their last picture, and ``stuck`` those that repeat their last stamp.
        origin: may be moved: time jumps.
        make: what makes the image of a camera out of its name and stamp.
        every: of so many images of the faster camera, this one sends one.
    """

    def __init__(self, bench: Bench, origin: float = 1000.0, clock: bool = False, rate_hz: float = RATE_HZ) -> None:
        self.alive, self.frozen, self.stuck = set(CAMERAS), set[str](), set[str]()
        self.origin = origin
        self.make: dict[str, Callable[[str, float], Any]] = dict.fromkeys(CAMERAS, image)
        self.every = dict.fromkeys(CAMERAS, 1)
        self._period_s = 1 / rate_hz
        self.sent: dict[str, list[Sent]] = {camera: [] for camera in CAMERAS}
        self._publishers = {camera: bench.publisher(Image, f"/{camera}/image_raw") for camera in CAMERAS}
        self._clock = bench.node.create_publisher(Clock, "/clock", 10) if clock else None
        self._last: dict[str, Any] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)

    def __enter__(self) -> Cameras:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _play(self) -> None:
        begun, tick, origin = time.monotonic(), 0, self.origin
        while not self._stop.wait(max(0.0, begun + tick * self._period_s - time.monotonic())):
            if origin != self.origin:
                begun, tick, origin = time.monotonic(), 0, self.origin
            for camera in sorted(self.alive):
                if tick % self.every[camera] == 0:
                    self._send(camera, origin + tick * self._period_s)
            tick += 1

    def _send(self, camera: str, stamp: float) -> None:
        message, last = self.make[camera](camera, stamp), self._last.get(camera)
        if camera in self.frozen:
            message.data = last.data
        if camera in self.stuck:
            message.header.stamp = last.header.stamp
        if self._clock is not None:
            self._clock.publish(Clock(clock=message.header.stamp))
        self._last[camera] = message
        # Before publishing: the answer may be there before publish() returns.
        self.sent[camera].append(Sent(stamp_nanoseconds(message.header), time.monotonic()))
        self._publishers[camera].publish(message)


@dataclass(frozen=True)
class Output:
    """One detection or track message: stamp, arrival on the monotonic clock, name of its first class ('' without)."""

    stamp_ns: int
    at: float
    name: str


class Watch:
    """Keeps what comes on a topic of detections or tracks."""

    def __init__(self, bench: Bench, topic: str = "detections") -> None:
        self.outputs: list[Output] = []
        self._bench = bench
        quality = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        self._subscription = bench.node.create_subscription(Detection2DArray, topic, self._take, quality)

    def _take(self, message: Any) -> None:
        now = time.monotonic()
        names = [detection.results[0].hypothesis.class_id for detection in message.detections]
        self.outputs.append(Output(stamp_nanoseconds(message.header), now, (names or [""])[0]))

    def since(self, moment: float) -> list[Output]:
        """What came after a moment of the monotonic clock."""
        return [output for output in self.outputs if output.at > moment]

    def first(self, name: str, since: float) -> Output:
        """The first output of a kind after a moment; waits for it."""

        def found() -> Output | None:
            return next((output for output in self.since(since) if output.name == name), None)

        result: Output = self._bench.wait(found, f"for an output of {name}")
        return result

    def settle(self, name: str = "both", count: int = 10) -> None:
        """Wait for so many outputs of one kind in a row: the nodes know each other and run."""

        def settled() -> bool:
            tail = self.outputs[-count:]
            return len(tail) == count and all(output.name == name for output in tail)

        def told() -> str:
            return f"for {count} outputs of {name} in a row; the last: {[output.name for output in self.outputs[-40:]]}"

        self._bench.wait(settled, told)

    def backward_steps(self) -> list[int]:
        """Indices of the outputs whose stamp is not after that of the one before."""
        stamps = [output.stamp_ns for output in self.outputs]
        return [i for i in range(1, len(stamps)) if stamps[i] <= stamps[i - 1]]


def resident_bytes(pid: int, peak: bool = False) -> int:
    """Resident memory of a process, or the most it has ever had; Linux."""
    key = "VmHWM:" if peak else "VmRSS:"
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))
