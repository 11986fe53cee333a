"""docs/reliability.md names tests that exist, and its table takes the figures of a run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest


def test_every_test_that_the_page_names_is_there(repo_root: Path) -> None:
    page = (repo_root / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", page)
    assert len(named) > 10
    for file, function in named:
        found = list((repo_root / "test").rglob(file))
        assert found, f"there is no {file}"
        assert not function or f"def {function}(" in found[0].read_text(encoding="utf-8"), f"{file} has no {function}"


def test_figures_reach_the_table(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repo_root / "test" / "system"))
    from fault_report import update_table

    page = "| fault | what | measured | limit | test |\n|---|---|---|---|---|\n| rgb dies | alone | - | - | `t.py` |\n"
    row = {"measured": 0.19, "unit": "s", "limit": 0.2, "test": "t"}
    text, missing = update_table(page, {"rgb dies": row, "other": row})
    assert text.splitlines()[2] == "| rgb dies | alone | 0.19 s | 0.2 s | `t.py` |"
    assert text.splitlines()[:2] == page.splitlines()[:2] and missing == ["other"]
    sys.modules.pop("fault_report", None)
