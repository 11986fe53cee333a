"""``inspect``: what is in an RGB-thermal set, before training on it. Counts as text, and a contact sheet to look at.

In: any annotation file that :class:`CocoPairs` reads. Out: classes, light, sources, box sizes at the network's size and
flaws of the whole set; thermal bit depth and misalignment of a random sample; ``sheet.jpg`` with pictures of it. The
shift of a pair is the best peak of the correlation of its edge directions (:mod:`mmkd_train.edge_alignment`).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmkd_ros.network import DetectorConfig
from mmkd_train.data.adapters import CLASSES
from mmkd_train.data.coco import CocoPairs, LabelRules, Sample
from mmkd_train.edge_alignment import correlation_surface, edge_field
from mmkd_train.errors import UserError
from mmkd_train.inspect_sheet import Entry, draw_sheet

HELP = "Count what is in an RGB-thermal set, estimate how well its pairs are aligned, and draw a contact sheet."
_BAR = 40  # characters of the longest bar
_SIZE_EDGES = (0, 4, 8, 16, 32, 64, 128, np.inf)
_MAX_PICTURES = 100
_FIELD_WIDTH = 320  # pixels at which shifts are searched
_REACH = 0.06  # largest shift that is looked for, share of the picture's width
_CLEAR_PEAK = 4.0
"""A peak of so many standard deviations of the surface around it is called clear. Measured on 306 street pairs of five
public sets, moved by up to 5 % of the width: 95 % were clear, and 99 % of these within 1 % of the width; of 306 pairs
whose two pictures show different places none was clear."""


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """What of a set is looked at.

    Raises:
        ValueError: no picture, or more than a sheet holds.
    """

    pictures: int = 20
    """Pairs on the contact sheet."""
    sample: int = 200
    """Pairs, at random, whose pictures are read for bit depth and misalignment; the sheet shows the first of them."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.pictures <= _MAX_PICTURES or self.sample < self.pictures or self.seed < 0:
            raise ValueError(
                f"need 1 <= pictures <= {_MAX_PICTURES}, sample >= pictures and seed >= 0, got {self.pictures}, "
                f"{self.sample} and {self.seed}."
            )


@dataclass(frozen=True, slots=True)
class Shift:
    """By how much a pair's thermal picture must move to lie best on RGB.

    Attributes:
        dx: pixels of the picture, to the right.
        dy: pixels, down.
        peak: height of the correlation peak over the surface's mean, in its standard deviations.
    """

    dx: float
    dy: float
    peak: float

    @property
    def clear(self) -> bool:
        """Whether the peak stands out, so that the shift can be believed."""
        return self.peak >= _CLEAR_PEAK


def estimate_shift(rgb: NDArray[np.uint8], thermal: NDArray[np.uint8]) -> Shift:
    """The shift within 6 % of the width at which edges of both pictures agree best.

    One shift for the whole picture, in steps of a field pixel (1/320 of the width): where near and far objects are
    displaced differently, the larger part of the edges wins.

    Args:
        rgb: (H, W, 3) uint8.
        thermal: (H, W) uint8.
    """
    scale = rgb.shape[1] / _FIELD_WIDTH
    size = (_FIELD_WIDTH, round(rgb.shape[0] / scale))
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    surface = correlation_surface([(edge_field(grey, *size), edge_field(thermal, *size))], np.eye(3))
    centre_y, centre_x = (side // 2 for side in surface.shape)
    reach = round(_FIELD_WIDTH * _REACH)
    near = surface[centre_y - reach : centre_y + reach + 1, centre_x - reach : centre_x + reach + 1]
    row, column = np.unravel_index(int(near.argmax()), near.shape)
    peak = float((near.max() - surface.mean()) / max(float(surface.std()), 1e-9))
    return Shift(float(column - reach) * scale, float(row - reach) * scale, peak)


def _bars(counts: dict[str, int], unit: str) -> list[str]:
    most, total = max(counts.values(), default=0), sum(counts.values())
    width = max((len(name) for name in counts), default=0)
    return [
        f"  {name:<{width}s} {count:7d} {unit} {count / max(total, 1):4.0%} {'#' * round(_BAR * count / max(most, 1))}"
        for name, count in counts.items()
    ]


def _light(image: dict[str, Any]) -> str:
    """One of "day" and "night", or "" where the entry does not say."""
    night = image.get("night")
    return "" if night is None else "night" if night else "day"


def describe_labels(dataset: CocoPairs, height: int, width: int) -> list[str]:
    """Counts of the whole set that need no picture: pairs, light, sources, classes, box sizes, flaws.

    Args:
        height: of the network's input, which box sizes refer to.
        width: likewise.

    Raises:
        UserError: an image entry without its size.
    """
    samples = [dataset.labels(position) for position in range(len(dataset))]
    for image in dataset.images:
        if min(image.get("width", 0), image.get("height", 0)) < 1:
            raise UserError(f"the image with id {image.get('id')} states no width and height; add them to the file.")
    light = Counter(_light(image) or "not stated" for image in dataset.images)
    source = Counter(str(image.get("source", "not stated")) for image in dataset.images)
    lone = sum(image.get("file_name") is None for image in dataset.images)
    labels = np.concatenate([sample.labels[~sample.ignore] for sample in samples])
    counts = {name: int((labels == index).sum()) for index, name in enumerate(dataset.rules.class_names)}
    counts["(ignored)"] = int(sum(sample.ignore.sum() for sample in samples))
    sizes = []
    for image, sample in zip(dataset.images, samples, strict=True):
        sides = sample.boxes[~sample.ignore, 2:] - sample.boxes[~sample.ignore, :2]
        sizes.append(np.sqrt(sides.prod(axis=1)) * min(height / image["height"], width / image["width"]))
    binned = np.histogram(np.concatenate(sizes), bins=_SIZE_EDGES)[0]
    names = [f"{low}-{high}" for low, high in zip(_SIZE_EDGES[:-1], _SIZE_EDGES[1:], strict=True)]
    empty = sum(not len(sample.boxes) for sample in samples)
    return [
        f"{len(dataset)} pictures, {empty} without a box, {lone} thermal only",
        "light",
        *_bars(dict(light.most_common()), "pictures"),
        "source",
        *_bars(dict(source.most_common()), "pictures"),
        "class",
        *_bars(counts, "boxes"),
        f"box size, square root of the area in pixels of a network input of {width}x{height}",
        *_bars(dict(zip(names, (int(count) for count in binned), strict=True)), "boxes"),
        "boxes left out" if dataset.flaws else "boxes left out: none",
        *(f"  {count:7d} x {flaw}" for flaw, count in dataset.flaws.most_common()),
    ]


def describe_pictures(shifts: Sequence[Shift | None], depths: Counter[str], width: float) -> list[str]:
    """Bit depths and misalignment of the sample.

    Args:
        shifts: per picture, None for one modality only.
        depths: name of the pixel type -> pictures.
        width: median width of the pictures in pixels.
    """
    lines = [f"thermal depth in a sample of {len(shifts)}: " + ", ".join(f"{n} x {k}" for k, n in depths.items())]
    if len(set(depths) - {"none"}) > 1:
        lines.append("  MIXED: 16 bit is scaled per picture, 8 bit is not; check that both look alike on the sheet.")
    pairs = [shift for shift in shifts if shift is not None]
    clear = [shift for shift in pairs if shift.clear]
    if not pairs:
        return lines
    lines.append(f"misalignment: a clear estimate in {len(clear)} of {len(pairs)} pairs")
    if clear:
        moves = np.array([(shift.dx, shift.dy) for shift in clear])
        low, middle, high = np.percentile(moves, (10, 50, 90), axis=0)
        for axis, name in enumerate(("right", "down")):
            lines.append(
                f"  thermal moves {name} by {middle[axis]:+.1f} pixels (median), {low[axis]:+.1f} to {high[axis]:+.1f} "
                f"in 8 of 10 pairs, to lie on RGB"
            )
        worst = float(np.abs(middle).max()) / width
        if worst > 0.01:
            lines.append(f"  THE SET IS SHIFTED by {worst:.1%} of the width: register it before training.")
    if len(clear) < max(1, len(pairs) // 4):
        lines.append("  Too few clear estimates to trust: judge by the third column of the sheet.")
    return lines


def thermal_depth(dataset: CocoPairs, root: Path, position: int) -> str:
    """Pixel type of a picture's thermal file as it is stored, e.g. "uint16"; "none" without one."""
    name = dataset.images[position].get("thermal_file_name", dataset.images[position].get("file_name"))
    if name is None:
        return "none"
    path = next(path for path in (root / "pairs/thermal" / name, root / name) if path.is_file())
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise UserError(f"{path} cannot be decoded; restore the file.")
    return str(picture.dtype)


def _entry(dataset: CocoPairs, position: int, sample: Sample, shift: Shift | None) -> Entry:
    image = dataset.images[position]
    name = Path(str(image.get("file_name") or image.get("thermal_file_name"))).stem
    move = "" if shift is None else f"shift {shift.dx:+.0f} {shift.dy:+.0f}" + ("" if shift.clear else " (unclear)")
    caption = "   ".join(part for part in (name, str(image.get("source", "")), _light(image), move) if part)
    return Entry(sample, caption)


def inspect(annotations: Path, root: Path, output: Path, options: InspectOptions) -> str:
    """Inspect a set and write ``output/sheet.jpg``.

    Returns:
        The report to print.

    Raises:
        UserError: as :class:`CocoPairs`, and for a picture of the sample that cannot be read.
    """
    dataset = CocoPairs(annotations, root, LabelRules.for_classes(CLASSES))
    height, width = DetectorConfig().input_size
    lines = describe_labels(dataset, height, width)
    order = np.random.default_rng(options.seed).permutation(len(dataset))[: options.sample]
    shifts: list[Shift | None] = []
    depths: Counter[str] = Counter()
    entries: list[Entry] = []
    resized = 0
    for position in tqdm(order.tolist(), desc="pictures", mininterval=1, delay=2, leave=False):
        sample = dataset[position]
        resized += sample.size != (dataset.images[position]["height"], dataset.images[position]["width"])
        pair = sample.rgb is not None and sample.thermal is not None
        shift = estimate_shift(sample.rgb, sample.thermal) if pair else None  # type: ignore[arg-type]
        shifts.append(shift)
        depths[thermal_depth(dataset, root, position)] += 1
        if len(entries) < options.pictures:
            entries.append(_entry(dataset, position, sample, shift))
    lines += describe_pictures(shifts, depths, float(np.median([dataset.images[int(p)]["width"] for p in order])))
    if resized:
        lines.append(f"WRONG SIZES: {resized} pictures of the sample are not as large as stated; boxes may not fit.")
    output.mkdir(parents=True, exist_ok=True)
    path = output / "sheet.jpg"
    if not cv2.imwrite(str(path), draw_sheet(entries, CLASSES)):
        raise UserError(f"{path} cannot be written; choose another --output.")
    return "\n".join([*lines, f"{path}: {len(entries)} pictures; RGB, thermal, edges (red RGB, cyan thermal)"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    default = InspectOptions()
    parser.add_argument("--annotations", type=Path, required=True, help="COCO JSON of the set")
    parser.add_argument("--root", type=Path, required=True, help="folder that the file names are relative to")
    parser.add_argument("--output", type=Path, default=Path("inspect_out"), help="gets sheet.jpg")
    parser.add_argument("--pictures", type=int, default=default.pictures, help="pairs on the contact sheet")
    parser.add_argument("--sample", type=int, default=default.sample, help="pairs whose pictures are read")
    parser.add_argument("--seed", type=int, default=default.seed, help="draws the sample")


def run(args: argparse.Namespace) -> int:
    """Inspect and print."""
    try:
        options = InspectOptions(args.pictures, args.sample, args.seed)
    except ValueError as error:
        raise UserError(str(error)) from error
    print(inspect(args.annotations, args.root, args.output, options))
    return 0
