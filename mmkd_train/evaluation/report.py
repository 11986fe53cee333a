"""The report folder of one weights file: plots, confusion matrices and the worst pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_ros.types import Detections, Modality
from mmkd_train.data.coco import CocoPairs
from mmkd_train.errors import UserError
from mmkd_train.evaluation.curves import operating_point, precision_recall
from mmkd_train.evaluation.matching import confusion_matrix
from mmkd_train.evaluation.plots import Curve, Picture, confusion_plot, precision_recall_plot
from mmkd_train.evaluation.scoring import coco_scores
from mmkd_train.evaluation.sheet import worst_sheet
from mmkd_train.evaluation.tables import format_confusion


def write_report(
    folder: Path, dataset: CocoPairs, results: Mapping[Modality, dict[int, Detections]], threshold: float
) -> str:
    """Write ``precision_recall.png``, ``confusion.png`` and ``worst_MODALITY.jpg``.

    Args:
        folder: is made.
        dataset: ground truth and pictures.
        results: modality -> position -> detections.
        threshold: of the confusion matrix, the worst pictures and the dots in the plot.

    Returns:
        The confusion matrices as text.

    Raises:
        UserError: the folder cannot be written.
    """
    names = dataset.rules.class_names
    matrices: dict[str, NDArray[np.int64]] = {
        modality: confusion_matrix(dataset, found, threshold) for modality, found in results.items()
    }
    curves: dict[str, list[Curve]] = {
        modality: _curves(dataset, found, threshold) for modality, found in results.items()
    }
    _write(folder / "precision_recall.png", precision_recall_plot(curves, threshold))
    _write(folder / "confusion.png", confusion_plot(matrices, names, threshold))
    for modality, found in results.items():
        sheet = worst_sheet(dataset, found, threshold, f"{modality}, score > {threshold:g}")
        if sheet is not None:
            _write(folder / f"worst_{modality}.jpg", sheet)
    return "\n\n".join(
        f"{modality}, score > {threshold:g}, IoU 0.5, whatever the class:\n{format_confusion(matrix, names)}"
        for modality, matrix in matrices.items()
    )


def _curves(dataset: CocoPairs, results: dict[int, Detections], threshold: float) -> list[Curve]:
    scores = coco_scores(dataset, results, sorted(results))
    curves = []
    for label, name in enumerate(dataset.rules.class_names):
        average = scores.mean(label, 0)
        if average is not None:
            precision, recall = operating_point(scores.answers[label], threshold)
            point = None if precision is None or recall is None else (precision, recall)
            curves.append(Curve(name, *precision_recall(scores.answers[label]), average, point))
    return curves


def _write(path: Path, picture: Picture) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), picture)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be made ({error}); give --report another folder.") from error
    if not written:
        raise UserError(f"{path} cannot be written; give --report another folder.")
