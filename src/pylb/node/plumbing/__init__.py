"""Node plumbing: what makes every packet of Services and pods pass the daemon's TUN.

The recipe, room by room: `sysctls`, `links` (TUN, bridge, pod ports), `routes`
(the daemon's tables, guards), `rules` (what is captured), `tc` (UDP fragments),
`neighbours` (ARP for virtual addresses).  `apply` brings the current network
namespace to what a plan needs, changing only what differs; `clean` removes exactly
what was made.  When the daemon ends, the plumbing stays: without a carrier the
TUN's routes stop matching, so that pods of the node still meet and nothing leaves
untranslated.
"""

from __future__ import annotations

from pathlib import Path

from pylb.node.errors import NodeError
from pylb.node.plumbing import links, neighbours, record, routes, rules, sysctls, tc
from pylb.node.plumbing.links import attach_pod_port
from pylb.node.plumbing.names import Names
from pylb.node.plumbing.record import namespace_id
from pylb.node.plumbing.session import session
from pylb.node.plumbing.targets import affects, targets
from pylb.plan.tables import Plan

__all__ = ["Names", "Plumbing", "affects", "attach_pod_port", "refuse_initial_namespace"]

_OF_PROCESS_1 = Path("/proc/1/ns/net")
_ONLY_INITIAL = Path("/proc/sys/net/core/netdev_budget")


def refuse_initial_namespace() -> None:
    """Raise `NodeError` in the machine's own network namespace, that of process 1."""
    try:
        status = _OF_PROCESS_1.stat()
        initial = namespace_id() == f"{status.st_dev}:{status.st_ino}"
    except OSError:
        # Process 1 may be out of reach, also for root.  net/core/sysctl_net_core.c
        # registers this one for the initial namespace only.
        initial = _ONLY_INITIAL.exists()
    if initial:
        raise NodeError(
            "this is the machine's own network namespace, whose routing pylb leaves alone; "
            "run the daemon in a namespace of its own: ip netns exec NAME pylb daemon ..."
        )


class Plumbing:
    """The plumbing of one node, in the network namespace of the calling thread.

    ``record_path`` is where it writes down what it cannot mark in the kernel.
    The methods block (some 20 ms); pyroute2 runs an event loop of its own
    inside, so a thread that is running one already must call them in another.
    """

    def __init__(self, names: Names, record_path: Path) -> None:
        self.names = names
        self._record_path = record_path

    @property
    def present(self) -> bool:
        """True when `apply` was called and not undone, by this process or one before it."""
        return record.load(self._record_path) != record.Record()

    def apply(self, plan: Plan) -> list[str]:
        """Bring the namespace to what ``plan`` needs; gives each change in words.

        The TUN must be there (`pylb.node.tun`).  Raises `NodeError` with what is
        missing; what was done until then stays, and is recorded.
        """
        refuse_initial_namespace()
        names = self.names
        with session(self._record_path) as (ipr, notes):
            uplink = links.check_uplink(ipr, names.uplink, plan.node_ip)
            tun = links.index_of(ipr, names.tun)
            changes = sysctls.apply([*sysctls.of_namespace(), *sysctls.of_tun(names)], notes)
            changes += links.set_up_tun(ipr, names.tun, plan.overlay.mtu)
            changes += links.set_up_bridge(ipr, names.bridge, plan)
            changes += sysctls.apply(sysctls.of_links(names), notes)
            wanted = targets(plan)
            changes += routes.apply(ipr, routes.desired(plan, wanted, tun, uplink))
            changes += rules.apply(ipr, rules.desired(plan, names, wanted))
            changes += tc.apply(ipr, names.uplink, uplink, tun, plan.node_ip, notes)
            changes += neighbours.apply(ipr, names.uplink, wanted.announced, notes)
        return changes

    def clean(self) -> list[str]:
        """Remove what `apply` made and put back what it changed; gives each change in words."""
        refuse_initial_namespace()
        names = self.names
        with session(self._record_path) as (ipr, notes):
            changes = rules.clean(ipr)
            changes += routes.clean(ipr)
            if (uplink := links.find(ipr, names.uplink)) is not None:
                changes += neighbours.clean(ipr, names.uplink, notes)
                changes += tc.clean(ipr, names.uplink, uplink["index"], notes)
            changes += links.remove(ipr, names.tun)
            changes += links.remove(ipr, names.bridge)
            changes += sysctls.clean(notes)
        self._record_path.unlink(missing_ok=True)
        return changes
