"""The names and numbers by which plumbing is made and known again."""

from __future__ import annotations

from typing import NamedTuple

PROTOCOL = 112
"""What rules and routes carry as their protocol (FRA_PROTOCOL, rtm_protocol): only
those that carry it are ever changed or removed.  Not taken in iproute2's rt_protos."""

ALIAS = "pylb"
"""The ifalias of links that the plumbing made: only those are ever removed."""

TABLE_TUN = 100
"""Everything to the daemon, sources chosen as the node's address."""

TABLE_TUN_LOOPBACK = 101
"""The same for what is sent to 127.0.0.1, whose source must be a loopback address."""

TABLE_MAIN = 254
TABLE_LOCAL = 255


class Names(NamedTuple):
    """The interfaces of a node: towards the underlay, the daemon's TUN, the pods' bridge."""

    uplink: str = "eth0"
    tun: str = "pylb0"
    bridge: str = "cni0"
