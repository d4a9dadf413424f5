"""Sysctls of this network namespace that the routing depends on.

Each is here because without it something was seen to fail; the reason stands
beside it.  Only namespaced ones are touched.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from pylb.node.errors import NodeError
from pylb.node.plumbing.names import Names
from pylb.node.plumbing.record import Record

_ROOT = Path("/proc/sys/net")


def of_namespace() -> list[tuple[str, str]]:
    """What the whole namespace needs: (path under net/, value), in the order to be set."""
    return [
        ("ipv4/ip_forward", "1"),
        # Early demux delivers later packets of a flow that matches a local socket
        # straight to it, past every rule.
        ("ipv4/ip_early_demux", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        # The ports above are the daemon's, for masquerading.
        ("ipv4/ip_local_port_range", "32768 60999"),
        # With 1, frames between ports of a bridge go through iptables and conntrack.
        ("bridge/bridge-nf-call-iptables", "0"),
    ]


def of_tun(names: Names) -> list[tuple[str, str]]:
    """What the TUN needs before it is set up."""
    tun = names.tun
    return [
        # Or the first packets read are router solicitations.
        (f"ipv6/conf/{tun}/disable_ipv6", "1"),
        (f"ipv4/conf/{tun}/rp_filter", "0"),
        # Reinjected packets have the node's own addresses as source,
        (f"ipv4/conf/{tun}/accept_local", "1"),
        # and 127.0.0.1 as destination.
        (f"ipv4/conf/{tun}/route_localnet", "1"),
        (f"ipv4/conf/{tun}/send_redirects", "0"),
        # Without a daemon the TUN has no carrier: its routes then stop matching.
        (f"ipv4/conf/{tun}/ignore_routes_with_linkdown", "1"),
    ]


def of_links(names: Names) -> list[tuple[str, str]]:
    """What the uplink and the bridge need.  ``all`` alone does not stop redirects."""
    bridge = names.bridge
    return [
        (f"ipv4/conf/{names.uplink}/rp_filter", "0"),
        (f"ipv4/conf/{names.uplink}/send_redirects", "0"),
        (f"ipv4/conf/{bridge}/rp_filter", "0"),
        (f"ipv4/conf/{bridge}/send_redirects", "0"),
        # Pods of one bridge are isolated from each other: the node answers for all of them,
        # so that their packets pass through it,
        (f"ipv4/conf/{bridge}/proxy_arp", "1"),
        (f"ipv4/conf/{bridge}/proxy_arp_pvlan", "1"),
        # and at once, not after up to 0.8 s; so does it for virtual addresses of the underlay.
        (f"ipv4/neigh/{bridge}/proxy_delay", "0"),
        (f"ipv4/neigh/{names.uplink}/proxy_delay", "0"),
    ]


_OPTIONAL = ("bridge/", "ipv6/", "netfilter/nf_conntrack_sctp_")
"""Present only with the module; without it there is nothing to switch off, or to wait for."""


def apply(settings: list[tuple[str, str]], record: Record, root: Path = _ROOT) -> list[str]:
    """Set what differs, noting in ``record`` what was there before; gives the changes.

    Raises `NodeError` for a sysctl that is missing or may not be written.
    """
    changes = []
    for name, value in settings:
        path = root / name
        try:
            before = " ".join(path.read_text().split())
            if before == value:
                continue
            path.write_text(value)
        except FileNotFoundError:
            if name.startswith(_OPTIONAL):
                continue
            raise NodeError(f"sysctl net/{name} is not there") from None
        except OSError as error:
            raise NodeError(
                f"sysctl net/{name} cannot be set to {value!r}: {error.strerror}"
            ) from None
        record.sysctls.setdefault(name, before)
        changes.append(f"set net/{name} to {value}, was {before}")
    return changes


def clean(record: Record, root: Path = _ROOT) -> list[str]:
    """Put back what was there before, where the interface still is; gives the changes."""
    changes = []
    for name, before in record.sysctls.items():
        path = root / name
        with contextlib.suppress(OSError):
            if " ".join(path.read_text().split()) != before:
                path.write_text(before)
                changes.append(f"set net/{name} back to {before}")
    record.sysctls.clear()
    return changes
