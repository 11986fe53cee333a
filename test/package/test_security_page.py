"""SECURITY.md says what is true: the limits, and the topics of its policy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mmkd_ros import imaging


@pytest.fixture(scope="module")
def page(repo_root: Path) -> str:
    return (repo_root / "SECURITY.md").read_text(encoding="utf-8")


def test_the_limits_are_those_of_the_code(page: str) -> None:
    side, pixels, megabytes = re.search(r"at most (\d+) pixels\s+a side, 2\^(\d+) pixels and (\d+) MiB", page).groups()  # type: ignore[union-attr]
    assert int(side) == imaging.MAX_SIDE
    assert 2 ** int(pixels) == imaging.MAX_PIXELS
    assert int(megabytes) * 2**20 == imaging.MAX_COMPRESSED_BYTES


@pytest.fixture
def nodes(ros_domain: int, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The three nodes at work, with the overlay watched, by name."""
    import rclpy
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import Image

    from mmkd_ros.nodes.detection_node import DetectionNode
    from mmkd_ros.nodes.overlay_node import OverlayNode
    from mmkd_ros.nodes.tracker_node import TrackerNode

    class NoSession:
        class_names, device, backend, backend_reason, weights_sha256 = ("person",), "cpu", "none", "none", "0" * 64

        def __init__(self, *_: Any, **__: Any) -> None:
            """Takes what a session takes."""

        def warm_up(self) -> None:
            """Nothing to warm."""

    (tmp_path / "none.safetensors").touch()
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    weights = Parameter("weights", value=str(tmp_path / "none.safetensors"))
    motion = [Parameter("appearance", value=False), Parameter("tracker.motion_compensation", value="affine")]
    made = [
        DetectionNode(NoSession, context=context, parameter_overrides=[weights]),
        TrackerNode(context=context, parameter_overrides=motion),
        OverlayNode(context=context),
    ]
    watcher = rclpy.create_node("watcher", context=context)
    watcher.create_subscription(Image, "overlay", print, 1)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    for node in made:
        executor.add_node(node)
        assert node.autostart()
    for _ in range(200):
        executor.spin_once(timeout_sec=0.05)
        if watcher.count_subscribers("/tracks"):  # the overlay node has seen its watcher
            break
    yield {node.get_name(): node for node in made}
    executor.shutdown()
    for node in [*made, watcher]:
        node.destroy_node()
    context.try_shutdown()


@pytest.mark.requires_ros
def test_the_policy_allows_every_topic_of_the_nodes(page: str, nodes: dict[str, Any]) -> None:
    """One that it lacks could not be published or read under SROS 2, and the node could not be activated."""
    (text,) = re.findall(r"```xml\n(<policy.*?)```", page, re.DOTALL)
    profiles = {profile.get("node"): profile for profile in ElementTree.fromstring(text).iter("profile")}  # noqa: S314
    for name, node in nodes.items():
        used = {
            "publish": {topic for topic, _ in node.get_publisher_names_and_types_by_node(name, "/")},
            "subscribe": {topic for topic, _ in node.get_subscriber_names_and_types_by_node(name, "/")},
        }
        for way, topics in used.items():
            allowed = {
                (topic.text or "").replace("~", f"/{name}")
                for group in profiles[name].iter("topics")
                if group.get(way) == "ALLOW"
                for topic in group.iter("topic")
            }
            assert allowed - {"/clock"} == topics, f"{way} of {name}"
