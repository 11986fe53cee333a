"""The table of docs/reliability.md takes the figures of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def test_figures_reach_the_table(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repo_root / "test" / "system"))
    from fault_report import update_table

    page = "| fault | what | measured | limit | test |\n|---|---|---|---|---|\n| rgb dies | alone | - | - | `t.py` |\n"
    row = {"measured": 0.19, "unit": "s", "limit": 0.2, "test": "t"}
    text, missing = update_table(page, {"rgb dies": row, "other": row})
    assert text.splitlines()[2] == "| rgb dies | alone | 0.19 s | 0.2 s | `t.py` |"
    assert text.splitlines()[:2] == page.splitlines()[:2] and missing == ["other"]
    sys.modules.pop("fault_report", None)
