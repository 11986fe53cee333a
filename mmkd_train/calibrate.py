"""The `calibrate` command: simultaneous pictures of a roughly aligned rig in, the thermal -> RGB homography out.

Pairs have equal file names (without the ending) in two folders. The homography is fitted to all pairs together, by
their edges or by a checkerboard; pairs that disagree are named and left out. It writes ``registration.yaml`` for the
nodes and ``before_after.png`` to look at.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_ros.imaging import thermal_to_uint8
from mmkd_ros.registration import Registration, RegistrationOptions
from mmkd_train.checkerboard import BoardEvidence
from mmkd_train.edge_alignment import EdgeEvidence, Matrix, Model
from mmkd_train.errors import UserError
from mmkd_train.progress import steps

HELP = "Estimate the homography that maps the thermal image onto the RGB image from simultaneous pictures."

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class CalibrationLimits:
    """When a result is not believed; distances in RGB pixels are for an image 640 wide and grow with the width."""

    residual_px: float = 4.0
    """Pairs beyond this, and beyond three times the median pair, are left out."""
    spread_px: float = 6.0
    """Two halves of the pairs may disagree by this much anywhere in the image before a warning."""
    refuse_spread_px: float = 40.0
    """Beyond this disagreement there is no result."""
    distinctness: float = 2.0
    """An alignment by edges must stand out from shifted ones by this factor before it is a result."""


@dataclass(frozen=True, slots=True, eq=False)
class PicturePair:
    """One pair as read: ``rgb`` (H, W) uint8 grey, ``thermal`` (h, w) uint8."""

    name: str
    rgb: NDArray[np.uint8]
    thermal: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What came out.

    Attributes:
        homography: (3, 3) thermal pixel -> RGB pixel.
        residuals: name -> RGB pixels, of the pairs that were used.
        left_out: name -> why.
        spread_px: largest disagreement of two halves of the pairs over the image; None with fewer than four pairs.
        warnings: sentences.
    """

    homography: Matrix
    residuals: dict[str, float]
    left_out: dict[str, str]
    spread_px: float | None
    warnings: list[str] = field(default_factory=list)


class Evidence(Protocol):
    """What a homography is fitted to: rows are pairs."""

    def __len__(self) -> int: ...

    def solve(self, rows: Sequence[int]) -> Matrix:
        """(3, 3) thermal pixel -> RGB pixel for these pairs."""

    def residuals(self, homography: Matrix) -> NDArray[np.float64]:
        """(P,) RGB pixels for every pair."""


def read_pairs(rgb: Path, thermal: Path, most: int) -> list[PicturePair]:
    """Pairs of equal names, spread evenly over the folder if there are more than ``most``.

    Raises:
        UserError: a folder without pictures, no equal names, an unreadable picture, or sizes that change.
    """
    files = []
    for folder in (rgb, thermal):
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder.")
        files.append({path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _ENDINGS})
    names = sorted(files[0].keys() & files[1].keys())
    if not names:
        raise UserError(
            f"no picture in {rgb} ({len(files[0])}) has the name of one in {thermal} ({len(files[1])}); name the two "
            "pictures of one moment alike."
        )
    unpaired = len(files[0]) + len(files[1]) - 2 * len(names)
    if unpaired:
        print(f"{unpaired} pictures without a partner of the same name are not used")
    if len(names) > most:
        names = [names[k] for k in np.linspace(0, len(names) - 1, most).round().astype(int)]
    reading = steps(names, "reading", unit="pair")
    pairs = [PicturePair(name, _read(files[0][name]), _read(files[1][name])) for name in reading]
    for pair in pairs:
        for camera, image, first in (("RGB", pair.rgb, pairs[0].rgb), ("thermal", pair.thermal, pairs[0].thermal)):
            if image.shape != first.shape:
                raise UserError(
                    f"the {camera} pictures {pairs[0].name} and {pair.name} have different sizes; calibrate with "
                    "pictures of one rig in one setting."
                )
    return pairs


def _read(path: Path) -> NDArray[np.uint8]:
    image: Any = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if image is None or image.dtype not in (np.uint8, np.uint16) or min(image.shape) < 32:
        raise UserError(f"{path} is no 8- or 16-bit picture of at least 32x32 pixels; remove or convert it.")
    return thermal_to_uint8(image)


def grid_distance(a: Matrix, b: Matrix, thermal_size: tuple[int, int]) -> float:
    """Largest distance in RGB pixels between two homographies over a 5x5 grid from corner to corner of thermal."""
    width, height = thermal_size
    grid = np.stack(np.meshgrid(np.linspace(0, width - 1, 5), np.linspace(0, height - 1, 5)), -1).reshape(1, -1, 2)
    return float(np.linalg.norm(cv2.perspectiveTransform(grid, a) - cv2.perspectiveTransform(grid, b), axis=-1).max())


def calibrate(
    pairs: Sequence[PicturePair], model: Model = "homography", board: tuple[int, int] | None = None
) -> Calibration:
    """Fit one homography to all pairs, leave out those that disagree, and say how far it can be trusted.

    Raises:
        UserError: no alignment that stands out or that two halves of the pairs agree on; no board.
    """
    images = [(pair.rgb, pair.thermal) for pair in pairs]
    names, left_out, limits = [pair.name for pair in pairs], dict[str, str](), CalibrationLimits()
    scale = max(1.0, pairs[0].rgb.shape[1] / 640)
    evidence: Evidence
    if board is not None:
        evidence = boards = BoardEvidence(images, board, model)
        left_out = {name: "no board found" for k, name in enumerate(names) if k not in boards.found}
        names = [names[k] for k in boards.found]
    else:
        evidence = EdgeEvidence(images, model)
    rows = list(range(len(evidence)))
    homography = evidence.solve(rows)
    residuals = evidence.residuals(homography)
    limit = max(limits.residual_px * scale, 3 * float(np.median(residuals)))
    if (residuals > limit).any():
        left_out |= {names[k]: f"is off by {residuals[k]:.1f} px" for k in rows if residuals[k] > limit}
        rows = [k for k in rows if residuals[k] <= limit]
        homography = evidence.solve(rows)
        residuals = evidence.residuals(homography)
    thermal_size = pairs[0].thermal.shape[::-1]
    spread = None
    if len(rows) >= 4:
        spread = grid_distance(evidence.solve(rows[::2]), evidence.solve(rows[1::2]), thermal_size)
    warnings = []
    if isinstance(evidence, EdgeEvidence):
        distinctness = evidence.distinctness(homography, rows)
        if distinctness < limits.distinctness or (spread or 0.0) > limits.refuse_spread_px * scale:
            raise UserError(
                f"no alignment can be found: the best one stands out by a factor of {distinctness:.2f} (needs "
                f"{limits.distinctness}), and two halves of the pairs disagree by "
                f"{'an unknown number of' if spread is None else f'{spread:.0f}'} px. Check that the folders show the "
                "same scenes at the same moments, add daylight pictures with distant buildings, poles and kerbs, or "
                "use --checkerboard."
            )
    if spread is None:
        warnings.append(f"{len(rows)} pairs cannot be checked against each other; use at least 4, better 10 or more.")
    elif spread > limits.spread_px * scale:
        warnings.append(
            f"two halves of the pairs disagree by up to {spread:.1f} px; add pictures, or use --model affine."
        )
    if len(left_out) > len(rows):
        warnings.append(f"more pairs were left out ({len(left_out)}) than used ({len(rows)}).")
    used = {names[k]: float(residuals[k]) for k in rows}
    return Calibration(homography / homography[2, 2], used, left_out, spread, warnings)


def to_yaml(options: RegistrationOptions) -> str:
    """The parameter file's lines."""
    numbers = ", ".join(repr(float(f"{value:.9g}")) for value in options.homography)
    return (
        "/**:\n  ros__parameters:\n    registration:\n      mode: homography\n"
        f"      rgb_size: {list(options.rgb_size)}\n      thermal_size: {list(options.thermal_size)}\n"
        f"      homography: [{numbers}]  # thermal pixel -> RGB pixel, row by row\n"
    )


def before_after(pair: PicturePair, registration: Registration) -> NDArray[np.uint8]:
    """(2 H, 2 W, 3) BGR: left stretched, right registered; above a chequered mosaic, below edges (RGB's cyan, thermal's
    red, white where they meet). What thermal does not see is RGB in the mosaic and has no red edges."""
    height, width = pair.rgb.shape
    contrast = cv2.createCLAHE(2.0)
    y, x = np.indices((height, width)) * 8 // width
    columns = []
    for title, warp in (("before: stretched", _stretched_to(width, height)), ("after: registered", registration)):
        thermal, seen = np.asarray(warp(pair.thermal)), np.asarray(warp(np.full_like(pair.thermal, 255))) == 255
        warm = cv2.applyColorMap(contrast.apply(thermal), cv2.COLORMAP_INFERNO)
        grey = contrast.apply(pair.rgb)[..., None]
        mosaic = np.where(((x + y) % 2 == 1)[..., None] & seen[..., None], warm, grey).astype(np.uint8)
        red = _edges(thermal) * cv2.erode(seen.astype(np.uint8), np.ones((9, 9), np.uint8))
        edges = np.stack((_edges(pair.rgb), _edges(pair.rgb), red), -1)
        for panel, text in ((mosaic, title), (edges, "edges: RGB cyan, thermal red")):
            for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
                cv2.putText(panel, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)
        columns.append(np.concatenate((mosaic, edges)))
    return np.concatenate(columns, axis=1)


def _stretched_to(width: int, height: int) -> Callable[[Any], Any]:
    return lambda image: cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _edges(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) gradient magnitude, its 97th percentile white."""
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.2)
    size = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return np.asarray(np.clip(size * (255 / max(float(np.percentile(size, 97)), 1e-3)), 0, 255), np.uint8)


def _board(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or min(map(int, match.groups())) < 3:
        raise argparse.ArgumentTypeError(f"must be COLSxROWS inner corners, each at least 3, got '{text}'")
    return int(match[1]), int(match[2])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--rgb", type=Path, required=True, help="folder of RGB pictures")
    parser.add_argument("--thermal", type=Path, required=True, help="folder of thermal pictures of the same names")
    parser.add_argument("--output", type=Path, required=True, help="folder for registration.yaml and before_after.png")
    parser.add_argument(
        "--model",
        choices=("translation", "affine", "homography"),
        default="homography",
        help="what may change beyond stretching thermal to the RGB picture; fewer numbers need fewer edges",
    )
    parser.add_argument("--checkerboard", type=_board, metavar="COLSxROWS", help="inner corners of a board in view")
    parser.add_argument("--max-pairs", type=int, default=24, help="use this many pairs, spread over the folder")


def run(args: argparse.Namespace) -> int:
    """Calibrate, print the numbers, write the two files."""
    if args.max_pairs < 1:
        raise UserError(f"--max-pairs must be at least 1, got {args.max_pairs}.")
    pairs = read_pairs(args.rgb, args.thermal, args.max_pairs)
    result = calibrate(pairs, args.model, args.checkerboard)
    rgb_size, thermal_size = pairs[0].rgb.shape[::-1], pairs[0].thermal.shape[::-1]
    try:
        options = RegistrationOptions(
            "homography", rgb_size, thermal_size, tuple(map(float, result.homography.ravel()))
        )
        registration = Registration(options, thermal_size, rgb_size)
    except ValueError as error:
        raise UserError(f"the alignment that fits best cannot be right: {error}") from error
    for name, residual in sorted(result.residuals.items(), key=lambda item: item[1]):
        print(f"{name}: {residual:.1f} px")
    for name, reason in result.left_out.items():
        print(f"{name}: left out, {reason}")
    kind = "median distance of the corners" if args.checkerboard else "shift that the pair alone would prefer"
    median = float(np.median(list(result.residuals.values())))
    print(f"{len(result.residuals)} pairs, median residual {median:.1f} RGB px ({kind})")
    if result.spread_px is not None:
        print(f"two halves of the pairs agree within {result.spread_px:.1f} px")
    print(f"thermal covers {registration.coverage:.0%} of the RGB image; one warp takes {registration.cost_ms:.1f} ms")
    for warning in result.warnings:
        print(f"WARNING: {warning}")
    best = min(result.residuals, key=lambda name: result.residuals[name])
    shown = next(pair for pair in pairs if pair.name == best)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "registration.yaml").write_text(to_yaml(options), encoding="utf-8")
    cv2.imwrite(str(args.output / "before_after.png"), before_after(shown, registration))
    print(
        f"look at {args.output / 'before_after.png'}; {args.output / 'registration.yaml'}:\n{to_yaml(options)}", end=""
    )
    return 0
