"""The one exception that the command line prints as a sentence instead of a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can put right; the message says what is wrong and what to do."""
