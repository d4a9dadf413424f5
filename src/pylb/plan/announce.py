"""Which node answers for a virtual address that lies in the underlay's own subnet.

Such an address has no route: somebody on the link must answer ARP for it, and
only one.  Every node finds out by itself who (MetalLB's layer 2 mode does the
same): of the nodes that may take the packets, the one whose hash with the
address is smallest.  When it goes, only its own addresses move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import IPv4Address


def announcer(address: IPv4Address, takers: Iterable[str]) -> str:
    """The one of ``takers`` (node names) that answers for ``address``; "" when there is none."""

    def rank(node: str) -> bytes:
        return hashlib.sha256(f"{node}#{address}".encode()).digest()

    return min(takers, key=rank, default="")
