"""Measured figures of the fault tests: printed, held to their limits, and kept as JSON for ``docs/reliability.md``.

``MMKD_FAULT_REPORT=FILE`` collects the figures of a run into one file. ``MMKD_FAULT_STRICT=1`` holds times to their
limits exactly, as on a machine with nothing else to do; otherwise they have some seconds to spare, since a test must
not fail because other work has taken the processor.

``python test/system/fault_report.py FILE docs/reliability.md`` writes the figures into the table of that page.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

PATIENCE_S, PATIENCE_FRAMES = 30.0, 100


class FaultReport:
    """The figures of one test.

    Args:
        test: its pytest id.
    """

    def __init__(self, test: str) -> None:
        self._test = test
        file = os.environ.get("MMKD_FAULT_REPORT")
        self._file = Path(file) if file else None
        self._strict = os.environ.get("MMKD_FAULT_STRICT") == "1"

    def seconds(self, fault: str, measured: float, limit: float) -> None:
        """A time, which must not exceed its limit."""
        self._keep(fault, round(measured, 3), "s", limit)
        allowed = limit if self._strict else limit + PATIENCE_S
        assert measured <= allowed, f"{fault}: {measured:.3f} s, at most {allowed} s are allowed"

    def frames(self, fault: str, measured: float, limit: float) -> None:
        """A time counted in images, which must not exceed its limit."""
        self._keep(fault, round(measured, 1), "frames", limit)
        allowed = limit if self._strict else limit + PATIENCE_FRAMES
        assert measured <= allowed, f"{fault}: {measured:.1f} frames, at most {allowed} are allowed"

    def number(self, fault: str, measured: float, limit: float, unit: str = "") -> None:
        """A count or a size, which must not exceed its limit on any machine."""
        self._keep(fault, round(measured, 3), unit, limit)
        assert measured <= limit, f"{fault}: {measured} {unit}, at most {limit} are allowed"

    def _keep(self, fault: str, measured: float, unit: str, limit: float) -> None:
        print(f"{fault}: {measured:g} {unit} (limit {limit:g})")
        if self._file is None:
            return
        rows = json.loads(self._file.read_text(encoding="utf-8")) if self._file.is_file() else {}
        rows[fault] = {"measured": measured, "unit": unit, "limit": limit, "test": self._test}
        self._file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def update_table(page: str, rows: dict[str, dict[str, str | float]]) -> tuple[str, list[str]]:
    """Put figures into the rows | fault | behaviour | measured | limit | test | of a page.

    Returns:
        The new page, and the faults that have no row in it.
    """
    lines, missing = page.splitlines(), set(rows)
    for number, line in enumerate(lines):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and cells[1] in rows:
            row = rows[cells[1]]
            missing.discard(cells[1])
            cells[3:5] = [f"{row[key]:g} {row['unit']}".strip() for key in ("measured", "limit")]
            lines[number] = " | ".join(cells).strip()
    return "\n".join(lines) + "\n", sorted(missing)


if __name__ == "__main__":
    report, target = Path(sys.argv[1]), Path(sys.argv[2])
    text, left = update_table(target.read_text(encoding="utf-8"), json.loads(report.read_text(encoding="utf-8")))
    target.write_text(text, encoding="utf-8")
    sys.exit(f"without a row: {', '.join(left)}" if left else 0)
