"""Tracks against the truth, scored by the PyPI package ``trackeval``: HOTA, CLEAR MOT and identity scores.

Sources: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", 2020; Bernardin and
Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", 2008; Ristani et al.,
"Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", 2016. The arrays go straight into the
package's metric classes. Classes play no part: an object is an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd_ros.tracking.association import iou_matrix
from mmkd_train.errors import UserError

INSTALL = "pip install --no-deps -r requirements/peers.txt"
Frames = list[tuple[NDArray[np.int64], NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class TrackScore:
    """Scores over several sequences; all in percent but the switches.

    Attributes:
        hota: geometric mean of the next two, averaged over IoU thresholds of 0.05 to 0.95.
        deta: detection accuracy, TP / (TP + FN + FP).
        assa: association accuracy, averaged over the true positives.
        mota: 1 - (FN + FP + switches) / true boxes, at an IoU of 0.5; may be negative.
        idf1: 2 IDTP / (true boxes + boxes of the tracker), at an IoU of 0.5.
        switches: times that an object's track id changed.
    """

    hota: float
    deta: float
    assa: float
    mota: float
    idf1: float
    switches: int


def tracking_data(truth: Frames, tracks: Frames) -> dict[str, Any]:
    """One sequence in the form that ``trackeval``'s metrics take: ids counted from 0, and the IoU of every pair.

    Args:
        truth: per frame the ids (N,) and boxes (N, 4) x1 y1 x2 y2.
        tracks: the same of the tracker, with as many frames.

    Raises:
        ValueError: another number of frames, or an id twice in one frame.
    """
    data: dict[str, Any] = {
        "num_timesteps": len(truth),
        "similarity_scores": [iou_matrix(a[1], b[1]) for a, b in zip(truth, tracks, strict=True)],
    }
    for name, frames in (("gt", truth), ("tracker", tracks)):
        if any(len(np.unique(ids)) < len(ids) for ids, _ in frames):
            raise ValueError(f"An id of the {name} occurs twice in one frame.")
        known = np.unique(np.concatenate([ids for ids, _ in frames])) if frames else np.zeros(0, np.int64)
        data[f"{name}_ids"] = [np.searchsorted(known, ids) for ids, _ in frames]
        data[f"num_{name}_ids"] = len(known)
        data[f"num_{name}_dets"] = sum(len(ids) for ids, _ in frames)
    return data


def score(sequences: list[tuple[Frames, Frames]]) -> TrackScore:
    """Score the tracks of several sequences together: (truth, tracks) of each.

    Raises:
        UserError: ``trackeval`` is not installed.
    """
    try:
        from trackeval.metrics import CLEAR, HOTA, Identity
    except ImportError as error:
        raise UserError(f"The scores need the package trackeval ({error}): {INSTALL}") from error
    data = [tracking_data(truth, tracks) for truth, tracks in sequences]
    quiet = {"PRINT_CONFIG": False}
    results = []
    for metric in (HOTA(), CLEAR(dict(quiet)), Identity(dict(quiet))):
        each = {str(number): metric.eval_sequence(entry) for number, entry in enumerate(data)}
        results.append(metric.combine_sequences(each))
    hota, clear, identity = results
    return TrackScore(
        hota=100 * float(np.mean(hota["HOTA"])),
        deta=100 * float(np.mean(hota["DetA"])),
        assa=100 * float(np.mean(hota["AssA"])),
        mota=100 * float(clear["MOTA"]),
        idf1=100 * float(identity["IDF1"]),
        switches=int(clear["IDSW"]),
    )
