"""What the kernel's rulesets say by names and numbers of their own."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from typing import NamedTuple

from pylb.dataplane.base import DropReason
from pylb.plan.tables import Backend, Frontend, FrontendKind, Plan, PlanError
from pylb.plan.virtual import is_virtual, machines

TABLE = "pylb"
"""The nftables table of family ip that holds everything."""

KERNELS = ("kernel", "kernel-notrack", "kernel-iptables")
"""The kernel's variants: nftables; the same without tracking the outer VXLAN flows; iptables."""

COUNTED = (
    DropReason.NO_ENDPOINT,
    DropReason.NO_LOCAL_ENDPOINT,
    DropReason.SOURCE_RANGE,
    DropReason.NO_SUCH_FRONTEND,
    DropReason.UNALLOCATED_VIP,
    DropReason.NOT_FOR_THIS_NODE,
    DropReason.SPOOFED_INNER_SOURCE,
    DropReason.INVALID_STATE,
)
"""The drops that the nftables ruleset counts; the kernel makes others without a name."""

INVALID = "invalid"
"""The counter of packets that connection tracking calls INVALID and that are forwarded."""

OTHER_COUNTERS = (INVALID, "rejected")

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}


class Options(NamedTuple):
    """What a ruleset may do in more than one way.

    ``random_fully``: source ports are chosen at random also where the flow's own
    is free (kube-proxy's ``--random-fully``).  ``track_overlay``: the outer VXLAN
    flows are tracked too, as the kernel does when nobody says otherwise.
    """

    random_fully: bool = False
    track_overlay: bool = True


def overlay_device(plan: Plan) -> str:
    """The kernel's VXLAN device: named by its VNI, as flannel's ``flannel.1`` is."""
    return f"pylb.{plan.overlay.vni}"


def check_overlay(kind: str) -> None:
    """Raise `PlanError` for an overlay that the kernel has no device for."""
    if kind == "udp":
        raise PlanError(
            "overlay udp: the kernel has no device for flannel's UDP overlay; "
            "expected vxlan or host-gw with the kernel dataplane"
        )


def quad(address: int) -> str:
    """An address as a dotted quad."""
    return str(IPv4Address(address))


def protocol(number: int) -> str:
    """A protocol as both tools write it: its name, or its number where they know none."""
    return _PROTOCOLS.get(number, str(number))


def chosen(frontend: Frontend, indices: Iterable[int]) -> list[Backend]:
    """The backends that ``frontend.active`` or ``frontend.other`` names, in order."""
    return [frontend.backends[index] for index in indices]


def keeps_pods_source(frontend: Frontend) -> bool:
    """True for a frontend whose backends see the addresses of the pods that ask."""
    return frontend.kind in (FrontendKind.CLUSTER_IP, FrontendKind.LOCAL_REDIRECT)


def masquerades_all(frontend: Frontend) -> bool:
    """True for a frontend whose backends never see who asked: NodePort with policy Cluster."""
    return not keeps_pods_source(frontend) and not frontend.local_only


def allowed(frontend: Frontend) -> list[str]:
    """The prefixes of whom a frontend serves, none inside another; [] for everyone."""
    networks = [IPv4Network((prefix.address, prefix.length)) for prefix in frontend.sources]
    merged = [str(network) for network in collapse_addresses(networks)]
    return [] if merged == ["0.0.0.0/0"] else merged


def virtual(plan: Plan) -> set[int]:
    """The virtual addresses of a plan."""
    real = machines(plan)
    return {f.key.address for f in plan.frontends.values() if is_virtual(plan, f, real)}
