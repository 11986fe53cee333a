"""What goes wrong with a weights file or with one pair. Free of torch: a node names them where it is absent."""

from __future__ import annotations


class WeightsError(Exception):
    """A weights file that cannot be used; the message says why and what to do."""


class InferenceError(Exception):
    """One pair could not be processed (device error, NaN); the session itself can be used again."""
