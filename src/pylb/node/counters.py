"""Counts of what happened to packets outside the dataplane, by name."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping


class PumpCounters:
    """Packets in and out, and every refusal by the system, under its errno's name.

    A name reads ``DIRECTION_WHERE`` for packets (``read_tun``, ``write_tun``,
    ``receive_overlay``, ``send_overlay``) and has ``_`` and the errno appended
    for a packet that the system did not take or give (``write_tun_enobufs``).
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter(
            read_tun=0, write_tun=0, receive_overlay=0, send_overlay=0
        )

    def add(self, name: str, packets: int) -> None:
        """Count ``packets`` under ``name``."""
        if packets:
            self._counts[name] += packets

    def refused(self, name: str, error: OSError) -> None:
        """Count one packet that ``error`` kept from being moved."""
        reason = errno.errorcode.get(error.errno or 0, "error").lower()
        self._counts[f"{name}_{reason}"] += 1

    def snapshot(self) -> Mapping[str, int]:
        """Every count so far, by name."""
        return dict(sorted(self._counts.items()))
