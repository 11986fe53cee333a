"""Health of a node on /diagnostics, as plain diagnostic_msgs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.timer import Timer

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True)
class Health:
    """What a node says about itself: a level, a sentence, and figures under stable keys."""

    level: bytes
    sentence: str
    values: Mapping[str, object] = field(default_factory=dict)


class Diagnostics:
    """Publishes a node's health once a second and writes it to the log now and then, at once when the level changes.

    Args:
        node: whose health it is.
        hardware: what it runs on, such as ``cpu``.
        examine: asked once a second.
        log_period_s: seconds between two lines in the log; 0 writes only changes.
    """

    def __init__(self, node: Node, hardware: str, examine: Callable[[], Health], log_period_s: float) -> None:
        self._node, self._hardware, self._examine, self._log_period_s = node, hardware, examine, log_period_s
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer = steady_timer(node, 1.0, self.publish)
        self._level: bytes = OK
        self._logged = time.monotonic()

    def publish(self) -> None:
        """Publish the present health."""
        health = self._examine()
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
        now = time.monotonic()
        due = self._log_period_s > 0 and now - self._logged >= self._log_period_s
        if due or health.level != self._level:
            self._log(health)
            self._logged, self._level = now, health.level

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
