"""Detections in, tracks out; with the images at hand, objects are also told apart by their looks."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from mmkd_ros.image_cache import ImageCache
from mmkd_ros.messages import ClassNames, MessageTypes, detections_from_message, stamp_nanoseconds, tracks_to_message
from mmkd_ros.metrics import EventRate, RecentValues
from mmkd_ros.nodes.diagnostics import ERROR, OK, WARN, Diagnostics, Health
from mmkd_ros.nodes.images import CameraImage, CameraTopic, image_pair, subscribe_cameras
from mmkd_ros.nodes.lifecycle import ManagedNode, run
from mmkd_ros.nodes.parameters import weights_path
from mmkd_ros.nodes.qos import RESULTS, mismatch_warning
from mmkd_ros.pairing import Sensor
from mmkd_ros.parameters import TrackerParameters
from mmkd_ros.registration import PairAligner, RegistrationError
from mmkd_ros.tracking import DeepSort, StampError
from mmkd_ros.types import Detections, ImagePair
from mmkd_ros.worker import LatestWorker

_TYPES = MessageTypes(Detection2DArray, Detection2D, ObjectHypothesisWithPose)
# Every frame counts for a tracker: a stall of some frames is caught up, a longer one is not.
_ROOM = 10
_SILENCE_S = 1.0


def load_encoder(weights: Path, device: str) -> Any:
    """An ``AppearanceEncoder``, warm. torch takes seconds to import: not before the node can be seen and stopped."""
    import torch

    from mmkd_ros.inference.session import choose_device
    from mmkd_ros.tracking.appearance import AppearanceEncoder

    torch.set_num_threads(1)  # a tiny network: more threads only take the cores from the detector
    encoder = AppearanceEncoder(weights, str(choose_device(device)))
    grey = ImagePair(np.full((64, 64, 3), 127, np.uint8), np.full((64, 64), 127, np.uint8), 0.0)
    encoder.encode(grey, np.array([[0, 0, 64, 64]], np.float32))
    return encoder


class TrackerNode(ManagedNode[TrackerParameters]):
    """The executor's thread keeps images and takes detections in; a worker tracks, in the order of arrival."""

    def __init__(self, **options: Any) -> None:
        super().__init__("tracker_node", TrackerParameters, **options)
        self._encoder: Any = None
        self._tracks: Any = None
        self._subscription: Any = None
        self._topics: dict[Sensor, CameraTopic] = {}
        self._worker: LatestWorker[Any] | None = None
        self._diagnostics: Diagnostics | None = None

    def configure(self) -> None:
        options = self.parameters
        self._align = PairAligner(options.registration)
        if options.appearance:
            self._encoder = load_encoder(weights_path(options.appearance_weights), options.device)
        self._tracks = self.create_publisher(Detection2DArray, "tracks", RESULTS)

    def activate(self) -> None:
        options = self.parameters
        self._tracker, self._names = DeepSort(options.tracker), ClassNames()
        self._cache: ImageCache[CameraImage] = ImageCache(options.image_cache, options.slop_s)
        self._counts: Counter[str] = Counter()
        self._update_ms, self._rate, self._last_output = RecentValues(), EventRate(), time.monotonic()
        self._worker = worker = LatestWorker(self._track, self._lose, _ROOM)
        if self._encoder is not None:
            self._topics = subscribe_cameras(self, options, self._cache.keep)
        self._subscription = self.create_subscription(
            Detection2DArray, "detections", worker.put, RESULTS, event_callbacks=mismatch_warning(self, "detections")
        )
        device = "cpu" if self._encoder is None else str(self._encoder.device)
        self._diagnostics = Diagnostics(self, device, lambda: self._examine(worker.superseded), 0.0)

    def deactivate(self) -> None:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
        for topic in self._topics.values():
            topic.destroy()
        if self._worker is not None and not self._worker.stop():
            self.get_logger().error("The tracker does not come back from its last frame; the device may hang.")
        if self._diagnostics is not None:
            self._diagnostics.destroy()
        self._subscription, self._topics, self._worker, self._diagnostics = None, {}, None, None

    def change(self) -> None:
        if self._worker is not None:
            self._tracker.options = self.parameters.tracker

    def cleanup(self) -> None:
        if self._tracks is not None:
            self.destroy_publisher(self._tracks)
        self._tracks = self._encoder = None

    def _track(self, message: Any) -> None:
        """In the worker's thread."""
        begun = time.monotonic()
        detections, rejected = detections_from_message(message, self._names)
        self._counts["messages_in"] += 1
        self._counts["dropped.box"] += rejected
        if self._tracker.is_backward_jump(detections.stamp):
            self._counts["resets"] += 1
            self.get_logger().warning("The stamps of the detections went back; all tracks are forgotten.")
            self._tracker.reset()
        try:
            tracks = self._tracker.update(detections, self._appearance(message.header, detections))
        except StampError as error:
            self._counts["dropped.late"] += 1
            self.get_logger().warning(f"Detections were left out: {error}", throttle_duration_sec=5.0)
            return
        self._tracks.publish(tracks_to_message(tracks, message.header, _TYPES))
        self._last_output = time.monotonic()
        self._counts["messages"] += 1
        self._counts["tracks"] += len(tracks)
        self._update_ms.add((self._last_output - begun) * 1e3)
        self._rate.add(self._last_output)

    def _appearance(self, header: Any, detections: Detections) -> NDArray[np.float32] | None:
        """(N, D) vectors, or None where there is nothing to look at: those are tracked by motion alone."""
        if self._encoder is None or not len(detections):
            return None
        rgb, thermal = self._cache.find(stamp_nanoseconds(header), header.frame_id)
        if rgb is None and thermal is None:
            self._counts["motion_only"] += 1
            self.get_logger().warning(
                "The images of some detections have not come here, so these are tracked by motion alone; if this goes "
                "on, check rgb_topic and thermal_topic, or raise image_cache.",
                throttle_duration_sec=10.0,
            )
            return None
        pair = image_pair(rgb, thermal, detections.stamp)
        try:
            vectors: NDArray[np.float32] = self._encoder.encode(self._align(pair), detections.boxes)
            self._counts["with_appearance"] += 1
            return vectors
        except (RuntimeError, RegistrationError) as error:  # torch's device errors, sizes; motion still works
            self._counts["motion_only"] += 1
            self.get_logger().error(f"Appearance cannot be used: {error}", throttle_duration_sec=10.0)
            return None

    def _lose(self, error: Exception) -> None:
        """In the worker's thread: one frame is lost, the node goes on."""
        self._counts["dropped.internal"] += 1
        self.get_logger().error(f"A frame was lost: {error}", throttle_duration_sec=5.0)

    def _examine(self, superseded: int) -> Health:
        now, counts = time.monotonic(), self._counts
        if not counts["messages_in"]:
            level, sentence = WARN, f"No detections have come yet on {self._subscription.topic_name}."
        elif now - self._last_output > _SILENCE_S:
            level, sentence = ERROR, f"No tracks for {now - self._last_output:.0f} s."
        else:
            level, sentence = OK, f"{self._rate.per_second(now):.1f} messages/s."
        keys = ("messages_in", "messages", "tracks", "with_appearance", "motion_only", "resets")
        dropped = ("dropped.box", "dropped.late", "dropped.internal")
        values: dict[str, object] = {
            **{key: counts[key] for key in (*keys, *dropped)},
            "dropped.superseded": superseded,
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
