"""One thread that works on the newest items: slow work drops what is old instead of building a queue. No ROS."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
W = TypeVar("W")


class _Worker(Generic[W]):
    """The thread, which takes what waits whenever it is free.

    Args:
        work: called with what :meth:`_take` gives, in the thread.
        failed: called there with what ``work`` raises; the thread goes on.
    """

    def __init__(self, work: Callable[[W], None], failed: Callable[[Exception], None]) -> None:
        self._work = work
        self._failed = failed
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="latest-worker", daemon=True)
        self._thread.start()

    def _waits(self) -> bool:
        """Whether there is anything to take."""
        raise NotImplementedError

    def _take(self) -> W:
        """What to work on next."""
        raise NotImplementedError

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
                self._changed.wait_for(lambda: self._waits() or self._stopping)
                if self._stopping:
                    return
                taken = self._take()
            try:
                self._work(taken)
            except Exception as error:
                self._failed(error)
            del taken  # images are large; the next one may be long in coming


class LatestWorker(_Worker[T]):
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
        self._items: deque[T] = deque(maxlen=room)
        super().__init__(work, failed)

    def put(self, item: T) -> None:
        """Hand over an item; never waits for the work."""
        with self._changed:
            self.superseded += len(self._items) == self._items.maxlen
            self._items.append(item)
            self._changed.notify()

    def _waits(self) -> bool:
        return bool(self._items)

    def _take(self) -> T:
        return self._items.popleft()


class FairWorker(_Worker[dict[str, T]]):
    """Room for the newest item of each of several sources, and a thread that works on a few of them at a time.

    Whoever has waited longest comes first, and a source that has been served goes to the end: one that is fast takes
    nothing from one that is slow, and none is waited for.

    Attributes:
        superseded: by source, items that newer ones of it have pushed out before they were begun.

    Args:
        work: called with items by their source, at most ``most`` at a time, in the thread.
        failed: called there with what ``work`` raises; the thread goes on.
        most: items of one call.
    """

    def __init__(
        self, work: Callable[[dict[str, T]], None], failed: Callable[[Exception], None], most: int = 1
    ) -> None:
        self.superseded: Counter[str] = Counter()
        self._items: dict[str, T] = {}
        self._most = most
        super().__init__(work, failed)

    def put(self, source: str, item: T) -> None:
        """Hand over an item; never waits for the work."""
        with self._changed:
            self.superseded[source] += source in self._items
            self._items[source] = item  # in the place of the one before: a source keeps its turn
            self._changed.notify()

    def _waits(self) -> bool:
        return bool(self._items)

    def _take(self) -> dict[str, T]:
        return {source: self._items.pop(source) for source in list(self._items)[: self._most]}
