"""One thread that works on the newest items: slow work drops what is old instead of building a queue. No ROS."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestWorker(Generic[T]):
    """Room for a few items and a thread that works on them in their order.

    Attributes:
        superseded: items that newer ones have pushed out before they were begun.

    Args:
        work: called with each item, in the thread.
        failed: called there with what ``work`` raises; the thread goes on with the next item.
        room: items that may wait; with 1 the thread always turns to the newest.
    """

    def __init__(self, work: Callable[[T], None], failed: Callable[[Exception], None], room: int = 1) -> None:
        self.superseded = 0
        self._work = work
        self._failed = failed
        self._changed = threading.Condition()
        self._items: deque[T] = deque(maxlen=room)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="latest-worker", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over an item; never waits for the work."""
        with self._changed:
            self.superseded += len(self._items) == self._items.maxlen
            self._items.append(item)
            self._changed.notify()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """End the thread after the item in work; those that wait are dropped.

        Returns:
            False when the work did not end in time; the thread then dies with the process.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._stopping)
                if self._stopping:
                    return
                item = self._items.popleft()
            try:
                self._work(item)
            except Exception as error:
                self._failed(error)
            del item  # images are large; the next one may be long in coming
