"""The numbers of a registration, checked: from a parameter file, or from two CameraInfo messages and a pose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmkd_ros.imaging import MAX_SIDE
from mmkd_ros.option import option

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_NO_DISTORTION = (0.0, 0.0, 0.0, 0.0, 0.0)
_LENGTHS = {
    "homography": (9,),
    "rgb_k": (9,),
    "rgb_d": (0, 4, 5, 8),
    "thermal_k": (9,),
    "thermal_d": (0, 4, 5, 8),
    "rotation": (9,),
    "translation": (3,),
    "plane_normal": (3,),
}
# CameraInfo's distortion_model -> how many numbers its d has.
_MODELS = {"": (0,), "plumb_bob": (0, 4, 5), "rational_polynomial": (8,)}


@dataclass(frozen=True)
class RegistrationOptions:
    """How a thermal pixel finds its RGB pixel.

    Raises:
        ValueError: an unknown mode, a list of the wrong length, a number that is not finite, no camera matrix, no
            rotation.
    """

    mode: str = option(
        "identity",
        "identity: both cameras show the same view; homography: nine numbers; cameras: intrinsics, distortion and pose",
        choices=("identity", "homography", "cameras"),
    )
    rgb_size: tuple[int, ...] = option((0, 0), "width and height in pixels of the RGB images that the numbers hold for")
    thermal_size: tuple[int, ...] = option((0, 0), "width and height of the thermal images that the numbers refer to")
    homography: tuple[float, ...] = option(_IDENTITY, "3x3, row by row, thermal pixel (x, y, 1) -> RGB pixel")
    rgb_k: tuple[float, ...] = option(_IDENTITY, "3x3 matrix of the RGB camera, row by row, in pixels")
    rgb_d: tuple[float, ...] = option(_NO_DISTORTION, "distortion of the RGB camera: k1 k2 p1 p2 [k3 [k4 k5 k6]]")
    thermal_k: tuple[float, ...] = option(_IDENTITY, "3x3 matrix of the thermal camera")
    thermal_d: tuple[float, ...] = option(_NO_DISTORTION, "distortion of the thermal camera")
    rotation: tuple[float, ...] = option(_IDENTITY, "3x3 R, row by row: X in the thermal frame is R X + t in RGB's")
    translation: tuple[float, ...] = option((0.0, 0.0, 0.0), "t in metres: the thermal camera in the RGB frame")
    plane_depth_m: float = option(
        0.0, "distance in metres of the thermal camera from the plane that fits; 0: far away", 0.0, 1e6
    )
    plane_normal: tuple[float, ...] = option((0.0, 0.0, 1.0), "that plane's unit normal in the thermal frame")

    def __post_init__(self) -> None:
        if self.mode not in ("identity", "homography", "cameras"):
            raise ValueError(f"Registration mode '{self.mode}' must be identity, homography or cameras.")
        for name, lengths in _LENGTHS.items():
            values = getattr(self, name)
            if len(values) not in lengths or not np.isfinite(values).all():
                raise ValueError(
                    f"Registration option {name} is {values}, but must be {' or '.join(map(str, lengths))} finite "
                    "numbers."
                )
        if not 0 <= self.plane_depth_m <= 1e6:
            raise ValueError(f"Registration option plane_depth_m is {self.plane_depth_m}, but must be in 0 to 1e6.")
        if self.mode != "identity":
            require_size("Registration option rgb_size", self.rgb_size)
            require_size("Registration option thermal_size", self.thermal_size)
        if self.mode == "cameras":
            self._check_cameras()

    def _check_cameras(self) -> None:
        for name in ("rgb_k", "thermal_k"):
            k = getattr(self, name)
            if min(k[0], k[4]) < 1 or any((k[3], k[6], k[7], k[8] - 1)):
                raise ValueError(
                    f"Registration option {name} is {k}, which is no camera matrix (fx s cx, 0 fy cy, 0 0 1; focal "
                    "lengths in pixels); calibrate that camera."
                )
        rotation = np.reshape(self.rotation, (3, 3))
        if not np.allclose(rotation @ rotation.T, np.eye(3), rtol=0, atol=1e-3) or np.linalg.det(rotation) < 0:
            raise ValueError(f"Registration option rotation is {self.rotation}, which is no rotation matrix.")
        if abs(np.linalg.norm(self.plane_normal) - 1) > 1e-3:
            raise ValueError(f"Registration option plane_normal is {self.plane_normal}, but must have length 1.")


def require_size(name: str, size: tuple[int, ...]) -> None:
    """Raise ValueError unless ``size`` is a width and a height in pixels."""
    if len(size) != 2 or not all(2 <= side <= MAX_SIDE for side in size):
        raise ValueError(f"{name} is {size}, but must be width and height in pixels, each 2 to {MAX_SIDE}.")


class CameraInfo(Protocol):
    """The fields of sensor_msgs/CameraInfo that are read."""

    width: int
    height: int
    distortion_model: str
    d: Any
    k: Any
    r: Any
    p: Any


def options_from_camera_infos(
    rgb: CameraInfo,
    thermal: CameraInfo,
    rotation: tuple[float, ...] = _IDENTITY,
    translation: tuple[float, ...] = (0.0, 0.0, 0.0),
    plane_depth_m: float = 0.0,
    *,
    rectified: bool = False,
) -> RegistrationOptions:
    """Options of mode ``cameras`` from what the two drivers publish and the pose between the cameras.

    Args:
        rgb: calibration of the full RGB image.
        thermal: calibration of the full thermal image.
        rotation: as in ``RegistrationOptions``, between the cameras as they are mounted.
        translation: likewise, metres.
        plane_depth_m: likewise; the plane faces the thermal camera.
        rectified: the topics carry rectified images: P replaces K, R turns each frame, no distortion is left.

    Raises:
        ValueError: a camera that is not calibrated, or a distortion model other than plumb_bob, rational_polynomial.
    """
    for name, info in (("RGB", rgb), ("thermal", thermal)):
        if not rectified and len(info.d) not in _MODELS.get(info.distortion_model, ()):
            raise ValueError(
                f"The {name} camera's distortion model '{info.distortion_model}' with {len(info.d)} numbers is not "
                "known here; use plumb_bob (5 numbers), rational_polynomial (8), or rectified images."
            )
    turn, shift, normal = np.reshape(rotation, (3, 3)), np.asarray(translation), np.array([0.0, 0.0, 1.0])
    if rectified:
        rgb_turn, thermal_turn = (np.reshape(info.r, (3, 3)) for info in (rgb, thermal))
        turn, shift, normal = rgb_turn @ turn @ thermal_turn.T, rgb_turn @ shift, thermal_turn @ normal
    k, thermal_k = (np.reshape(i.p, (3, 4))[:, :3] if rectified else i.k for i in (rgb, thermal))
    return RegistrationOptions(
        mode="cameras",
        rgb_size=(int(rgb.width), int(rgb.height)),
        thermal_size=(int(thermal.width), int(thermal.height)),
        rgb_k=_numbers(k),
        rgb_d=() if rectified else _numbers(rgb.d),
        thermal_k=_numbers(thermal_k),
        thermal_d=() if rectified else _numbers(thermal.d),
        rotation=_numbers(turn),
        translation=_numbers(shift),
        plane_depth_m=plane_depth_m,
        plane_normal=_numbers(normal),
    )


def _numbers(values: ArrayLike) -> tuple[float, ...]:
    numbers: NDArray[np.float64] = np.asarray(values, np.float64).ravel()
    return tuple(float(number) for number in numbers)
