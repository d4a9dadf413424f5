"""Names for what tests make on the machine: no two runs, and no two workers, have the same."""

from __future__ import annotations

import secrets


def drawn(prefix: str) -> str:
    """``prefix`` and four characters by chance; fit for a lab's name."""
    return prefix + secrets.token_hex(2)
