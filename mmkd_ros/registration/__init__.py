"""Thermal image -> the same image on the RGB pixel grid. No ROS, no state but a remap table for two image sizes.

The rule for directions: every number maps FROM THERMAL TO RGB. Pixels are (x right, y down), whole numbers at pixel
centres; camera frames are x right, y down, z forward; sizes are (width, height) in pixels.
"""

from mmkd_ros.registration.align import PairAligner, RegistrationError
from mmkd_ros.registration.options import RegistrationOptions, options_from_camera_infos
from mmkd_ros.registration.warp import FILL, MIN_COVERAGE, Registration

__all__ = [
    "FILL",
    "MIN_COVERAGE",
    "PairAligner",
    "Registration",
    "RegistrationError",
    "RegistrationOptions",
    "options_from_camera_infos",
]
