"""Memory of the tracker: one row per track in a table of arrays, and a bounded gallery of vectors per track."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MIN_NORM = 1e-6  # a shorter mean of opposite vectors has no direction


class TrackTable:
    """All living tracks, oldest first; every attribute has one entry per track.

    Attributes:
        ids: (N,) int64.
        means: (N, 8) float64, see ``kalman``.
        covariances: (N, 8, 8) float64.
        boxes: (N, 4) float64 x1 y1 x2 y2 of the last matched detection in pixels.
        confirmed: (N,) bool; False = tentative.
        hits: (N,) int64 detections matched, the first one included.
        missed_frames: (N,) int64 frames since the last matched detection.
        born: (N,) float64 stamp of the first detection in seconds.
        seen: (N,) float64 stamp of the last matched detection in seconds.
        scores: (N,) float32 of the last matched detection.
        labels: (N,) int64 majority class.
        votes: (N, C) int64 matched detections per class.
        slots: (N,) int64 place in the galleries, -1 = no vector yet.
    """

    _FIELDS = (
        "ids",
        "means",
        "covariances",
        "boxes",
        "confirmed",
        "hits",
        "missed_frames",
        "born",
        "seen",
        "scores",
        "labels",
        "votes",
        "slots",
    )

    def __init__(self, classes: int = 0) -> None:
        self.ids = np.zeros(0, np.int64)
        self.means = np.zeros((0, 8))
        self.covariances = np.zeros((0, 8, 8))
        self.boxes = np.zeros((0, 4))
        self.confirmed = np.zeros(0, np.bool_)
        self.hits = np.zeros(0, np.int64)
        self.missed_frames = np.zeros(0, np.int64)
        self.born = np.zeros(0)
        self.seen = np.zeros(0)
        self.scores = np.zeros(0, np.float32)
        self.labels = np.zeros(0, np.int64)
        self.votes = np.zeros((0, classes), np.int64)
        self.slots = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Forget the tracks where ``rows`` (N,) is False."""
        for name in self._FIELDS:
            setattr(self, name, getattr(self, name)[rows])

    def widen(self, classes: int) -> None:
        """Make room for votes on more classes."""
        self.votes = np.pad(self.votes, ((0, 0), (0, classes - self.votes.shape[1])))

    def append(
        self,
        ids: NDArray[np.int64],
        means: NDArray[np.float64],
        covariances: NDArray[np.float64],
        boxes: NDArray[np.float64],
        scores: NDArray[np.float32],
        labels: NDArray[np.int64],
        stamp: float,
    ) -> None:
        """Add K tentative tracks, each seen once, at ``stamp`` seconds."""
        k = len(ids)
        votes = np.zeros((k, self.votes.shape[1]), np.int64)
        votes[np.arange(k), labels] = 1
        added = {
            "ids": ids,
            "means": means,
            "covariances": covariances,
            "boxes": boxes,
            "confirmed": np.zeros(k, np.bool_),
            "hits": np.ones(k, np.int64),
            "missed_frames": np.zeros(k, np.int64),
            "born": np.full(k, stamp),
            "seen": np.full(k, stamp),
            "scores": scores,
            "labels": labels,
            "votes": votes,
            "slots": np.full(k, -1, np.int64),
        }
        for name in self._FIELDS:
            setattr(self, name, np.concatenate((getattr(self, name), added[name])))

    def vote(self, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """Count one more detection of class ``labels`` (K,) for the tracks ``rows`` (K,); a tie keeps the old class."""
        self.votes[rows, labels] += 1
        ahead = self.votes[rows, labels] > self.votes[rows, self.labels[rows]]
        self.labels[rows[ahead]] = labels[ahead]


class Returns:
    """How many of the objects lost lately came back: whether one that is unseen was rather missed, or has gone."""

    WITHIN_S = 1.0
    """Seconds in which an object must come back."""
    _MEMORY = 40.0  # objects that count; those before fade away

    def __init__(self) -> None:
        self._back = self._gone = 1.0

    @property
    def share(self) -> float:
        """Of those that came back, in 0..1; 0.5 before anything is known."""
        return self._back / (self._back + self._gone)

    def add(self, back: int, gone: int) -> None:
        """Take in those of one frame."""
        self._back, self._gone = self._back + back, self._gone + gone
        fade = min(1.0, self._MEMORY / (self._back + self._gone))
        self._back, self._gone = self._back * fade, self._gone * fade


class Galleries:
    """The newest ``size`` appearance vectors of every track, in one array of (slots, size, D) float32.

    A new gallery is filled with copies of its first vector, which changes no maximum and spares a mask. The array grows
    with the largest number of simultaneous tracks, never with time.

    With a momentum m above 0 a gallery is one vector e, the exponential moving average e <- m e + (1 - m) r of the
    vectors r, scaled to length one (Du et al., "StrongSORT: Make DeepSORT Great Again", 2023, eq. 1).

    Args:
        size: vectors kept per track.
        momentum: of the moving average, below 1; 0 = keep the vectors themselves.
    """

    def __init__(self, size: int, momentum: float = 0.0) -> None:
        size = 1 if momentum > 0 else size
        self._size, self._momentum = size, momentum
        self._vectors = np.zeros((0, size, 0), np.float32)
        self._taken = np.zeros(0, np.bool_)
        self._written = np.zeros(0, np.int64)

    @property
    def dimension(self) -> int:
        """Length D of the vectors; 0 before the first one."""
        return self._vectors.shape[2]

    @property
    def nbytes(self) -> int:
        """Memory held by the vectors."""
        return self._vectors.nbytes

    def new(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Open K galleries with their first vectors (K, D) of length one; returns their slots (K,)."""
        k = len(vectors)
        if not k:
            return np.zeros(0, np.int64)
        lacking = k - int((~self._taken).sum())
        if lacking > 0:
            extra = max(lacking, len(self._taken), 16)
            grown = np.zeros((len(self._taken) + extra, self._size, vectors.shape[1]), np.float32)
            if len(self._taken):
                grown[: len(self._taken)] = self._vectors
            self._vectors = grown
            self._taken = np.pad(self._taken, (0, extra))
            self._written = np.pad(self._written, (0, extra))
        slots = np.flatnonzero(~self._taken)[:k]
        self._taken[slots] = True
        self._written[slots] = 1
        self._vectors[slots] = vectors[:, None, :]
        return slots

    def add(self, slots: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Put one more vector (K, D) of length one into each gallery (K,); the oldest goes when it is full."""
        if not len(slots):
            return
        if self._momentum > 0:
            vectors = self._momentum * self._vectors[slots, 0] + (1 - self._momentum) * vectors
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _MIN_NORM)
        self._vectors[slots, self._written[slots] % self._size] = vectors
        self._written[slots] += 1

    def free(self, slots: NDArray[np.int64]) -> None:
        """Give up galleries; -1 entries are passed over."""
        self._taken[slots[slots >= 0]] = False

    def count(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Vectors kept in each gallery (K,)."""
        return np.minimum(self._written[slots], self._size)

    def distances(
        self,
        slots: NDArray[np.int64],
        vectors: NDArray[np.float32],
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Smallest cosine distance between gallery and vector, of some pairs: few pass the motion gate.

        Args:
            slots: (N,) int64, 0 or more in the rows of the pairs.
            vectors: (M, D) float32 of length one.
            rows: (P,) int64 ascending, which gallery each pair is of.
            columns: (P,) int64, which vector.

        Returns:
            (P,) float64.
        """
        if not len(rows):
            return np.zeros(0)
        counts = np.bincount(rows, minlength=len(slots))
        position = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        # The vectors go to the galleries' places: gathering the far larger galleries would outlast the product.
        places = slots[rows]
        placed = np.zeros((int(places.max()) + 1, int(counts.max()), self.dimension), np.float32)
        placed[places, position] = vectors[columns]
        cosine = placed @ self._vectors[: len(placed)].transpose(0, 2, 1)
        return np.asarray(1.0 - cosine.max(axis=2)[places, position].astype(np.float64))
