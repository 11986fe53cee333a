"""The layouts for Foxglove and RViz name topics that the running nodes really have, with the types that panels show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from node_bench import Bench, Child

TYPES = {
    "Image": "sensor_msgs/msg/Image",
    "Plot": "std_msgs/msg/Float64",
    "StateTransitions": "std_msgs/msg/String",
    "DiagnosticSummary": "diagnostic_msgs/msg/DiagnosticArray",
    "RawMessages": "vision_msgs/msg/Detection2DArray",
}


def panels(node: Any) -> Iterator[str]:
    """Names of the panels in the tree of a layout."""
    if isinstance(node, str):
        yield node
    else:
        assert node["direction"] in ("row", "column") and 0 < node["splitPercentage"] < 100
        yield from panels(node["first"])
        yield from panels(node["second"])


def topics_of(config: dict[str, Any]) -> list[str]:
    """Topics of one panel; a path ends in the field that is shown."""
    paths = [path["value"] for path in config.get("paths", ())]
    assert all(path.endswith(".data") for path in paths)
    named = [config.get("imageMode", {}).get("imageTopic"), config.get("topicToRender"), config.get("topicPath")]
    return [path.removesuffix(".data") for path in paths] + [name for name in named if name]


def test_every_topic_of_the_viewers_is_there(
    bench: Bench, start: Callable[..., Child], some_file: Path, repo_root: Path
) -> None:
    layout = json.loads((repo_root / "config" / "foxglove_layout.json").read_text(encoding="utf-8"))
    assert sorted(panels(layout["layout"])) == sorted(layout["configById"])
    wanted: dict[str, str] = {}
    for name, config in layout["configById"].items():
        found = topics_of(config)
        assert found, name
        wanted.update(dict.fromkeys(found, TYPES[name.partition("!")[0]]))
    assert {"/overlay", "/rgb/image_raw", "/thermal/image_raw", "/tracks", "/diagnostics"} < set(wanted)

    rviz = yaml.safe_load((repo_root / "config" / "perception.rviz").read_text(encoding="utf-8"))
    displays = rviz["Visualization Manager"]["Displays"]
    assert {display["Class"] for display in displays} == {"rviz_default_plugins/Image"}
    shown = [display["Topic"]["Value"] for display in displays]
    assert shown == ["/overlay", "/rgb/image_raw", "/thermal/image_raw"]

    start("fake_detector", weights=str(some_file))
    start("tracker_node", appearance=False)
    start("overlay_node")

    def there() -> dict[str, list[str]]:
        return dict(bench.node.get_topic_names_and_types())

    bench.wait(lambda: wanted.keys() <= there().keys(), f"for {', '.join(sorted(wanted))}")
    types = there()
    assert {topic: types[topic] for topic in wanted} == {topic: [kind] for topic, kind in wanted.items()}
