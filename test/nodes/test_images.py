"""Camera topics: which of the two image types is read, and what comes of it."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from node_bench import Bench, header
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from mmkd_ros.nodes.image_type import carries_compressed
from mmkd_ros.nodes.images import CameraImage, CameraTopic


def test_the_type_on_the_graph_decides_over_name_and_parameter(bench: Bench) -> None:
    node = bench.node
    for name, declared, expected in (("/a", False, False), ("/a", True, True), ("/a/compressed", False, True)):
        assert carries_compressed(node, name, declared) is expected, "nobody publishes: name and parameter decide"
    for topic, kind in (("/odd", CompressedImage), ("/plain/compressed", Image), ("/text", String)):
        node.create_publisher(kind, topic, 1)
        bench.wait(lambda topic=topic: node.count_publishers(topic), f"for the publisher of {topic}")
    assert carries_compressed(node, "odd", False), "a relative name is resolved"
    assert not carries_compressed(node, "/plain/compressed", True)
    assert carries_compressed(node, "/text", True) and not carries_compressed(node, "/text", False)


@pytest.mark.parametrize("declared", [False, True])
def test_publishers_of_both_types_leave_it_to_the_user(declared: bool) -> None:
    ends = [SimpleNamespace(topic_type=f"sensor_msgs/msg/{kind}") for kind in ("Image", "CompressedImage")]
    node: Any = SimpleNamespace(get_publishers_info_by_topic=lambda _: ends, resolve_topic_name=str)
    assert carries_compressed(node, "/both", declared) is declared


def test_compressed_images_arrive_under_any_name(bench: Bench) -> None:
    publisher = bench.node.create_publisher(CompressedImage, "/front", 10)
    bench.wait(lambda: bench.node.count_publishers("/front"), "for the publisher")
    images: list[CameraImage] = []
    topic = CameraTopic(bench.node, "thermal", "/front", False, "best_effort", images.append)
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    message = CompressedImage(header=header(5.0, "lwir"), format="png", data=cv2.imencode(".png", pixels)[1].tobytes())
    bench.wait(publisher.get_subscription_count, "for the subscription")
    for _ in range(100):
        publisher.publish(message)
        time.sleep(0.05)
        if images:
            break
    assert images and images[0].stamp == 5.0
    np.testing.assert_array_equal(images[0].pixels, pixels)
    topic.destroy()
