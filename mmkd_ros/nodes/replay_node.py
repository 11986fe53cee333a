"""Plays the two image topics of a rosbag2 over DDS, as ``ros2 bag play`` does, where there is no ROS distribution.

Messages stay serialised: only the header stamp inside the bytes is changed, so replaying costs next to nothing.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from mmkd_ros.bags import COMPRESSED_IMAGE, BagError, BagReader, BagTopic, read_stamp, with_stamp
from mmkd_ros.nodes.parameters import declare_parameters
from mmkd_ros.nodes.tool import run_tool
from mmkd_ros.parameters import ReplayParameters
from mmkd_ros.replay import ReplayPlan, plan_replay
from mmkd_ros.status_file import StatusFile

_LOG_PERIOD_S = 5.0


class ReplayNode(Node):
    """Publishes a recording once, or for ever with ``loop``; ``play`` returns at its end."""

    def __init__(self) -> None:
        super().__init__("replay_node")
        self.parameters = declare_parameters(self, ReplayParameters)
        self.counts = {"rgb": 0, "thermal": 0, "unreadable": 0}
        self._status = StatusFile(self.parameters.report)
        self._plan: ReplayPlan | None = None
        self._start, self._start_ns, self._total, self._late_max_s = 0.0, 0, 0, 0.0
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)
        self._clock_publisher = self.create_publisher(Clock, "/clock", 10) if self.parameters.publish_clock else None

    def play(self) -> None:
        """Replay the bag.

        Raises:
            BagError: it cannot be read, or has no such topics.
        """
        options = self.parameters
        with BagReader(options.bag) as bag:
            rgb, thermal = bag.image_topics(options.rgb_topic, options.thermal_topic)
            plan = plan_replay(bag, (rgb.name, thermal.name), options.rate, options.restamp)
            if plan.warning:
                self.get_logger().warning(plan.warning)
            publishers = {
                rgb.name: ("rgb", self._image_publisher(rgb, options.rgb_out)),
                thermal.name: ("thermal", self._image_publisher(thermal, options.thermal_out)),
            }
            self._total = rgb.count + thermal.count
            self._report("waiting", force=True)
            self._wait_for_subscribers([publisher for _, publisher in publishers.values()])
            self._sleep_until(time.monotonic() + options.start_delay_s)
            while self.context.ok():
                self._play_once(bag, plan, publishers)
                if not options.loop:
                    break
            for _, publisher in publishers.values():
                if self.context.ok() and publisher.get_subscription_count():
                    publisher.wait_for_all_acked(Duration(seconds=2))
            self._report("done" if self.context.ok() else "stopped", force=True)

    def _image_publisher(self, topic: BagTopic, name: str) -> Any:
        compressed = topic.type == COMPRESSED_IMAGE
        if compressed and not name.endswith("/compressed"):
            name = f"{name}/compressed"  # where subscribers look for CompressedImage
        reliable = self.parameters.image_reliability == "reliable"
        quality = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=10,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        self.get_logger().info(f"Playing {topic.count} messages of {topic.name} on {name}.")
        return self.create_publisher(CompressedImage if compressed else Image, name, quality)

    def _wait_for_subscribers(self, publishers: list[Any]) -> None:
        deadline = time.monotonic() + self.parameters.wait_for_subscribers_s
        while self.context.ok() and not all(p.get_subscription_count() for p in publishers):
            if time.monotonic() >= deadline:
                silent = [p.topic_name for p in publishers if not p.get_subscription_count()]
                self.get_logger().warning(f"Nobody listens to {' and '.join(silent)}; playing all the same.")
                return
            self._executor.spin_once(timeout_sec=0.05)

    def _play_once(self, bag: BagReader, plan: ReplayPlan, publishers: dict[str, tuple[str, Any]]) -> None:
        self._plan, self._start, self._start_ns = plan, time.monotonic(), time.time_ns()
        self._report("playing", force=True)
        logged = self._start
        for message in bag.messages(list(publishers)):
            due = self._start + plan.due(message.time_ns) / 1e9
            self._sleep_until(due)
            if not self.context.ok():
                return
            camera, publisher = publishers[message.topic]
            try:
                stamp = plan.stamp(message.time_ns, read_stamp(message.data), self._start_ns)
                data = with_stamp(message.data, stamp)
            except (BagError, ValueError) as error:
                self.counts["unreadable"] += 1
                self.get_logger().warning(f"Left out: {error}", throttle_duration_sec=5.0)
                continue
            self._late_max_s = max(self._late_max_s, time.monotonic() - due)
            publisher.publish(data)
            self.counts[camera] += 1
            self._report("playing")
            if time.monotonic() - logged > _LOG_PERIOD_S:
                logged = time.monotonic()
                self.get_logger().info(f"{self._published()} of {self._total} messages played.")
        self.get_logger().info(
            f"End of the recording: {self._published()} messages played, at most {self._late_max_s * 1e3:.0f} ms late."
        )

    def _published(self) -> int:
        return self.counts["rgb"] + self.counts["thermal"]

    def _sleep_until(self, deadline: float) -> None:
        """Serve the node's own services while waiting; the last millisecond is slept, for precision."""
        slice_s = 0.05 if self._clock_publisher is None else 0.01
        while self.context.ok():
            self._publish_clock()
            remaining = deadline - time.monotonic()
            if remaining > 0.002:
                self._executor.spin_once(timeout_sec=min(remaining - 0.001, slice_s))
            else:
                time.sleep(max(0.0, remaining))
                return

    def _publish_clock(self) -> None:
        if self._clock_publisher is None or self._plan is None:
            return
        elapsed = round((time.monotonic() - self._start) * 1e9)
        if self.parameters.restamp:
            now = self._start_ns + elapsed
        else:
            now = self._plan.origin_ns + round(elapsed * self.parameters.rate)
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = divmod(now, 1_000_000_000)
        self._clock_publisher.publish(clock)

    def _report(self, state: str, *, force: bool = False) -> None:
        status = {"state": state, "total": self._total, "start_ns": self._start_ns, "late_max_s": self._late_max_s}
        self._status.write({**status, "rate": self.parameters.rate, **self.counts}, force=force)


def main(args: list[str] | None = None) -> int:
    """Run until the end of the recording or a signal: 0; 1 when it cannot be played."""
    return run_tool("replay_node", ReplayNode, ReplayNode.play, args=args)


if __name__ == "__main__":
    sys.exit(main())
