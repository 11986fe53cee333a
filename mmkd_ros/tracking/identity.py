"""Universally unique track ids: the small number of a track, unique within a run, becomes a UUID of 16 bytes.

Two trackers, or one that was started again, both count from 1; who keeps tracks of several runs (a log, a fusion node)
needs ids that never meet. A run is a random UUID that the tracker draws when it is made (``DeepSort.run``).
"""

from __future__ import annotations

import uuid


def new_run() -> uuid.UUID:
    """A random namespace for the ids of one tracker's life."""
    return uuid.uuid4()


def track_uuid(run: uuid.UUID, track_id: int) -> bytes:
    """The UUID of a track: name-based, version 5 (RFC 9562), so that the same run and id always give the same one.

    Args:
        run: namespace of the tracker, ``DeepSort.run`` or ``new_run()``.
        track_id: as in ``Tracks.ids``, above 0.

    Returns:
        16 bytes, as unique_identifier_msgs/UUID and autoware_perception_msgs carry them.

    Raises:
        ValueError: an id that no tracker gives out.
    """
    if track_id < 1:
        raise ValueError(f"Track ids count from 1, got {track_id}.")
    return uuid.uuid5(run, str(int(track_id))).bytes
