"""Sysctls that the kernel dataplane depends on, so that every machine gives the same verdicts.

A new network namespace takes some of these over from the machine (net/ipv4/conf),
others from module parameters (nf_conntrack_acct): whatever they are there, here
they are what the kernel has by default, or what routing between pods needs.
"""

from __future__ import annotations

from pylb.node.plumbing.names import Names
from pylb.plan.tables import Plan, Timeouts


def of_namespace() -> list[tuple[str, str]]:
    """What the whole namespace needs: (path under net/, value), in the order to be set."""
    return [
        ("ipv4/ip_forward", "1"),
        ("ipv4/ip_early_demux", "1"),
        # The ports above are for masquerading.
        ("ipv4/ip_local_port_range", "32768 60999"),
        ("ipv4/icmp_errors_use_inbound_ifaddr", "0"),
        # With 1, frames between ports of a bridge go through the rules twice.
        ("bridge/bridge-nf-call-iptables", "0"),
        *(_of_link("all")),
    ]


def of_links(plan: Plan, names: Names, vxlan: str) -> list[tuple[str, str]]:
    """What the uplink, the bridge and the VXLAN device (if the overlay has one) need."""
    links = [names.uplink, names.bridge]
    if plan.overlay.kind == "vxlan":
        # Before it is up, or it sends router solicitations to every peer.
        settings = [(f"ipv6/conf/{vxlan}/disable_ipv6", "1")]
        links.append(vxlan)
    else:
        settings = []
    for link in links:
        settings += _of_link(link)
        # A process of the node may ask 127.0.0.1:NodePort: its packets leave, and the answers
        # arrive, by these links.  The ruleset lets nobody else in.
        settings.append((f"ipv4/conf/{link}/route_localnet", "1"))
    return [
        *settings,
        # Pods of one bridge are isolated from each other: the node answers for all of them,
        # so that their packets pass through it,
        (f"ipv4/conf/{names.bridge}/proxy_arp", "1"),
        (f"ipv4/conf/{names.bridge}/proxy_arp_pvlan", "1"),
        # and at once, not after up to 0.8 s; so does it for virtual addresses of the underlay.
        (f"ipv4/neigh/{names.bridge}/proxy_delay", "0"),
        (f"ipv4/neigh/{names.uplink}/proxy_delay", "0"),
    ]


def _of_link(link: str) -> list[tuple[str, str]]:
    names = ("rp_filter", "send_redirects", "arp_ignore", "arp_announce", "arp_filter")
    return [(f"ipv4/conf/{link}/{name}", "0") for name in names]


def of_conntrack(timeouts: Timeouts) -> list[tuple[str, str]]:
    """Connection tracking with the plan's timeouts, otherwise as the kernel has it by default.

    To be set after the rules: they are what brings connection tracking up.
    """
    defaults = {
        "acct": 0,
        "timestamp": 0,
        "checksum": 1,
        "events": 2,
        "log_invalid": 0,
        "tcp_loose": 1,
        "tcp_be_liberal": 0,
        "tcp_ignore_invalid_rst": 0,
        "tcp_max_retrans": 3,
    }
    settings = [(f"netfilter/nf_conntrack_{name}", str(v)) for name, v in defaults.items()]
    for name in timeouts.__slots__:
        protocol, _, state = name.partition("_")
        path = f"netfilter/nf_conntrack_{protocol}_timeout{'_' if state else ''}{state}"
        settings.append((path, str(getattr(timeouts, name))))
    return settings
