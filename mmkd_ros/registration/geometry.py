"""Where each RGB pixel looks in the thermal image: homographies, two cameras, lens distortion; and what is refused."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_ros.registration.options import RegistrationOptions

Size = tuple[int, int]
Matrix: TypeAlias = "NDArray[np.floating[Any]]"  # quoted: numpy 1.21 cannot index it

_MAX_CONDITION = 1e6


def homography_of(options: RegistrationOptions, thermal_size: Size, rgb_size: Size) -> Matrix:
    """(3, 3) thermal pixel -> RGB pixel for images of these sizes, distortion aside.

    For two cameras X_rgb = R X + t and the plane n.X = d in the thermal frame, H = K_rgb (R + t n^T / d) K_thermal^-1
    (Hartley and Zisserman, Multiple View Geometry, 2nd ed., result 13.1; the minus sign there is for n.X + d = 0). Far
    away it is K_rgb R K_thermal^-1 (section 13.4).

    Raises:
        ValueError: images of another aspect than those of the calibration.
    """
    to_rgb, to_thermal = _rescaling(options, thermal_size, rgb_size)
    with np.errstate(all="ignore"):  # what is not finite is refused by the caller
        if options.mode == "homography":
            matrix = np.reshape(options.homography, (3, 3))
        else:
            k_rgb, k_thermal = (np.reshape(k, (3, 3)) for k in (options.rgb_k, options.thermal_k))
            matrix = k_rgb @ _ray_map(options) @ np.linalg.inv(k_thermal)
        return np.asarray(to_rgb @ matrix @ np.linalg.inv(to_thermal), np.float64)


def source_pixels(options: RegistrationOptions, thermal_size: Size, rgb_size: Size) -> Matrix:
    """The thermal pixel (x, y) of every RGB pixel.

    Returns:
        (H, W, 2) float64; NaN where a ray does not reach the thermal camera.

    Raises:
        ValueError: sizes of another aspect, a singular or mirroring map, or one that folds the image over.
    """
    matrix = homography_of(options, thermal_size, rgb_size)
    _check_homography(matrix, thermal_size, rgb_size, pinholes=options.mode == "cameras")
    grid = np.meshgrid(np.arange(rgb_size[0], dtype=np.float64), np.arange(rgb_size[1], dtype=np.float64))
    pixels = np.stack(grid, -1).reshape(-1, 2)
    if options.mode == "homography":
        source = project(np.linalg.inv(matrix), pixels)[0]
    else:
        to_rgb, to_thermal = _rescaling(options, thermal_size, rgb_size)
        k_rgb, k_thermal = (
            to_rgb @ np.reshape(options.rgb_k, (3, 3)),
            to_thermal @ np.reshape(options.thermal_k, (3, 3)),
        )
        rays = undistort(project(np.linalg.inv(k_rgb), pixels)[0], options.rgb_d)
        rays, depth = project(np.linalg.inv(_ray_map(options)), rays)
        rays[depth <= 0] = np.nan  # behind the thermal camera
        source = project(k_thermal, distort(rays, options.thermal_d))[0]
    return source.reshape(rgb_size[1], rgb_size[0], 2)


def covered(source: Matrix, thermal_size: Size) -> NDArray[np.bool_]:
    """(H, W), whether the thermal image has the pixel.

    Raises:
        ValueError: neighbours change sides there: the map folds the image over.
    """
    with np.errstate(all="ignore"):
        seen = np.asarray(((source >= -0.5) & (source <= np.subtract(thermal_size, 0.5))).all(-1))
        right, down = np.diff(source, axis=1)[:-1], np.diff(source, axis=0)[:, :-1]
        area: Matrix = right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]
        folds = np.asarray(area <= 0) & seen[:-1, :-1] & seen[1:, :-1] & seen[:-1, 1:]
    if folds.any():
        y, x = np.argwhere(folds)[0]
        raise ValueError(
            f"The registration folds the thermal image over at RGB pixel ({x}, {y}) and {folds.sum() - 1} others; "
            "check the distortion numbers."
        )
    return seen


def project(matrix: Matrix, points: Matrix) -> tuple[Matrix, Matrix]:
    """(N, 2) points through a 3x3 matrix -> (N, 2) points and the (N,) numbers they were divided by."""
    with np.errstate(all="ignore"):
        moved = points @ matrix[:, :2].T + matrix[:, 2]
        return moved[:, :2] / moved[:, 2:], moved[:, 2]


def distort(rays: Matrix, d: tuple[float, ...]) -> Matrix:
    """(N, 2) normalised rays -> where the lens puts them, by OpenCV's model; NaN beyond the angle at which the
    polynomial turns back, where it would show the picture twice."""
    if not any(d):
        return rays
    k1, k2, p1, p2, k3, k4, k5, k6 = (*d, 0.0, 0.0, 0.0, 0.0)[:8]

    def radial(squared: Matrix) -> Matrix:
        upper = 1 + squared * (k1 + squared * (k2 + squared * k3))
        return np.asarray(upper / (1 + squared * (k4 + squared * (k5 + squared * k6))))

    radii = np.linspace(0, 10, 4001)
    with np.errstate(all="ignore"):
        grows = np.diff(radii * radial(radii**2)) > 0
        limit = radii[-1] if grows.all() else radii[np.argmin(grows)]
        x, y = rays.T
        squared = x * x + y * y
        factor = radial(squared)
        bent = np.stack(
            (
                x * factor + 2 * p1 * x * y + p2 * (squared + 2 * x * x),
                y * factor + p1 * (squared + 2 * y * y) + 2 * p2 * x * y,
            ),
            -1,
        )
        bent[~(squared <= limit**2)] = np.nan
    return bent


def undistort(points: Matrix, d: tuple[float, ...]) -> Matrix:
    """The inverse of :func:`distort`; NaN where it has none."""
    if not any(d):
        return points
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-9)
    found = cv2.undistortPointsIter(points[:, None], np.eye(3), np.array(d), np.eye(3), np.eye(3), criteria)
    rays: Matrix = np.asarray(found, np.float64)[:, 0]
    with np.errstate(invalid="ignore"):
        rays[~(np.abs(distort(rays, d) - points).max(-1) < 1e-4)] = np.nan
    return rays


def _ray_map(options: RegistrationOptions) -> Matrix:
    """(3, 3) thermal ray -> RGB ray, R + t n^T / d."""
    matrix = np.reshape(np.asarray(options.rotation, np.float64), (3, 3))
    if options.plane_depth_m > 0:
        matrix = matrix + np.outer(options.translation, options.plane_normal) / options.plane_depth_m
    return matrix


def _rescaling(options: RegistrationOptions, thermal_size: Size, rgb_size: Size) -> tuple[Matrix, Matrix]:
    """(3, 3) pixel of a calibration image -> pixel of a binned or enlarged one, for RGB and thermal."""
    matrices = []
    for name, (w, h), (width, height) in (
        ("RGB", options.rgb_size, rgb_size),
        ("thermal", options.thermal_size, thermal_size),
    ):
        if abs(width * h - height * w) > max(w, h):  # more than one row or column of rounding
            raise ValueError(
                f"The {name} images are {width}x{height}, but the registration was made for {w}x{h}, another aspect; "
                "calibrate with the images that the nodes get."
            )
        x, y = width / w, height / h
        matrices.append(np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]]))
    return matrices[0], matrices[1]


def _check_homography(matrix: Matrix, thermal_size: Size, rgb_size: Size, pinholes: bool) -> None:
    """Refuse what is singular or mirrors, and, but for rays between ``pinholes``, what sends a line to infinity."""
    numbers = ", ".join(f"{value:.6g}" for value in matrix.ravel())
    unit_rgb, unit_thermal = (np.diag([2 / w, 2 / h, 1]) for w, h in (rgb_size, thermal_size))
    with np.errstate(over="ignore", invalid="ignore"):  # told by the next line
        scaled = unit_rgb @ matrix @ np.linalg.inv(unit_thermal)
    if not np.isfinite(scaled).all() or not np.linalg.cond(scaled) < _MAX_CONDITION:
        raise ValueError(f"The registration's matrix [{numbers}] is singular or nearly so; calibrate anew.")
    sign = 1.0
    if not pinholes:
        depths = project(matrix, _corners(thermal_size))[1]
        back = project(np.linalg.inv(matrix), _corners(rgb_size))[1]
        if depths.min() <= 0 <= depths.max() or back.min() <= 0 <= back.max():
            raise ValueError(
                f"The registration's matrix [{numbers}] sends a line of an image to infinity; calibrate anew."
            )
        sign = depths[0]
    if np.linalg.det(scaled) * sign <= 0:
        raise ValueError(f"The registration's matrix [{numbers}] mirrors the image; is one camera's image flipped?")


def _corners(size: Size) -> Matrix:
    width, height = size
    return np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], np.float64)
