"""Detections in, tracks out; with the images at hand, objects are also told apart by their looks."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from typing import Any

from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from mmkd_ros.messages import ClassNames, MessageTypes, detections_from_message, tracks_to_message
from mmkd_ros.metrics import EventRate, RecentValues
from mmkd_ros.nodes.appearance import load_encoder
from mmkd_ros.nodes.autoware_output import AutowareOutput
from mmkd_ros.nodes.diagnostics import ERROR, OK, WARN, Diagnostics, Health
from mmkd_ros.nodes.images import CameraTopic, subscribe_cameras
from mmkd_ros.nodes.lifecycle import ManagedNode, run
from mmkd_ros.nodes.parameters import weights_path
from mmkd_ros.nodes.qos import RESULTS, mismatch_warning
from mmkd_ros.nodes.sight import Sight
from mmkd_ros.nodes.topics import require_distinct
from mmkd_ros.pairing import Sensor
from mmkd_ros.parameters import TrackerParameters
from mmkd_ros.tracking import DeepSort, StampError
from mmkd_ros.tracking.screening import DETECTION_REASONS
from mmkd_ros.worker import LatestWorker

_TYPES = MessageTypes(Detection2DArray, Detection2D, ObjectHypothesisWithPose)
# Every frame counts for a tracker: a stall of some frames is caught up, a longer one is not.
_ROOM = 10
_SILENCE_S = 1.0


class TrackerNode(ManagedNode[TrackerParameters]):
    """The executor's thread keeps images and takes detections in; a worker tracks, in the order of arrival.

    Attributes:
        alone: no other node of this process uses torch, whose number of threads is one for the process.
    """

    alone = True

    def __init__(self, **options: Any) -> None:
        super().__init__("tracker_node", TrackerParameters, **options)
        self._encoder: Any = None
        self._tracks: Any = None
        self._autoware: Any = None
        self._subscription: Any = None
        self._service: Any = None
        self._topics: dict[Sensor, CameraTopic] = {}
        self._worker: LatestWorker[Any] | None = None
        self._diagnostics: Diagnostics | None = None

    def configure(self) -> None:
        options = self.parameters
        require_distinct(self, "detections", "tracks")
        require_distinct(self, options.rgb_topic, options.thermal_topic)
        self._autoware = AutowareOutput(self, options.output, registered=options.registration.mode != "identity")
        if options.appearance:
            self._encoder = load_encoder(weights_path(options.appearance_weights), options.device, alone=self.alone)
        import scipy.optimize  # noqa: F401 - slow to import: now, and not at the first frame

        self._tracks = self.create_publisher(Detection2DArray, "tracks", RESULTS)

    def activate(self) -> None:
        options = self.parameters
        self._tracker, self._names = DeepSort(options.tracker), ClassNames()
        self._sight = Sight(options, self._encoder, self.get_logger())
        self._counts: Counter[str] = Counter()
        self._update_ms, self._rate, self._last_output = RecentValues(), EventRate(), time.monotonic()
        self._restart_asked, self._refused = threading.Event(), 0
        self._worker = worker = LatestWorker(self._track, self._lose, _ROOM)
        self._service = self.create_service(Trigger, "~/reset", self._restart)
        self.listen(worker)
        device = "cpu" if self._encoder is None else str(self._encoder.device)
        self._diagnostics = Diagnostics(self, device, lambda: self._examine(worker.superseded), self._level, 0.0)

    def listen(self, worker: LatestWorker[Any]) -> None:
        """Begin to hand detections to the worker and to keep images."""
        if self._sight.wants_images:
            self._topics = subscribe_cameras(self, self.parameters, self._sight.keep)
        self._subscription = self.create_subscription(
            Detection2DArray, "detections", worker.put, RESULTS, event_callbacks=mismatch_warning(self, "detections")
        )

    def deactivate(self) -> None:
        if self._service is not None:
            self.destroy_service(self._service)
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
        for topic in self._topics.values():
            topic.destroy()
        if self._worker is not None and not self._worker.stop():
            self.get_logger().error("The tracker does not come back from its last frame; the device may hang.")
        if self._diagnostics is not None:
            self._diagnostics.destroy()
        self._service = self._subscription = self._worker = self._diagnostics = None
        self._topics = {}

    def change(self) -> None:
        if self._worker is not None:
            self._tracker.options = self.parameters.tracker

    def cleanup(self) -> None:
        if self._autoware is not None:
            self._autoware.destroy()
        if self._tracks is not None:
            self.destroy_publisher(self._tracks)
        self._tracks = self._autoware = self._encoder = None

    def _track(self, message: Any) -> None:
        """In the worker's thread."""
        begun, worker = time.monotonic(), self._worker
        detections, rejected = detections_from_message(message, self._names)
        self._counts["messages_in"] += 1
        self._counts["dropped.box"] += rejected
        if self._restart_asked.is_set():
            self._restart_asked.clear()
            self._forget()
        if self._tracker.is_backward_jump(detections.stamp):
            self.get_logger().warning("The stamps of the detections went back; all tracks are forgotten.")
            self._forget()
        try:
            seen = self._sight.look(message.header, detections, self._tracker.options)
            if self._worker is not worker:
                return  # the device hung, and the node was deactivated meanwhile: this tracker is another one
            tracks = self._tracker.update(detections, *seen)
        except StampError as error:
            self._counts["dropped.late"] += 1
            self.get_logger().warning(f"Detections were left out: {error}", throttle_duration_sec=5.0)
            return
        self._tracks.publish(tracks_to_message(tracks, message.header, _TYPES))
        self._autoware.publish_tracks(tracks, self._tracker.run, message.header, begun)
        refused = sum(self._tracker.dropped[reason] for reason in DETECTION_REASONS)
        if rejected or refused > self._refused:
            self._refused = refused
            self.get_logger().warning(
                f"Detections were left out, so far {self._counts['dropped.box']} that cannot be read and {refused} "
                "that cannot be tracked; the diagnostics say why (dropped.box, refused.*). Check what publishes them.",
                throttle_duration_sec=10.0,
            )
        self._last_output = time.monotonic()
        self._counts["messages"] += 1
        self._counts["tracks"] += len(tracks)
        self._update_ms.add((self._last_output - begun) * 1e3)
        self._rate.add(self._last_output)

    def _restart(self, request: Any, response: Any) -> Any:
        """`~/reset`; the tracker belongs to the worker's thread, which starts anew before the next frame."""
        self._restart_asked.set()
        response.success, response.message = True, "All tracks are forgotten; ids go on counting."
        return response

    def _forget(self) -> None:
        self._counts["resets"] += 1
        self._tracker.reset()
        self._sight.reset()

    def _lose(self, error: Exception) -> None:
        """In the worker's thread: one frame is lost, the node goes on."""
        self._counts["dropped.internal"] += 1
        self.get_logger().error(f"A frame was lost: {error}", throttle_duration_sec=5.0)

    def _level(self) -> bytes:
        if not self._counts["messages_in"]:
            return WARN
        return ERROR if time.monotonic() - self._last_output > _SILENCE_S else OK

    def _examine(self, superseded: int) -> Health:
        now, counts, level = time.monotonic(), self._counts, self._level()
        sentence = {
            WARN: f"No detections have come yet on {self.resolve_topic_name('detections')}.",
            ERROR: f"No tracks for {now - self._last_output:.0f} s.",
            OK: f"{self._rate.per_second(now):.1f} messages/s.",
        }[level]
        keys = ("messages_in", "messages", "tracks", "resets")
        dropped = ("dropped.box", "dropped.late", "dropped.internal")
        values: dict[str, object] = {
            **{key: counts[key] for key in (*keys, *dropped)},
            "dropped.superseded": superseded,
            **self._sight.figures(),
            **self._autoware.figures(),
            **{f"refused.{reason}": n for reason, n in self._tracker.dropped.items()},
            **{f"rejected.{sensor}": topic.rejected.total() for sensor, topic in self._topics.items()},
            **dict(zip(("update_ms_p50", "update_ms_p95"), self._update_ms.percentiles(50, 95), strict=True)),
        }
        return Health(level, sentence, values)


def main(args: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM: 0; 1 when the node cannot be configured."""
    return run(TrackerNode, args)


if __name__ == "__main__":
    sys.exit(main())
