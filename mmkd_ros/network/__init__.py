"""The detector: one network class for teacher and student, built from one configuration."""

from mmkd_ros.network.config import DetectorConfig
from mmkd_ros.network.detector import (
    Detector,
    DetectorOutput,
    count_macs,
    count_macs_by_part,
    count_parameters,
)

__all__ = ["Detector", "DetectorConfig", "DetectorOutput", "count_macs", "count_macs_by_part", "count_parameters"]
