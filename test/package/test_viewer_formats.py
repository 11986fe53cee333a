"""config/perception.rviz and config/foxglove_layout.json hold nothing that RViz and Foxglove do not know.

RViz's names are those of its sources (14.1 of Jazzy; 11.2 of Humble has them too), Foxglove's those of its
documentation and of layouts that it has exported. Both programs drop a misspelt key without a word. That the topics
exist is held against the running nodes by ``test/nodes/test_viewer_files.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIG = Path(__file__).resolve().parents[2] / "config"
RVIZ: dict[str, Any] = yaml.safe_load((CONFIG / "perception.rviz").read_text(encoding="utf-8"))
LAYOUT: dict[str, Any] = json.loads((CONFIG / "foxglove_layout.json").read_text(encoding="utf-8"))

# A display saves Class, Name, Enabled and its Value (enabled again) beside its own properties.
IMAGE_DISPLAY = {
    "Class",
    "Name",
    "Enabled",
    "Value",
    "Topic",
    "Normalize Range",
    "Min Value",
    "Max Value",
    "Median window",
}
TOPIC = {
    "Value": None,
    "Depth": None,
    "History Policy": ("System Default", "Keep Last", "Keep All"),
    "Reliability Policy": ("System Default", "Reliable", "Best Effort"),
    "Durability Policy": ("System Default", "Transient Local", "Volatile"),
}
PANEL_KEYS = {
    "Image": {
        "imageMode",
        "cameraState",
        "followMode",
        "scene",
        "transforms",
        "topics",
        "layers",
        "publish",
        "synchronize",
    },
    "Plot": {
        "title",
        "paths",
        "minYValue",
        "maxYValue",
        "showXAxisLabels",
        "showYAxisLabels",
        "showLegend",
        "legendDisplay",
        "showPlotValuesInLegend",
        "isSynced",
        "xAxisVal",
        "sidebarDimension",
        "followingViewWidth",
    },
    "StateTransitions": {"paths", "isSynced"},
    "DiagnosticSummary": {"minLevel", "pinnedIds", "hardwareIdFilter", "topicToRender", "sortByLevel"},
    "RawMessages": {"topicPath", "diffEnabled", "diffMethod", "diffTopicPath", "showFullMessageForDiff"},
}
PATH_KEYS = {
    "Plot": {"value", "enabled", "timestampMethod", "label", "color"},
    "StateTransitions": {"value", "timestampMethod", "label", "enabled"},
}
CHOICES = {
    "timestampMethod": ("receiveTime", "headerStamp"),
    "legendDisplay": ("floating", "top", "left", "none"),
    "xAxisVal": ("timestamp", "index", "custom", "currentCustom"),
    "diffMethod": ("custom", "previous message"),
}
# Of Foxglove's message paths: a topic, then fields; slices and filters are not needed here.
MESSAGE_PATH = re.compile(r"(/[A-Za-z_]\w*)+(\.[A-Za-z_]\w*)*")


def displays() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = RVIZ["Visualization Manager"]["Displays"]
    return found


@pytest.mark.parametrize("display", displays(), ids=lambda display: display["Name"])
def test_an_rviz_display_has_properties_that_rviz_knows(display: dict[str, Any]) -> None:
    assert display["Class"] == "rviz_default_plugins/Image"
    assert set(display) <= IMAGE_DISPLAY and {"Class", "Name", "Enabled", "Topic"} <= set(display)
    assert display["Enabled"] is True and display["Value"] is True
    topic = display["Topic"]
    assert set(topic) == set(TOPIC)
    assert topic["Value"].startswith("/") and topic["Depth"] >= 1
    for name, choices in TOPIC.items():
        assert choices is None or topic[name] in choices, name


def test_rviz_takes_what_any_camera_offers() -> None:
    for display in displays():
        assert display["Topic"]["Reliability Policy"] == "Best Effort", (
            "a reliable subscriber gets nothing of many cameras"
        )
        assert display["Topic"]["Durability Policy"] == "Volatile"


def test_the_rest_of_the_rviz_file() -> None:
    assert set(RVIZ) == {"Panels", "Visualization Manager", "Window Geometry"}
    assert all({"Class", "Name"} <= set(panel) and panel["Class"] == "rviz_common/Displays" for panel in RVIZ["Panels"])
    manager = RVIZ["Visualization Manager"]
    assert set(manager) == {"Class", "Displays", "Enabled", "Global Options", "Name", "Value"}
    assert set(manager["Global Options"]) == {"Background Color", "Fixed Frame", "Frame Rate"}
    assert re.fullmatch(r"\d+; \d+; \d+", manager["Global Options"]["Background Color"])
    names = [display["Name"] for display in displays()]
    assert len(names) == len(set(names))
    assert set(RVIZ["Window Geometry"]) <= {"X", "Y", "Width", "Height", "QMainWindow State", *names}


@pytest.mark.parametrize("name", LAYOUT["configById"])
def test_a_foxglove_panel_has_settings_that_foxglove_knows(name: str) -> None:
    kind, _, identity = name.partition("!")
    config = LAYOUT["configById"][name]
    assert re.fullmatch(r"\w+", identity)
    assert set(config) <= PANEL_KEYS[kind]
    for path in config.get("paths", ()):
        assert set(path) <= PATH_KEYS[kind]
        assert path["timestampMethod"] in CHOICES["timestampMethod"]
    for key in config.keys() & CHOICES.keys():
        assert config[key] in CHOICES[key], key


def message_paths(config: dict[str, Any]) -> Iterator[str]:
    yield from (path["value"] for path in config.get("paths", ()))
    yield from (config[key] for key in ("topicPath", "topicToRender") if key in config)
    if "imageMode" in config:
        assert set(config["imageMode"]) <= {"imageTopic", "calibrationTopic", "annotations", "synchronize"}
        yield config["imageMode"]["imageTopic"]


def test_foxglove_paths_are_topics_and_fields() -> None:
    paths = [path for config in LAYOUT["configById"].values() for path in message_paths(config)]
    assert len(paths) == len(LAYOUT["configById"]) + 1  # the plot has two
    assert all(MESSAGE_PATH.fullmatch(path) for path in paths)


def test_the_tree_of_the_layout_shows_every_panel_once() -> None:
    shown: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, str):
            shown.append(node)
            return
        assert set(node) == {"direction", "first", "second", "splitPercentage"}
        assert node["direction"] in ("row", "column") and 0 < node["splitPercentage"] < 100
        walk(node["first"])
        walk(node["second"])

    walk(LAYOUT["layout"])
    assert sorted(shown) == sorted(LAYOUT["configById"])
    assert set(LAYOUT) == {"configById", "globalVariables", "userNodes", "playbackConfig", "layout"}
    assert LAYOUT["playbackConfig"] == {"speed": 1}
