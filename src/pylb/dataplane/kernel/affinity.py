"""sessionAffinity ClientIP in nftables: who was sent to which endpoint stays in a set for a while.

kube-proxy has a set for each endpoint of each Service.  The kernel looks through
all of a table's sets for each one that a rule names, so that 2 000 Services with
affinity took a minute to load that way; here there is one set of (client, address,
protocol, port, mark) for all, and one map from the dice's numbers to marks.  The
mark that stands for an endpoint therefore follows from the endpoint alone, not
from its place among others: a client keeps its endpoint when others come and go.

A frontend (an address and port) has a memory of its own, where the userspace
dataplanes have one for all ways into a Service port.
"""

from __future__ import annotations

import hashlib

from pylb.plan.tables import Frontend

MOST = 65536
"""Clients and frontends that are remembered; when it is full, new ones are not."""
FIELDS = "ip saddr . ip daddr . meta l4proto . th dport . meta mark"
SET = [
    "type ipv4_addr . ipv4_addr . inet_proto . inet_service . mark",
    f"size {MOST}",
    "flags dynamic,timeout",
]
_IDS = 1 << 16


def ids(frontend: Frontend) -> list[int]:
    """A number below 2^16 for each backend: a hash of its place, the next free one if taken."""
    found: list[int] = []
    taken: set[int] = set()
    for backend in frontend.backends:
        place = backend.address.to_bytes(4, "big") + backend.port.to_bytes(2, "big")
        number = int.from_bytes(hashlib.sha256(place).digest()[:2], "big")
        while number in taken:
            number = (number + 1) % _IDS
        taken.add(number)
        found.append(number)
    return found


def chain(of: str) -> str:
    """The chain that remembers and goes on; ``of`` is the frontend's."""
    return f"{of}-kept"


def rules(frontend: Frontend) -> list[str]:
    """Its rules.  A set that is full ends a rule, not the packet's way."""
    remember = f"update @affinity {{ {FIELDS} timeout {frontend.affinity}s }}"
    return [remember, "goto translate"]
