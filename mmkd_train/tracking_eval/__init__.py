"""Measuring trackers: sequences with known identities, the trackers that compete, and the scores."""
