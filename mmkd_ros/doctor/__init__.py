"""``python3 -m mmkd_ros.doctor``: what is wrong with this machine, and the cure. No ROS import.

Each check is a function that returns one `Finding`. ``machine`` looks at Python, packages and weights, ``dds`` at the
environment of the middleware, ``topics`` at what the probe (``mmkd_ros.nodes.doctor_probe``, a process of its own, the
only part with rclpy) has measured.
"""
