"""The generated messages of Autoware are the real ones: the same fields give the same type hashes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

PACKAGES = {"autoware_perception_msgs": 8, "tier4_perception_msgs": 9, "autoware_internal_debug_msgs": 1}
# As builds of Autoware have them; those of tier4_perception_msgs are of the year 2024.
HASHES = {
    "autoware_perception_msgs/msg/DetectedObjects": (
        "RIHS01_2facd6b15786cbd1f720cdd23d22e6d60d2e7e83b8dff8fd401330e24edb187b"
    ),
    "autoware_perception_msgs/msg/TrackedObjects": (
        "RIHS01_3559bd4e62ce8a4d96e32720c02bbe656cc090bb2b3f3f91f52a7c3ab095417a"
    ),
    "tier4_perception_msgs/msg/DetectedObjectsWithFeature": (
        "RIHS01_57ca7ba338d93c8174ea5a411ed093a01cd22df19c934ffb977103c98d697291"
    ),
}
# No hash of theirs is at hand: the definition and the installed message must at least agree.
OTHERS = ("tier4_perception_msgs/msg/DynamicObjectArray", "autoware_internal_debug_msgs/msg/Float64Stamped")


@pytest.fixture(scope="module")
def hashes(repo_root: Path) -> dict[str, str]:
    """Type hash by name, computed from the definitions in ``interfaces``."""
    store = get_typestore(Stores.ROS2_JAZZY)
    definitions = {}
    for package, count in PACKAGES.items():
        files = list((repo_root / "interfaces" / package / "msg").glob("*.msg"))
        assert len(files) == count
        for path in files:
            definitions.update(get_types_from_msg(path.read_text(), f"{package}/msg/{path.stem}"))
    store.register(definitions)
    return {name: store.hash_rihs01(name) for name in definitions}


@pytest.mark.parametrize("name", HASHES)
def test_the_definition_has_the_right_type_hash(hashes: dict[str, str], name: str) -> None:
    assert hashes[name] == HASHES[name]


@pytest.mark.requires_ros
@pytest.mark.parametrize("name", [*HASHES, *OTHERS])
def test_the_installed_message_has_the_right_type_hash(hashes: dict[str, str], name: str) -> None:
    package, _, message = name.split("/")
    for prefix in os.environ["AMENT_PREFIX_PATH"].split(os.pathsep):
        description = Path(prefix, "share", package, "msg", f"{message}.json")
        if description.is_file():
            break
    else:
        pytest.skip(f"{package} is not installed: `make env` generates it, and Autoware has it")
    entries = json.loads(description.read_text())["type_hashes"]
    installed = {entry["type_name"]: entry["hash_string"] for entry in entries}
    assert installed[name] == hashes[name]
