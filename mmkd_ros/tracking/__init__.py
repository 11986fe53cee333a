"""DeepSORT: detections (and appearance vectors) become tracks with an identity. Numpy and scipy only, without ROS.

The appearance network is a part of its own: ``mmkd_ros.tracking.appearance.AppearanceEncoder``.
"""

from __future__ import annotations

from mmkd_ros.tracking.deepsort import DeepSort, StampError
from mmkd_ros.tracking.options import TrackerOptions

__all__ = ["DeepSort", "StampError", "TrackerOptions"]
