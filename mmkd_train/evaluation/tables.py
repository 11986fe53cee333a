"""Metrics -> text tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd_train.evaluation.scoring import SIZES

Rows = Mapping[str, Mapping[str, Any]]


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Right-aligned columns, the first left-aligned; floats with three decimals, None as '-'."""

    def text(value: object) -> str:
        return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

    cells = [list(header), *([text(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def format_table(rows: Rows) -> str:
    """The overview, one row per modality (and weights file); all columns but ``mAP`` and the last are mAP50.

    ``kept`` and ``speed`` appear where the rows have them.
    """
    classes = list(next(iter(rows.values()))["per_class"])
    compared = [name for name in ("kept", "speed") if any(name in row for row in rows.values())]
    header = ["", "mAP", "mAP50", *SIZES, "day", "night", *classes, "ms/pair", *compared]
    lines: list[list[object]] = []
    for name, row in rows.items():
        parts = [row[part]["mAP50"] for part in (*SIZES, "day", "night")]
        per_class = [None if row["per_class"][c] is None else row["per_class"][c]["mAP50"] for c in classes]
        values = [name, row["mAP"], row["mAP50"], *parts, *per_class, f"{row['ms_per_pair']:.1f}"]
        lines.append([*values, *(row.get(column) for column in compared)])
    return text_table(header, lines)


def format_classes(rows: Rows) -> str:
    """One row per class and modality: precision and recall at the threshold, log-average miss rates, mAP50 by size
    and by day and night."""
    header = ["", "class", "boxes", "precision", "recall", "MR", "MR day", "MR night", "mAP", "mAP50"]
    lines: list[list[object]] = []
    for name, row in rows.items():
        for class_name, values in row["per_class"].items():
            if values is not None:
                rates = [values["miss_rate"], values["day"]["miss_rate"], values["night"]["miss_rate"]]
                parts = [values[part]["mAP50"] for part in (*SIZES, "day", "night")]
                counts = [name, class_name, values["boxes"], values["precision"], values["recall"]]
                lines.append([*counts, *rates, values["mAP"], values["mAP50"], *parts])
    return text_table([*header, *SIZES, "day", "night"], lines)


def format_shifts(shifts: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    """mAP50 per weights file and shift of the thermal picture."""
    classes = list(next(iter(next(iter(shifts.values())).values()))["per_class"])
    lines = [
        [name, f"{pixels} px", row["mAP50"], *row["per_class"].values()]
        for name, rows in shifts.items()
        for pixels, row in rows.items()
    ]
    return text_table(["", "shift", "mAP50", *classes], lines)


def format_confusion(matrix: NDArray[np.int64], class_names: Sequence[str]) -> str:
    """Rows: what the box is; columns: what the answer says."""
    names = [*class_names, "nothing (false)"]
    rows = [[name, *map(int, row)] for name, row in zip(names, matrix, strict=True)]
    rows[-1][-1] = "-"
    return text_table(["box \\ answer", *class_names, "missed"], rows)
