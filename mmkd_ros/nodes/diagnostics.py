"""Health of a node on /diagnostics, as plain diagnostic_msgs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer

_PERIOD_S, _WATCH_S = 1.0, 0.1
# The trace of a killed process goes out of the graph after 20 s.
_NAMESAKE_S = 30.0
_NAMESAKE = "Another node has the same name, so commands and parameters reach either: end one, or give it a namespace."
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True)
class Health:
    """What a node says about itself: a level, a sentence, and figures under stable keys."""

    level: bytes
    sentence: str
    values: Mapping[str, object] = field(default_factory=dict)


class Diagnostics:
    """Publishes a node's health once a second, and at once when its state changes; writes it to the log then, and now
    and then.

    Args:
        node: whose health it is.
        hardware: what it runs on, such as ``cpu``.
        examine: asked for the whole health when it is published.
        state: asked ten times a second for what must be told at once when it changes, such as the level.
        log_period_s: seconds between two lines in the log; 0 writes only changes.
    """

    def __init__(
        self,
        node: Node,
        hardware: str,
        examine: Callable[[], Health],
        state: Callable[[], object],
        log_period_s: float,
    ) -> None:
        self._node, self._hardware, self._log_period_s = node, hardware, log_period_s
        self._examine, self._state = examine, state
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer = steady_timer(node, _WATCH_S, self._watch)
        self._published = self._logged = self._unique = time.monotonic()
        self._published_state = self._logged_state = state()

    def _watch(self) -> None:
        now, state = time.monotonic(), self._state()
        if state == self._published_state and now - self._published < _PERIOD_S:
            return
        self._published, self._published_state = now, state
        health = self._examine()
        if self._has_namesake(now):
            health = replace(health, level=max(health.level, WARN), sentence=f"{health.sentence} {_NAMESAKE}")
            self._node.get_logger().warning(_NAMESAKE, throttle_duration_sec=60.0)
        self._publish(health)
        since = now - self._logged
        # A state that flutters is told once a second, not at every turn.
        if (state != self._logged_state and since >= _PERIOD_S) or 0 < self._log_period_s <= since:
            self._log(health)
            self._logged, self._logged_state = now, state

    def _has_namesake(self, now: float) -> bool:
        """Whether another node has borne this one's full name for longer than a dead process leaves its trace."""
        own = (self._node.get_name(), self._node.get_namespace())
        if self._node.get_node_names_and_namespaces().count(own) < 2:
            self._unique = now
        return now - self._unique > _NAMESAKE_S

    def _publish(self, health: Health) -> None:
        status = DiagnosticStatus(
            level=health.level,
            name=self._node.get_fully_qualified_name().lstrip("/"),
            message=health.sentence,
            hardware_id=self._hardware,
            values=[KeyValue(key=key, value=_text(value)) for key, value in health.values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _log(self, health: Health) -> None:
        logger = self._node.get_logger()
        # A place of its own for each severity: rclpy raises when one place changes it.
        if health.level == OK:
            logger.info(health.sentence)
        elif health.level == WARN:
            logger.warning(health.sentence)
        else:
            logger.error(health.sentence)

    def destroy(self) -> None:
        """Stop publishing."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)


def steady_timer(node: Node, period_s: float, callback: Callable[[], None]) -> Timer:
    """A timer on the steady clock: simulated time may stand still, a node's housekeeping may not."""
    return node.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
