"""What differs in rclpy between ROS 2 distributions; every other node file uses what Humble and Jazzy have in common.

Told by what rclpy has, not by a name: a distribution between the two has some of it. What differs outside of rclpy is
in ``mmkd_ros.distribution``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

__all__ = ["SubscriptionEventCallbacks", "WatchedPublisher", "after_parameters_are_set", "with_publish_time"]

# Where a publisher is not told that a subscriber has come or gone, it is looked so often.
_LOOK_S = 0.2


class WatchedPublisher:
    """A lifecycle publisher that tells when a subscriber comes or goes: at once, or in Humble within 0.2 s.

    Args:
        node: that publishes.
        kind: class of the messages.
        topic: its name.
        quality: of service.
        changed: called without arguments when the number of subscribers has changed.
    """

    def __init__(
        self, node: LifecycleNode, kind: Any, topic: str, quality: QoSProfile, changed: Callable[[], None]
    ) -> None:
        self._node, self._changed = node, changed
        self._timer: Any = None
        options = {}
        if "matched" in inspect.signature(PublisherEventCallbacks).parameters:
            options["event_callbacks"] = PublisherEventCallbacks(matched=lambda _: changed())
        self._publisher: Any = node.create_lifecycle_publisher(kind, topic, quality, **options)
        if not options:
            self._subscribers = 0
            # Simulated time may stand still.
            self._timer = node.create_timer(_LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self, message: Any) -> None:
        """Send a message, if the node is active."""
        self._publisher.publish(message)

    def subscribers(self) -> int:
        """How many there are."""
        return int(self._publisher.get_subscription_count())

    def destroy(self) -> None:
        """Take the topic away."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def _look(self) -> None:
        before, self._subscribers = self._subscribers, self.subscribers()
        if self._subscribers != before:
            self._changed()


def after_parameters_are_set(node: Node, told: Callable[[list[Parameter]], None]) -> None:
    """Call ``told`` with the parameters that have been set, when the node holds their new values.

    In Humble nothing is called then; there the method that every way of setting goes through is wrapped.
    """
    if hasattr(node, "add_post_set_parameters_callback"):
        node.add_post_set_parameters_callback(told)
        return
    humble: Any = node
    set_parameters = humble._set_parameters_atomically

    def set_and_tell(parameters: list[Parameter], *arguments: Any, **options: Any) -> Any:
        result = set_parameters(parameters, *arguments, **options)
        if result.successful:
            told(parameters)
        return result

    humble._set_parameters_atomically = set_and_tell


def with_publish_time(receive: Callable[[Any, int], None]) -> Callable[..., None]:
    """A subscription's callback that hands on, beside the message, the publisher's time stamp in nanoseconds; 0 where
    the middleware does not tell it, as in Humble."""
    if not hasattr(Subscription, "CallbackType"):  # Humble's callbacks get the message alone
        return lambda message: receive(message, 0)
    return lambda message, info: receive(message, info["source_timestamp"] or 0)
