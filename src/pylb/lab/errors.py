"""What a lab refuses or cannot do."""

from __future__ import annotations


class LabError(Exception):
    """One sentence for the person who asked; nothing was changed, or it was undone."""
