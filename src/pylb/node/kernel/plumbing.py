"""Node plumbing for the kernel dataplane: the bridge, the VXLAN device, routes, sysctls.

Less than the userspace dataplanes need: no TUN, and no rules, since packets are
translated where they pass anyway.  `apply` and `clean` keep the same promises as
`pylb.node.plumbing.Plumbing`'s.
"""

from __future__ import annotations

from pathlib import Path

from pyroute2 import IPRoute

from pylb.dataplane.kernel.names import overlay_device
from pylb.node.kernel import sysctls as kernel_sysctls
from pylb.node.kernel import vxlan
from pylb.node.plumbing import (
    links,
    neighbours,
    record,
    refuse_initial_namespace,
    routes,
    sysctls,
)
from pylb.node.plumbing import names as n
from pylb.node.plumbing.names import Names
from pylb.node.plumbing.routes import Route
from pylb.node.plumbing.session import session
from pylb.node.plumbing.targets import targets
from pylb.plan.tables import Plan

_UNICAST = 1


class KernelPlumbing:
    """The plumbing of one node, in the network namespace of the calling thread.

    ``record_path`` is where it writes down what it cannot mark in the kernel.
    """

    def __init__(self, names: Names, record_path: Path) -> None:
        self.names = names
        self._record_path = record_path

    @property
    def present(self) -> bool:
        """True when `apply` was called and not undone, by this process or one before it."""
        return record.load(self._record_path) != record.Record()

    def check(self, plan: Plan) -> None:
        """Raise `NodeError` for what `apply` would not find; changes nothing."""
        with IPRoute() as ipr:
            links.check_uplink(ipr, self.names.uplink, plan.node_ip)

    def apply(self, plan: Plan) -> list[str]:
        """Bring the namespace to what ``plan`` needs; gives each change in words.

        The rules must be loaded: they bring connection tracking, whose sysctls
        are set.  Raises `NodeError` with what is missing.
        """
        refuse_initial_namespace()
        names, device = self.names, overlay_device(plan)
        has_device = plan.overlay.kind == "vxlan"
        with session(self._record_path) as (ipr, notes):
            uplink = links.check_uplink(ipr, names.uplink, plan.node_ip)
            settings = kernel_sysctls.of_namespace()
            settings += kernel_sysctls.of_conntrack(plan.timeouts)
            changes = sysctls.apply(settings, notes)
            changes += links.set_up_bridge(ipr, names.bridge, plan)
            changes += _remove_devices(ipr, keep=device if has_device else "")
            if has_device:
                changes += vxlan.add_device(ipr, device, uplink, plan)
            changes += sysctls.apply(kernel_sysctls.of_links(plan, names, device), notes)
            if has_device:
                changes += vxlan.set_up(ipr, device, plan)
            bridge = links.index_of(ipr, names.bridge)
            through = links.index_of(ipr, device) if has_device else uplink
            changes += routes.apply(ipr, desired_routes(plan, bridge, through))
            changes += neighbours.apply(ipr, names.uplink, targets(plan).announced, notes)
        return changes

    def clean(self) -> list[str]:
        """Remove what `apply` made and put back what it changed; gives each change in words."""
        refuse_initial_namespace()
        with session(self._record_path) as (ipr, notes):
            changes = routes.clean(ipr)
            if links.find(ipr, self.names.uplink) is not None:
                changes += neighbours.clean(ipr, self.names.uplink, notes)
            changes += _remove_devices(ipr, keep="")
            changes += links.remove(ipr, self.names.bridge)
            changes += sysctls.clean(notes)
        self._record_path.unlink(missing_ok=True)
        return changes


def desired_routes(plan: Plan, bridge: int, through: int) -> list[Route]:
    """Every route that ``plan`` needs; ``through`` is the index of VXLAN device or uplink.

    Virtual addresses have a route only so that processes of the node can send to
    them, from the node's address: nothing that is still addressed to one leaves.
    """
    by_peer = plan.overlay.kind == "vxlan"
    made = [
        Route(n.TABLE_MAIN, prefix, _UNICAST, bridge, plan.node_ip) for prefix in targets(plan).vips
    ]
    for peer in sorted(plan.peers.values()):
        gateway = vxlan.tunnel_ip(peer) if by_peer else peer.address
        made.append(
            Route(n.TABLE_MAIN, peer.subnet, _UNICAST, through, plan.node_ip, gateway, by_peer)
        )
    return made


def _remove_devices(ipr: IPRoute, keep: str) -> list[str]:
    """Remove the VXLAN devices that plumbing made, but for the one called ``keep``."""
    changes = []
    for link in ipr.link("dump"):
        info, name = link.get_attr("IFLA_LINKINFO"), link.get_attr("IFLA_IFNAME")
        if info is not None and info.get_attr("IFLA_INFO_KIND") == "vxlan" and name != keep:
            changes += links.remove(ipr, name)
    return changes
