"""Options of the tracker: the source of the parameters in the node's group `tracker` and of the flags of `track`.

``docs/tracking.md`` says what the defaults were chosen on.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from mmkd_ros.option import option
from mmkd_ros.tracking.kalman import STATES


@dataclass(frozen=True)
class TrackerOptions:
    """All options of the tracker; names, ranges and descriptions of the node's parameters are made of these fields.

    Raises:
        ValueError: a value of another type or outside its range.
    """

    max_cosine_distance: float = option(
        0.3, "Largest cosine distance of a detection to a track's gallery that is still matched.", 0.0, 2.0, live=True
    )
    motion_weight: float = option(
        0.3, "Share of the motion distance in the cost of appearance matching, within both limits.", 0.0, 1.0, live=True
    )
    age_cost: float = option(
        0.3,
        "What matching by looks costs more after 1 s unseen, in cosine limits; 0 = those seen last choose first.",
        0.0,
        1.0,
        live=True,
    )
    min_overlap: float = option(
        0.05,
        "Least IoU of a detection and a predicted box that are matched by appearance; 0 = any.",
        0.0,
        1.0,
        live=True,
    )
    motion_cosine_distance: float = option(
        0.5,
        "What neither looks nor overlap matched is matched by motion, unless its looks are further apart; 0 = never.",
        0.0,
        2.0,
        live=True,
    )
    max_iou_distance: float = option(
        0.7, "Largest 1 - IoU between a detection and a predicted box that is matched.", 0.0, 1.0, live=True
    )
    height_weight: float = option(
        0.5,
        "Overlap is IoU times the IoU of the heights to this power, which tells apart who pass each other; 0 = IoU.",
        0.0,
        1.0,
        live=True,
    )
    n_init: int = option(
        2, "Detections in a row that confirm a track. It is born unconfirmed, so 1 acts like 2.", 1, 1000, live=True
    )
    max_age_s: float = option(
        2.0,
        "A track unseen for more seconds is forgotten; must exceed the time between frames.",
        0.001,
        3600.0,
        live=True,
    )
    coast_s: float = option(
        0.1,
        "Put out confirmed tracks unseen for up to so many seconds, as predicted; 0 = none.",
        0.0,
        3600.0,
        live=True,
    )
    coast_share: float = option(
        0.25, "It coasts no longer than this share of the time that it had been followed for.", 0.0, 1.0, live=True
    )
    coast_return: float = option(
        0.5,
        "Coast only while at least this share of the objects lost lately came back within 1 s; 0 = always.",
        0.0,
        1.0,
        live=True,
    )
    output_box: str = option(
        "detection",
        "Box put out of a track seen in this frame: the filter's, or its detection's own.",
        choices=("filtered", "detection"),
        live=True,
    )
    state: str = option(
        "aspect",
        "What the filter follows beside centre and height: the aspect ratio, or the width (size).",
        choices=STATES,
    )
    noise_by_score: bool = option(
        False, "Trust a box the more the higher its score: noise variance by 1 - score.", live=True
    )
    appearance_momentum: float = option(
        0.0, "Compare looks with a moving average of this momentum; 0 = with the gallery.", 0.0, 0.999
    )
    gallery_size: int = option(100, "Appearance vectors kept per track, the newest ones.", 1, 1000)
    class_aware: bool = option(
        True, "Match detections only with tracks of their class; else the class is a majority vote.", live=True
    )
    min_score: float = option(0.0, "Detections scored lower are not tracked.", 0.0, 1.0, live=True)
    strong_score: float = option(
        0.35,
        "Detections scored lower only continue confirmed tracks, by overlap, after the others.",
        0.0,
        1.0,
        live=True,
    )
    birth_score: float = option(
        0.45, "A track starts only from a detection scored at least this; 0 = from any.", 0.0, 1.0, live=True
    )
    max_detections: int = option(
        500, "Detections tracked per frame, the best scored ones; bounds the memory.", 1, 10000, live=True
    )
    motion_compensation: str = option(
        "off",
        "Take the camera's motion out by optical flow in the images; affine = turn, zoom and shift.",
        choices=("off", "affine"),
    )
    nominal_rate_hz: float = option(
        20.0, "Frame rate at which one step has the published noise; others scale its variance.", 0.001, 10000.0
    )
    backward_jump_s: float = option(
        0.5,
        "A stamp earlier by more seconds is a restarted recording or clock, not a late message.",
        0.0,
        3600.0,
        live=True,
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            value, kind = getattr(self, item.name), type(item.default)
            # an int is a fine float; a bool is an int to Python, but not a fine number
            if not (type(value) is kind or (kind is float and type(value) is int)):
                raise ValueError(f"Tracker option {item.name} must be {kind.__name__}, got {value!r}.")
            if kind is str and value not in item.metadata["choices"]:
                choices = ", ".join(item.metadata["choices"])
                raise ValueError(f"Tracker option {item.name} must be one of {choices}, got {value!r}.")
            if kind in (int, float) and not item.metadata["min"] <= value <= item.metadata["max"]:
                low, high = item.metadata["min"], item.metadata["max"]
                raise ValueError(f"Tracker option {item.name} must be between {low} and {high}, got {value}.")

    @classmethod
    def published(cls, rate_hz: float) -> TrackerOptions:
        """The options of the DeepSORT paper for a stream of that many frames per second."""
        return cls(
            max_cosine_distance=0.2,
            motion_weight=0.0,
            age_cost=0.0,
            min_overlap=0.0,
            height_weight=0.0,
            n_init=3,
            max_age_s=30 / rate_hz,
            motion_cosine_distance=0.0,
            coast_s=0.0,
            coast_share=1.0,
            coast_return=0.0,
            output_box="filtered",
            state="aspect",
            noise_by_score=False,
            appearance_momentum=0.0,
            class_aware=False,
            strong_score=0.0,
            birth_score=0.0,
            nominal_rate_hz=rate_hz,
        )
