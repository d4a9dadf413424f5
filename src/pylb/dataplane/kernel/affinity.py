"""sessionAffinity ClientIP in nftables: who was sent to an endpoint is in its set for a while.

One set for each endpoint of a frontend.  A client that is in one goes to that
endpoint's chain, which puts it in anew; others throw the dice, which lead to the
same chains.  A frontend keeps its own sets, where the userspace dataplanes keep
one memory for all ways into a Service port.
"""

from __future__ import annotations

from pylb.dataplane.kernel.names import protocol, quad
from pylb.plan.tables import Backend, Frontend

MOST = 65536
"""Clients that a set holds."""


def name(frontend: Frontend, backend: Backend) -> str:
    """The set of one endpoint; another timeout makes it another set."""
    key = frontend.key
    at = f"{quad(key.address)}/{protocol(key.protocol)}/{key.port}"
    return f"affinity-{frontend.affinity}-{at}-{quad(backend.address)}/{backend.port}"


def sets(frontend: Frontend | None) -> list[str]:
    """The sets that a frontend needs, those of all endpoints that it may choose."""
    if frontend is None or not frontend.affinity:
        return []
    indices = sorted({*frontend.active, *frontend.other})
    return [name(frontend, frontend.backends[index]) for index in indices]


def definition(frontend: Frontend) -> list[str]:
    """What such a set is."""
    return [
        "type ipv4_addr",
        f"size {MOST}",
        "flags dynamic,timeout",
        f"timeout {frontend.affinity}s",
    ]


def chain(of: str, mark: int) -> str:
    """The chain of one endpoint, by its mark; ``of`` is the frontend's."""
    return f"{of}-{mark}"


def rules(frontend: Frontend, backend: Backend, mark: int) -> list[str]:
    """The rules of an endpoint's chain."""
    remember = f"update @{name(frontend, backend)} {{ ip saddr }}"
    return [f"{remember} meta mark set {mark} goto translate"]
