"""What docs/installation.md says about ROS distributions is what the sources use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^`]+)` \| (`mmkd_ros/[^|]+) \|", PAGE, re.MULTILINE)


def test_the_table_is_read() -> None:
    assert len(ROWS) == 5


@pytest.mark.parametrize(("word", "files"), ROWS, ids=[word for word, _ in ROWS])
def test_what_humble_lacks_is_used_where_the_page_says(word: str, files: str) -> None:
    sources = [path for folder in ("mmkd_ros", "launch") for path in (ROOT / folder).rglob("*.py")]
    users = {str(path.relative_to(ROOT)) for path in sources if word in path.read_text(encoding="utf-8")}
    assert users == set(re.findall(r"`([^`]+)`", files))
