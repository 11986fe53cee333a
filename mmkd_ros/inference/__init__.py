"""Weights file -> callable(ImagePair) -> Detections. torch is imported only where it runs the network itself."""

from mmkd_ros.inference.errors import InferenceError, WeightsError
from mmkd_ros.inference.session import InferenceOptions, InferenceSession

__all__ = ["InferenceError", "InferenceOptions", "InferenceSession", "WeightsError"]
