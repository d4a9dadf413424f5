"""What a daemon cannot go on without."""

from __future__ import annotations


class NodeError(RuntimeError):
    """Something that the daemon needs is not there; the message is one whole sentence part.

    It names the thing and what was expected of it, and goes to the user as it is.
    """
