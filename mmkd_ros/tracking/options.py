"""Options of the tracker: the source of the parameters in the node's group `tracker` and of the flags of `track`.

``docs/tracking.md`` says what the defaults were chosen on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from mmkd_ros.tracking.kalman import STATES


@dataclass(frozen=True)
class TrackerOptions:
    """All options of the tracker; names, ranges and descriptions of the node's parameters are made of these fields.

    Raises:
        ValueError: a value of another type or outside its range.
    """

    max_cosine_distance: float = field(
        default=0.3,
        metadata={
            "live": True,
            "description": "Largest cosine distance of a detection to a track's gallery that is still matched.",
            "min": 0.0,
            "max": 2.0,
        },
    )
    motion_weight: float = field(
        default=0.3,
        metadata={
            "live": True,
            "description": "Share of the motion distance in the cost of appearance matching, within both limits.",
            "min": 0.0,
            "max": 1.0,
        },
    )
    min_overlap: float = field(
        default=0.05,
        metadata={
            "live": True,
            "description": "Least IoU of a detection and a predicted box that are matched by appearance; 0 = any.",
            "min": 0.0,
            "max": 1.0,
        },
    )
    max_iou_distance: float = field(
        default=0.7,
        metadata={
            "live": True,
            "description": "Largest 1 - IoU between a detection and a predicted box that is matched.",
            "min": 0.0,
            "max": 1.0,
        },
    )
    n_init: int = field(
        default=2,
        metadata={
            "live": True,
            "description": "Detections in a row that confirm a track. It is born unconfirmed, so 1 acts like 2.",
            "min": 1,
            "max": 1000,
        },
    )
    max_age_s: float = field(
        default=2.0,
        metadata={
            "live": True,
            "description": "A track unseen for more seconds is forgotten; must exceed the time between frames.",
            "min": 0.001,
            "max": 3600.0,
        },
    )
    coast_s: float = field(
        default=0.1,
        metadata={
            "live": True,
            "description": "Put out confirmed tracks unseen for up to so many seconds, as predicted; 0 = none.",
            "min": 0.0,
            "max": 3600.0,
        },
    )
    output_box: str = field(
        default="detection",
        metadata={
            "live": True,
            "description": "Box put out of a track seen in this frame: the filter's, or its detection's own.",
            "choices": ("filtered", "detection"),
        },
    )
    state: str = field(
        default="aspect",
        metadata={
            "description": "What the filter follows beside centre and height: the aspect ratio, or the width (size).",
            "choices": STATES,
        },
    )
    noise_by_score: bool = field(
        default=False,
        metadata={
            "live": True,
            "description": "Trust a box the more the higher its score: noise variance by 1 - score.",
        },
    )
    appearance_momentum: float = field(
        default=0.0,
        metadata={
            "description": "Compare looks with a moving average of this momentum; 0 = with the gallery.",
            "min": 0.0,
            "max": 0.999,
        },
    )
    gallery_size: int = field(
        default=100,
        metadata={"description": "Appearance vectors kept per track, the newest ones.", "min": 1, "max": 1000},
    )
    class_aware: bool = field(
        default=True,
        metadata={
            "live": True,
            "description": "Match detections only with tracks of their class; else the class is a majority vote.",
        },
    )
    min_score: float = field(
        default=0.0,
        metadata={"live": True, "description": "Detections scored lower are not tracked.", "min": 0.0, "max": 1.0},
    )
    strong_score: float = field(
        default=0.35,
        metadata={
            "live": True,
            "description": "Detections scored lower only continue confirmed tracks, by overlap, after the others.",
            "min": 0.0,
            "max": 1.0,
        },
    )
    birth_score: float = field(
        default=0.45,
        metadata={
            "live": True,
            "description": "A track starts only from a detection scored at least this; 0 = from any.",
            "min": 0.0,
            "max": 1.0,
        },
    )
    max_detections: int = field(
        default=500,
        metadata={
            "live": True,
            "description": "Detections tracked per frame, the best scored ones; bounds the memory.",
            "min": 1,
            "max": 10000,
        },
    )
    motion_compensation: str = field(
        default="off",
        metadata={
            "description": "Take the camera's motion out by optical flow in the images; affine = turn, zoom and shift.",
            "choices": ("off", "affine"),
        },
    )
    nominal_rate_hz: float = field(
        default=20.0,
        metadata={
            "description": "Frame rate at which one step has the published noise; others scale its variance.",
            "min": 0.001,
            "max": 10000.0,
        },
    )
    backward_jump_s: float = field(
        default=0.5,
        metadata={
            "live": True,
            "description": "A stamp earlier by more seconds is a restarted recording or clock, not a late message.",
            "min": 0.0,
            "max": 3600.0,
        },
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value, kind = getattr(self, option.name), type(option.default)
            # an int is a fine float; a bool is an int to Python, but not a fine number
            if not (type(value) is kind or (kind is float and type(value) is int)):
                raise ValueError(f"Tracker option {option.name} must be {kind.__name__}, got {value!r}.")
            if kind is str and value not in option.metadata["choices"]:
                choices = ", ".join(option.metadata["choices"])
                raise ValueError(f"Tracker option {option.name} must be one of {choices}, got {value!r}.")
            if kind in (int, float) and not option.metadata["min"] <= value <= option.metadata["max"]:
                low, high = option.metadata["min"], option.metadata["max"]
                raise ValueError(f"Tracker option {option.name} must be between {low} and {high}, got {value}.")

    @classmethod
    def published(cls, rate_hz: float) -> TrackerOptions:
        """The options of the DeepSORT paper for a stream of that many frames per second."""
        return cls(
            max_cosine_distance=0.2,
            motion_weight=0.0,
            min_overlap=0.0,
            n_init=3,
            max_age_s=30 / rate_hz,
            coast_s=0.0,
            output_box="filtered",
            state="aspect",
            noise_by_score=False,
            appearance_momentum=0.0,
            class_aware=False,
            strong_score=0.0,
            birth_score=0.0,
            nominal_rate_hz=rate_hz,
        )
