"""Quality of service of the topics, and a word to the user when two ends do not fit."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy

from mmkd_ros.doctor.finding import Section
from mmkd_ros.nodes.distribution import SubscriptionEventCallbacks

# Detections and tracks are small and each one counts; the depth covers a subscriber that stalls for some frames.
RESULTS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE)
# What a late subscriber must still get: names of classes and the like.
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)

_CURES = {
    QoSPolicyKind.RELIABILITY: "set image_reliability to best_effort, or let the publisher offer reliable",
    QoSPolicyKind.DURABILITY: "let the publisher offer transient_local",
    QoSPolicyKind.DEADLINE: "lengthen the deadline asked for",
}


def image_qos(reliability: str) -> QoSProfile:
    """For image inputs: the newest image only, so that a slow consumer works on the present.

    Args:
        reliability: ``best_effort`` or ``reliable``.
    """
    policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=policy)


def mismatch_warning(node: Node, topic: str) -> SubscriptionEventCallbacks:
    """Event callbacks for a subscription that log, once, why a publisher's messages never arrive and what to do."""
    told: set[int] = set()

    def incompatible(event: Any) -> None:
        kind = event.last_policy_kind
        if kind in told:
            return
        told.add(kind)
        try:
            policy = QoSPolicyKind(kind)
        except ValueError:
            policy = QoSPolicyKind.INVALID
        cure = _CURES.get(policy, "make the quality of service of the two ends agree")
        node.get_logger().warning(
            f"A publisher of {topic} offers a {policy.name.lower()} that {node.get_name()} cannot take, "
            f"so nothing of it arrives; {cure}. See {Section.QOS.link}"
        )

    return SubscriptionEventCallbacks(incompatible_qos=incompatible)
