"""A part of a node whose topics, log lines and diagnostics stand under a name of their own."""

from __future__ import annotations

from typing import Any, cast

from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription


def subnode(node: Node, name: str) -> Node:
    """The node as its part ``name`` sees it, or the node itself for an empty name.

    Topics are those that a node of the same name in the namespace ``name`` would have: of ``/detection_node``, the part
    ``front`` has ``/front/detections`` as ``detections``, and ``/front/detection_node/modality`` as ``~/modality``.
    Everything else is the node's own.
    """
    return cast(Node, _Subnode(node, name)) if name else node


class _Subnode:
    def __init__(self, node: Node, name: str) -> None:
        self._node, self._name = node, name
        self._logger = node.get_logger().get_child(name)  # one for all: it remembers what it has said

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._node, attribute)

    def get_logger(self) -> RcutilsLogger:
        return self._logger

    def get_fully_qualified_name(self) -> str:
        return self._node.resolve_topic_name(self._under("~"), only_expand=True)

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        return str(self._node.resolve_topic_name(self._under(topic), only_expand=only_expand))

    def create_publisher(self, kind: Any, topic: str, *arguments: Any, **options: Any) -> Publisher:
        return self._node.create_publisher(kind, self._under(topic), *arguments, **options)

    def create_subscription(self, kind: Any, topic: str, *arguments: Any, **options: Any) -> Subscription:
        return self._node.create_subscription(kind, self._under(topic), *arguments, **options)

    def _under(self, topic: str) -> str:
        if topic.startswith("/"):
            return topic
        if topic.startswith("~"):
            topic = self._node.get_name() + topic[1:]
        return f"{self._name}/{topic}"
