"""Progress on the terminal of work that takes longer than two seconds; shorter work shows nothing, and no trace stays.

In: an iterable, or a block of work that cannot be counted. Out: a bar, or a clock, on standard error.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

DELAY_S = 2.0
_TICK_S = 0.5


def steps(items: Iterable[T], label: str, total: int | None = None, unit: str = "it") -> Iterable[T]:
    """The items, with a bar.

    Args:
        items: what is gone through.
        label: what is done.
        total: how many there are, for an iterable that has no length.
        unit: what one of them is.
    """
    return tqdm(items, desc=label, total=total, unit=unit, mininterval=1, delay=DELAY_S, leave=False)


@contextmanager
def clock(label: str) -> Iterator[None]:
    """Shows the seconds that the block has taken, for work that does not say how far it is."""
    done = threading.Event()

    def show(bar: tqdm[None]) -> None:
        if done.wait(DELAY_S):
            return
        bar.delay = 0
        while True:
            bar.refresh()
            if done.wait(_TICK_S):
                return

    with tqdm(desc=label, bar_format="{desc}: {elapsed}", delay=DELAY_S, leave=False) as bar:
        ticker = threading.Thread(target=show, args=(bar,), name="clock", daemon=True)
        ticker.start()
        try:
            yield
        finally:
            done.set()
            ticker.join()
