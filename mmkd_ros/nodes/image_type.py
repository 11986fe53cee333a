"""Which of the two image types a camera's topic carries."""

from __future__ import annotations

from rclpy.node import Node

_IMAGE, _COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


def carries_compressed(node: Node, topic: str, declared: bool) -> bool:
    """Whether a topic carries CompressedImage: as its publishers say, if they are there and agree; otherwise as the
    user declared, or as a name that ends in ``/compressed`` tells.

    Args:
        node: whose view of the graph and whose remappings count.
        topic: its name.
        declared: the parameter ``*_compressed``.
    """
    expected = declared or topic.endswith("/compressed")
    publishers = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    found = {end.topic_type for end in publishers} & {_IMAGE, _COMPRESSED_IMAGE}
    if len(found) != 1:
        return expected
    compressed = found == {_COMPRESSED_IMAGE}
    if compressed != expected:
        node.get_logger().info(f"{topic} carries {found.pop()}, so that is what {node.get_name()} reads.")
    return compressed
