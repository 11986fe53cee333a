"""The options of the pairing stage: names, defaults, ranges and descriptions, and which stage pairs."""

from __future__ import annotations

from dataclasses import dataclass

from mmkd_ros.option import option


@dataclass(frozen=True)
class PairingOptions:
    """How images are paired.

    Raises:
        ValueError: a number out of its range.
    """

    slop_s: float = option(
        0.05,
        "largest distance in seconds between the stamps of an RGB and a thermal image of one pair",
        0.0,
        1.0,
        live=True,
    )
    rgb_offset_s: float = option(
        0.0,
        "seconds added to RGB stamps before they are compared; negative for a camera that stamps too late. Results "
        "keep the stamp of the image",
        -10.0,
        10.0,
    )
    thermal_offset_s: float = option(0.0, "the same for thermal stamps", -10.0, 10.0)
    modality_timeout_s: float = option(
        0.3,
        "seconds that an image waits for the other camera before that one counts as silent; from then on images go on "
        "alone, at once, until it is back",
        0.01,
        60.0,
        live=True,
    )
    overdue_s: float = option(
        0.06,
        "an image goes on alone when it has waited for so many seconds and the other camera's next image is overdue by "
        "as many, judged by the longest of its recent periods",
        0.01,
        60.0,
        live=True,
    )
    recovery_images: int = option(
        2,
        "images in a row of a camera that was silent which must fit the other's before it is used again",
        0,
        10,
        live=True,
    )
    pause_s: float = option(
        1.5,
        "a camera missing for less than so many seconds is told as pausing (the shutter of a thermal camera), for more "
        "as silent",
        0.01,
        60.0,
        live=True,
    )
    frozen_after: int = option(
        10,
        "so many images in a row may have the same pixels, then the camera counts as missing; 0 = any number, for "
        "simulators without noise",
        0,
        10000,
        live=True,
    )
    hold_s: float = option(
        0.05, "longest wait in seconds of a pair in hand for a partner that fits better", 0.0, 1.0, live=True
    )
    max_queue: int = option(16, "images kept of each camera while they wait", 1, 256, live=True)
    reset_jump_s: float = option(
        0.5,
        "seconds; stamps that go back by more mean a new time line (bag loop, simulation reset)",
        0.01,
        3600.0,
        live=True,
    )
    future_jump_s: float = option(
        10.0,
        "seconds; a stamp that runs ahead of the time since the camera's previous image by more is refused, unless a "
        "second image agrees with it",
        0.1,
        3600.0,
        live=True,
    )

    def __post_init__(self) -> None:
        for name, spec in PairingOptions.__dataclass_fields__.items():
            value, low, high = getattr(self, name), spec.metadata["min"], spec.metadata["max"]
            if not low <= value <= high:
                raise ValueError(f"Pairing option {name} is {value}, but must lie in {low} to {high}.")


@dataclass(frozen=True)
class SyncOptions(PairingOptions):
    """The pairing of a node: this package's stage, or a synchronizer of ``message_filters``, which takes ``slop_s`` and
    ``max_queue`` from here and knows nothing of a silent camera."""

    policy: str = option(
        "native",
        "native: the pairing stage of this package; the others are message_filters' synchronizers, which put out pairs "
        "alone and stop while a camera is silent",
        choices=("native", "approximate_time", "exact_time"),
    )
