"""A checkerboard that both cameras see: inner corners in, one homography out.

A board that is warm in part (printed on metal, or lit by the sun) shows in thermal, sometimes with black and white
swapped. Corners have no names: those of the thermal picture are put in the order that fits the RGB picture without a
turn, since the rig is roughly aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_train.edge_alignment import Matrix, Model, to_pixels
from mmkd_train.errors import UserError
from mmkd_train.progress import steps

Picture = NDArray[np.uint8]


def find_corners(image: Picture, columns: int, rows: int) -> Matrix | None:
    """(rows, columns, 2) float64 pixels of the inner corners, or None where no board is found."""
    flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY
    for view in (image, cv2.bitwise_not(image)):
        found, corners = cv2.findChessboardCornersSB(view, (columns, rows), flags=flags)
        if found:
            return np.asarray(corners, np.float64).reshape(rows, columns, 2)
    return None


def in_order_of(reference: Matrix, corners: Matrix) -> Matrix:
    """``corners`` turned by a half (a square board: also a quarter) so that they lie as those of ``reference`` do."""
    turns = range(4) if corners.shape[0] == corners.shape[1] else (0, 2)

    def distance(candidate: Matrix) -> float:
        a, b = (points - points.mean((0, 1)) for points in (reference, candidate))
        return float(np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b)))

    return min((np.rot90(corners, turn) for turn in turns), key=distance)


class BoardEvidence:
    """The corners of the boards of some pairs: what a homography is fitted to.

    Args:
        pairs: (RGB as grey, thermal), each (H, W) uint8.
        board: inner corners, columns and rows.
        model: what the homography may do beyond stretching thermal to the RGB picture.

    Attributes:
        found: positions in ``pairs`` of those in which both cameras show the board; all rows count within them.

    Raises:
        UserError: no pair shows it.
    """

    def __init__(self, pairs: Sequence[tuple[Picture, Picture]], board: tuple[int, int], model: Model) -> None:
        self.model, self.found = model, list[int]()
        self._points: list[tuple[Matrix, Matrix]] = []
        rgb_pixels, thermal_pixels = (to_pixels(*image.shape[::-1]) for image in pairs[0])
        self._stretch = rgb_pixels @ np.linalg.inv(thermal_pixels)
        for position, (rgb_image, thermal_image) in enumerate(steps(pairs, "looking for the board", unit="pair")):
            rgb_corners, thermal_corners = (find_corners(image, *board) for image in (rgb_image, thermal_image))
            if rgb_corners is not None and thermal_corners is not None:
                self.found.append(position)
                thermal_corners = in_order_of(rgb_corners, thermal_corners)
                self._points.append((thermal_corners.reshape(-1, 2), rgb_corners.reshape(-1, 2)))
        if not self.found:
            raise UserError(
                f"no pair shows a board of {board[0]}x{board[1]} inner corners to both cameras; count the inner "
                "corners, warm the board, or leave out --checkerboard to align by edges."
            )

    def __len__(self) -> int:
        return len(self.found)

    def solve(self, rows: Sequence[int]) -> Matrix:
        """(3, 3) thermal pixel -> RGB pixel that fits the boards of those pairs best.

        Raises:
            UserError: the corners determine none.
        """
        source, target = (np.concatenate([self._points[row][side] for row in rows]) for side in (0, 1))
        stretched = cv2.perspectiveTransform(source[None], self._stretch)[0]
        matrix: Any
        if self.model == "translation":
            x, y = np.median(target - stretched, axis=0)
            matrix = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
        elif self.model == "affine":
            affine = cv2.estimateAffine2D(stretched, target, ransacReprojThreshold=3.0)[0]
            matrix = None if affine is None else np.vstack((affine, (0, 0, 1)))
        else:
            matrix = cv2.findHomography(stretched, target, cv2.RANSAC, 3.0)[0]
        if matrix is None:
            raise UserError("the board's corners determine no homography; show it in more places.")
        return np.asarray(matrix @ self._stretch, np.float64)

    def residuals(self, homography: Matrix) -> NDArray[np.float64]:
        """(P,) RGB pixels, median distance of each pair's corners from where the homography puts them."""
        return np.array(
            [
                np.median(np.linalg.norm(cv2.perspectiveTransform(source[None], homography)[0] - target, axis=1))
                for source, target in self._points
            ]
        )
