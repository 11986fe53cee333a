"""Records detections, tracks, diagnostics and the cameras in use into a rosbag2; the recording time of a message is its
publish time."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64, String
from vision_msgs.msg import Detection2DArray

from mmkd_ros.bags import (
    DETECTION_ARRAY,
    DIAGNOSTIC_ARRAY,
    FLOAT,
    STRING,
    BagError,
    BagMessage,
    BagWriter,
    deserialize,
)
from mmkd_ros.nodes.distribution import with_publish_time
from mmkd_ros.nodes.parameters import declare_parameters
from mmkd_ros.nodes.tool import run_tool
from mmkd_ros.parameters import RecorderParameters
from mmkd_ros.status_file import StatusFile

_TOPICS = {
    "detections": (Detection2DArray, DETECTION_ARRAY),
    "tracks": (Detection2DArray, DETECTION_ARRAY),
    "/diagnostics": (DiagnosticArray, DIAGNOSTIC_ARRAY),
    "detection_node/modality": (String, STRING),
    "detection_node/debug/processing_time_ms": (Float64, FLOAT),
}
_LATCHED = ("detection_node/modality",)  # what was said last before the recorder came counts too
_CLOSING_S = 10.0


def _quality(name: str) -> QoSProfile:
    durability = DurabilityPolicy.TRANSIENT_LOCAL if name in _LATCHED else DurabilityPolicy.VOLATILE
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=durability
    )


class RecorderNode(Node):
    """Hands serialised messages to a thread that writes them, so that a slow disk delays no callback.

    Raises:
        BagError: the recording cannot be written there.
    """

    def __init__(self) -> None:
        super().__init__("recorder_node")
        options = declare_parameters(self, RecorderParameters)
        if not options.output:
            raise BagError("The recorder has no place to write to; set its parameter 'output', such as result.mcap.")
        self._status = StatusFile(options.report)
        self._counts = dict.fromkeys(_TOPICS, 0)
        self._track_ids: set[str] = set()
        self._queue: queue.Queue[BagMessage | None] = queue.Queue()
        self._bag = BagWriter(options.output, overwrite=options.overwrite)
        self._failure: Exception | None = None
        self._subscriptions_of = {}
        for name, (kind, type_name) in _TOPICS.items():
            topic = self.resolve_topic_name(name)
            self._bag.add_topic(topic, type_name)
            receive = with_publish_time(self._receiver(name, topic, type_name))
            self._subscriptions_of[name] = self.create_subscription(kind, topic, receive, _quality(name), raw=True)
        self._watched = [t.strip() for t in options.watch_topics.split(",") if t.strip()]
        self._writer = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._writer.start()
        self.create_timer(0.2, self._report)
        self.get_logger().info(f"Recording {', '.join(self._topics())} into {options.output}.")

    def _topics(self) -> list[str]:
        return [subscription.topic_name for subscription in self._subscriptions_of.values()]

    def _receiver(self, name: str, topic: str, type_name: str) -> Callable[[bytes, int], None]:
        def receive(data: bytes, published_ns: int) -> None:
            # The publisher's own time stamp, where the middleware hands it on: the delivery is no part of the latency.
            time_ns = published_ns or self.get_clock().now().nanoseconds
            self._counts[name] += 1
            self._queue.put(BagMessage(topic, type_name, time_ns, data))

        return receive

    def _write(self) -> None:
        tracks = self._subscriptions_of["tracks"].topic_name
        try:
            while (message := self._queue.get()) is not None:
                self._bag.write(message.topic, message.time_ns, message.data)
                if message.topic == tracks:
                    self._track_ids.update(item.id for item in deserialize(message).detections)
            self._bag.close()
        except Exception as error:  # reported by the thread that runs the node
            self._failure = error
            self._bag.abort()

    def _report(self, state: str = "recording") -> None:
        if self._failure is not None:
            raise BagError(f"The recording cannot go on ({self._failure}); check the disk.")
        subscribers = {
            name: [end.node_name for end in self.get_subscriptions_info_by_topic(name)]
            for name in [*self._topics(), *self._watched]
        }
        counts = {name.strip("/"): count for name, count in self._counts.items()}
        status = {"state": state, **counts, "track_ids": len(self._track_ids)}
        self._status.write({**status, "subscribers": subscribers})

    def finish(self) -> None:
        """Write what is still waiting, close the recording and leave the last report.

        Raises:
            BagError: it could not be written.
        """
        self._queue.put(None)
        self._writer.join(_CLOSING_S)
        if self._writer.is_alive():
            raise BagError(f"The recording is not closed after {_CLOSING_S:.0f} s; the disk is too slow.")
        if self._failure is not None:
            raise BagError(f"The recording could not be finished ({self._failure}); check the disk.")
        counts = {name.strip("/"): count for name, count in self._counts.items()}
        self._status.write({"state": "done", **counts, "track_ids": len(self._track_ids)}, force=True)


def main(args: list[str] | None = None) -> int:
    """Record until SIGINT or SIGTERM, then finish the bag: 0; 1 when it cannot be written."""
    return run_tool("recorder_node", RecorderNode, rclpy.spin, RecorderNode.finish, args)


if __name__ == "__main__":
    sys.exit(main())
