"""What the core tells Python's logging, in the log of ROS."""

from __future__ import annotations

import logging

import rclpy.logging


class RosLog(logging.Handler):
    """Hands the records of the package to the logger ``mmkd_ros``."""

    def emit(self, record: logging.LogRecord) -> None:
        logger, sentence = rclpy.logging.get_logger("mmkd_ros"), self.format(record)
        # One line of code each: rclpy ties a severity to the place of the call.
        if record.levelno >= logging.ERROR:
            logger.error(sentence)
        elif record.levelno >= logging.WARNING:
            logger.warning(sentence)
        else:
            logger.info(sentence)


def log_to_ros() -> None:
    """From now on; a second call changes nothing."""
    log = logging.getLogger("mmkd_ros")
    if not any(isinstance(handler, RosLog) for handler in log.handlers):
        log.addHandler(RosLog())
        log.setLevel(logging.INFO)
        log.propagate = False
