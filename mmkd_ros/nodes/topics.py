"""Names of topics that a node must be able to keep apart."""

from __future__ import annotations

from rclpy.node import Node


def require_distinct(node: Node, *topics: str) -> None:
    """Refuse topics of a node that its parameters and remappings have made one: a colour image read as thermal, or an
    output read as an input, would give results that look right.

    Raises:
        ValueError: two of them are one.
    """
    named: dict[str, str] = {}
    for topic in topics:
        name = node.resolve_topic_name(topic)
        if name in named:
            raise ValueError(
                f"{named[name]} and {topic} are one topic here, {name}; correct the parameters or the remappings."
            )
        named[name] = topic
