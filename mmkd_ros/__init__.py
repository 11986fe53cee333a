"""RGB-thermal detection and tracking for ROS 2: two cameras in, tracked objects out."""

__version__ = "0.1.0"
