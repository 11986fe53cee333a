"""The engines that run a network, and the graphs that they run.

torch runs the network itself. The others run an ONNX graph that is made from the weights file when it is first needed
and kept in a cache folder, so that the file that ships stays safetensors.
"""

from mmkd_ros.inference.backends.backend import BACKENDS, ENGINES, check_backend_name

__all__ = ["BACKENDS", "ENGINES", "check_backend_name"]
