"""Options that several commands share."""

from __future__ import annotations

import argparse


def add_input_size(parser: argparse.ArgumentParser, of: str, default: tuple[int, int] = (0, 0)) -> None:
    """``--input-size H W`` in pixels; (0, 0) stands for the size in the weights.

    Args:
        parser: gets the option.
        of: whose size it is, for the help.
        default: (height, width).
    """
    told = " ".join(map(str, default)) if any(default) else "as in the weights"
    parser.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        default=default,
        help=f"of {of} in pixels, multiples of 32; default: {told}",
    )
