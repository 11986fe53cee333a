"""Weights file -> callable(ImagePair) -> Detections. torch is imported for a .safetensors file only."""

from mmkd_ros.inference.errors import InferenceError, WeightsError
from mmkd_ros.inference.session import InferenceOptions, InferenceSession

__all__ = ["InferenceError", "InferenceOptions", "InferenceSession", "WeightsError"]
