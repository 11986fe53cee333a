"""Two ends of a topic that do not fit: the warning, once, with the cure and the section that explains it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.requires_ros
rclpy_qos = pytest.importorskip("rclpy.qos")


class Listener:
    """Stands in for a node: keeps what is logged."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def get_name(self) -> str:
        return "detection_node"

    def get_logger(self) -> Any:
        return SimpleNamespace(warning=self.said.append)


def test_each_kind_of_mismatch_is_told_once_with_its_cure() -> None:
    from mmkd_ros.nodes.qos import mismatch_warning

    node = Listener()
    events = mismatch_warning(node, "/rgb")  # type: ignore[arg-type]
    kinds = [rclpy_qos.QoSPolicyKind.RELIABILITY, rclpy_qos.QoSPolicyKind.DURABILITY, 12345]
    for kind in [*kinds, *kinds]:
        events.incompatible_qos(SimpleNamespace(last_policy_kind=int(kind)))
    assert len(node.said) == len(kinds)
    first = "A publisher of /rgb offers a reliability that detection_node cannot take, so nothing of it arrives; "
    assert node.said[0] == (
        f"{first}set image_reliability to best_effort, or let the publisher offer reliable. "
        "See docs/troubleshooting.md#qos"
    )
    assert "transient_local" in node.said[1]
    assert "make the quality of service of the two ends agree" in node.said[2]
