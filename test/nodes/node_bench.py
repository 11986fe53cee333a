"""A bench for node tests: real DDS in a domain of its own, nodes as child processes or in this process."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmkd_ros.processes import ros_environment

PATIENCE_S = 90.0
HERE = Path(__file__).parent
_noise = itertools.count()


class Child:
    """A node as a child process; what it writes is kept in a file."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log_file = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                env=ros_environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def exit_code(self) -> int:
        """Wait for its end."""
        return self.process.wait(PATIENCE_S)


class Bench:
    """A node that plays cameras and subscribers, spun in a thread."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("bench", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._publishers: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        try:
            self.executor.spin()
        except ExternalShutdownException:
            return

    def close(self) -> None:
        self.executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        self.context.try_shutdown()

    def wait(self, condition: Callable[[], Any], what: str | Callable[[], str] = "") -> Any:
        """The first true value of ``condition``; fails, saying ``what``, after a patience that suits a busy machine."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            time.sleep(0.01)
        pytest.fail(f"waited {PATIENCE_S:.0f} s in vain {what if isinstance(what, str) else what()}")

    def collect(self, kind: Any, topic: str, *, latched: bool = False, match: bool = True) -> list[Any]:
        """A list that grows with what comes on a topic."""
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        messages: list[Any] = []
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        quality = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        subscription = self.node.create_subscription(kind, topic, messages.append, quality)
        if match:
            self.wait(lambda: self.node.count_publishers(subscription.topic_name) > 0, f"for a publisher of {topic}")
        return messages

    def publisher(self, kind: Any, topic: str, reliable: bool = True) -> Any:
        """A publisher with a subscriber at its other end."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy

        if topic not in self._publishers:
            reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            quality = QoSProfile(depth=10, reliability=reliability)
            self._publishers[topic] = self.node.create_publisher(kind, topic, quality)
        publisher = self._publishers[topic]
        self.wait(lambda: publisher.get_subscription_count() > 0, f"for a subscriber of {topic}")
        return publisher

    def call(self, kind: Any, service: str, request: Any) -> Any:
        """The answer of a service."""
        client = self.node.create_client(kind, service)
        self.wait(client.service_is_ready, f"for {service}")
        future = client.call_async(request)
        self.wait(future.done, f"for an answer of {service}")
        self.node.destroy_client(client)
        return future.result()

    def send(self, camera: str, stamp: float, value: int = 1, topic: str = "", **fields: Any) -> Any:
        """Publish an image whose pixels all are ``value``; ``fields`` spoil the message."""
        message = image(camera, stamp, value, **fields)
        self.publisher(type(message), topic or f"/{camera}/image_raw").publish(message)
        return message

    def send_pair(self, stamp: float, value: int = 1) -> tuple[Any, Any]:
        """Publish an RGB and a thermal image of one instant."""
        return self.send("rgb", stamp, value), self.send("thermal", stamp, value)

    def warm(self, detections: list[Any]) -> None:
        """Pairs until one comes back: from then on both ends know each other."""
        for number in range(1000):
            self.send_pair(1.0 + number * 0.1)
            time.sleep(0.05)
            if detections:
                break
        # What is still under way must not be taken for an answer to what comes next.
        self.wait(lambda: not self._grows(detections), "for silence after the first pairs")
        detections.clear()

    def _grows(self, messages: list[Any]) -> bool:
        before = len(messages)
        time.sleep(0.6)
        return len(messages) != before

    def figures(self, diagnostics: list[Any]) -> dict[str, str]:
        """The newest values of the node on /diagnostics."""
        return {pair.key: pair.value for pair in diagnostics[-1].status[0].values} if diagnostics else {}

    def told(self, diagnostics: list[Any], **values: str) -> dict[str, str]:
        """The first figures with these values, else {}: the newest message may already be past them."""
        said = ({pair.key: pair.value for pair in message.status[0].values} for message in list(diagnostics))
        return next((figures for figures in said if figures.items() >= values.items()), {})


def header(stamp: float, frame_id: str) -> Any:
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    nanoseconds = round(stamp * 1e9)
    return Header(stamp=Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9), frame_id=frame_id)


def found(stamp: float, *centres: tuple[float, float], frame_id: str = "rgb_optical") -> Any:
    """Detections of persons 8 pixels wide and 12 high."""
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesis, ObjectHypothesisWithPose

    message = Detection2DArray(header=header(stamp, frame_id))
    for x, y in centres:
        detection = Detection2D(header=message.header)
        detection.results = [ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id="person", score=0.8))]
        detection.bbox.center.position.x, detection.bbox.center.position.y = x, y
        detection.bbox.size_x, detection.bbox.size_y = 8.0, 12.0
        message.detections.append(detection)
    return message


def image(camera: str, stamp: float, value: int = 1, **fields: Any) -> Any:
    """24 rows and 32 columns, rgb8 or mono8; the last bytes differ from image to image, as a sensor's noise does."""
    from sensor_msgs.msg import Image

    channels = 3 if camera == "rgb" else 1
    message = Image(header=header(stamp, f"{camera}_optical"), height=24, width=32, step=32 * channels)
    message.encoding = "rgb8" if camera == "rgb" else "mono8"
    message.data = np.full(24 * 32 * channels - 2, value, np.uint8).tobytes() + (next(_noise) % 65536).to_bytes(2)
    for name, content in fields.items():
        setattr(message, name, content)
    return message


@contextmanager
def spun(node: Any, context: Any) -> Iterator[Any]:
    """A node of this process at work in a thread of its own."""
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown()
        thread.join()
        node.stop()
        node.destroy_node()
