"""The generated vision_msgs are the real ones: the same fields give the same type hashes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

HASHES = {
    "Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "Detection2D": "RIHS01_0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    "LabelInfo": "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    "VisionInfo": "RIHS01_95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284",
}


@pytest.mark.parametrize("name", HASHES)
def test_the_definition_has_the_right_type_hash(repo_root: Path, name: str) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    definitions = {}
    for path in (repo_root / "interfaces" / "vision_msgs" / "msg").glob("*.msg"):
        definitions.update(get_types_from_msg(path.read_text(), f"vision_msgs/msg/{path.stem}"))
    assert len(definitions) == 16
    store.register(definitions)
    assert store.hash_rihs01(f"vision_msgs/msg/{name}") == HASHES[name]


@pytest.mark.requires_ros
@pytest.mark.parametrize("name", HASHES)
def test_the_installed_message_has_the_right_type_hash(name: str) -> None:
    for prefix in os.environ["AMENT_PREFIX_PATH"].split(os.pathsep):
        description = Path(prefix, "share", "vision_msgs", "msg", f"{name}.json")
        if description.is_file():
            break
    else:
        pytest.fail("no prefix of AMENT_PREFIX_PATH holds vision_msgs")
    hashes = {entry["type_name"]: entry["hash_string"] for entry in json.loads(description.read_text())["type_hashes"]}
    assert hashes[f"vision_msgs/msg/{name}"] == HASHES[name]
