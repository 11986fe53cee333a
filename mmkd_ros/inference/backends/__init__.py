"""The network on one of several engines, behind one call: letterboxed uint8 images in, logits and offsets out.

torch runs the network itself. The others run ONNX graphs that are made from the weights file when they are first
needed and kept in a cache folder, so that the file that ships stays safetensors.
"""

from mmkd_ros.inference.backends.backend import BACKENDS, ENGINES, Backend, check_backend_name

__all__ = ["BACKENDS", "ENGINES", "Backend", "check_backend_name"]
