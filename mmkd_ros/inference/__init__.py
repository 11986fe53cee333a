"""Weights file -> callable(ImagePair) -> Detections."""

from mmkd_ros.inference.session import InferenceError, InferenceOptions, InferenceSession
from mmkd_ros.inference.weights import WeightsError

__all__ = ["InferenceError", "InferenceOptions", "InferenceSession", "WeightsError"]
