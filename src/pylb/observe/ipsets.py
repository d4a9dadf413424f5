"""What kube-proxy's ipsets would hold on a node in IPVS mode, as ipset(8) lists it.

Which service is in which set is kubernetes' pkg/proxy/ipvs/proxier.go; the sets
and their types are ipset.go there.  They are worked out from a plan as JSON
(`Plan.to_json`); there is no such set in the kernel, so that the memory and the
references that a listing tells of are 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

LOOP_BACK = "KUBE-LOOP-BACK"
CLUSTER_IP = "KUBE-CLUSTER-IP"
EXTERNAL_IP = "KUBE-EXTERNAL-IP"
EXTERNAL_IP_LOCAL = "KUBE-EXTERNAL-IP-LOCAL"
LOAD_BALANCER = "KUBE-LOAD-BALANCER"
LOAD_BALANCER_LOCAL = "KUBE-LOAD-BALANCER-LOCAL"
LOAD_BALANCER_FW = "KUBE-LOAD-BALANCER-FW"
LOAD_BALANCER_SOURCE_IP = "KUBE-LOAD-BALANCER-SOURCE-IP"
LOAD_BALANCER_SOURCE_CIDR = "KUBE-LOAD-BALANCER-SOURCE-CIDR"
NODE_PORT_SCTP = "KUBE-NODE-PORT-SCTP-HASH"
NODE_PORT_LOCAL_SCTP = "KUBE-NODE-PORT-LOCAL-SCTP-HASH"
HEALTH_CHECK = "KUBE-HEALTH-CHECK-NODE-PORT"
IPVS_IPS = "KUBE-IPVS-IPS"

TYPES: Mapping[str, str] = {
    LOOP_BACK: "hash:ip,port,ip",
    CLUSTER_IP: "hash:ip,port",
    EXTERNAL_IP: "hash:ip,port",
    EXTERNAL_IP_LOCAL: "hash:ip,port",
    LOAD_BALANCER: "hash:ip,port",
    LOAD_BALANCER_LOCAL: "hash:ip,port",
    LOAD_BALANCER_FW: "hash:ip,port",
    LOAD_BALANCER_SOURCE_IP: "hash:ip,port,ip",
    LOAD_BALANCER_SOURCE_CIDR: "hash:ip,port,net",
    "KUBE-NODE-PORT-TCP": "bitmap:port",
    "KUBE-NODE-PORT-LOCAL-TCP": "bitmap:port",
    "KUBE-NODE-PORT-UDP": "bitmap:port",
    "KUBE-NODE-PORT-LOCAL-UDP": "bitmap:port",
    NODE_PORT_SCTP: "hash:ip,port",
    NODE_PORT_LOCAL_SCTP: "hash:ip,port",
    HEALTH_CHECK: "bitmap:port",
    IPVS_IPS: "hash:ip",
}
"""Every set by name, in kube-proxy's order."""

_REVISIONS = {
    "hash:ip": 5,
    "hash:ip,port": 6,
    "hash:ip,port,ip": 6,
    "hash:ip,port,net": 8,
    "bitmap:port": 3,
}
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}


@dataclass(slots=True)
class IPSet:
    """A set and its members, each in ipset's spelling."""

    name: str
    type: str
    members: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"name": self.name, "type": self.type, "members": self.members}


def ipsets(plan: Mapping[str, Any], services: Iterable[Mapping[str, Any]] = ()) -> list[IPSet]:
    """The sets of a node.

    ``services`` are the cluster's Service objects: they alone say which health
    check ports there are, and which source ranges.
    """
    specs = {_key(each): each.get("spec") or {} for each in services}
    members: dict[str, set[str]] = {name: set() for name in TYPES}
    for frontend in plan["frontends"]:
        service = frontend["service"].partition(":")[0]
        for name, member in _of_frontend(plan, frontend, specs.get(service, {})):
            members[name].add(member)
        if frontend["kind"] == "LOCAL_REDIRECT":
            continue  # its backends are Cilium's, of which kube-proxy knows nothing
        for backend in frontend["backends"]:
            if backend.get("local"):
                at = _socket(backend["address"], frontend["protocol"], backend["port"])
                members[LOOP_BACK].add(f"{at},{backend['address']}")
    for spec in specs.values():
        if port := spec.get("healthCheckNodePort"):
            members[HEALTH_CHECK].add(str(port))
    return [IPSet(name, kind, sorted(members[name], key=_order)) for name, kind in TYPES.items()]


def _of_frontend(
    plan: Mapping[str, Any], frontend: Mapping[str, Any], spec: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """The sets that a frontend is in, and as what."""
    address, local = frontend["address"], bool(frontend.get("localOnly"))
    at = _socket(address, frontend["protocol"], frontend["port"])
    match frontend["kind"]:
        case "CLUSTER_IP":
            yield CLUSTER_IP, at
        case "EXTERNAL_IP":
            yield EXTERNAL_IP_LOCAL if local else EXTERNAL_IP, at
        case "LOAD_BALANCER":
            yield LOAD_BALANCER, at
            if local:
                yield LOAD_BALANCER_LOCAL, at
            ranges = frontend.get("sources") or spec.get("loadBalancerSourceRanges")
            yield from _source_ranges(plan, at, address, ranges)
        case "NODE_PORT":
            yield from _node_port(plan, frontend, at, local)
            return
        case "LOCAL_REDIRECT":
            # The redirected address of a Service is its cluster IP all the same.
            if IPv4Address(address) not in IPv4Network(plan["serviceCIDR"]):
                return
            yield CLUSTER_IP, at
    if address != plan["nodeIP"]:
        yield IPVS_IPS, address


def _node_port(
    plan: Mapping[str, Any], frontend: Mapping[str, Any], at: str, local: bool
) -> Iterator[tuple[str, str]]:
    protocol = _PROTOCOLS.get(frontend["protocol"], "")
    if protocol == "sctp":
        if frontend["address"] == plan["nodeIP"]:
            yield NODE_PORT_SCTP, at
            if local:
                yield NODE_PORT_LOCAL_SCTP, at
    elif protocol:
        yield f"KUBE-NODE-PORT-{protocol.upper()}", str(frontend["port"])
        if local:
            yield f"KUBE-NODE-PORT-LOCAL-{protocol.upper()}", str(frontend["port"])


def _source_ranges(
    plan: Mapping[str, Any], at: str, address: str, ranges: Any
) -> Iterator[tuple[str, str]]:
    """The firewall's sets of a LoadBalancer that only some may ask."""
    if not ranges:
        return
    yield LOAD_BALANCER_FW, at
    for each in ranges:
        network = IPv4Network(each.strip(), strict=False)
        # ipset keeps no host bits, and lists a single address without its length.
        listed = network.network_address if network.prefixlen == 32 else network
        yield LOAD_BALANCER_SOURCE_CIDR, f"{at},{listed}"
        if IPv4Address(plan["nodeIP"]) in network:
            # What the node itself sends to the address has that as its source.
            yield LOAD_BALANCER_SOURCE_IP, f"{at},{address}"


def _socket(address: str, protocol: int, port: int) -> str:
    return f"{address},{_PROTOCOLS.get(protocol, protocol)}:{port}"


def _key(service: Mapping[str, Any]) -> str:
    metadata = service.get("metadata") or {}
    return f"{metadata.get('namespace', 'default')}/{metadata.get('name', '')}"


def _order(member: str) -> tuple[int, str, int, str]:
    """By address, protocol and port: the kernel's own order is that of hashes."""
    first, _, rest = member.partition(",")
    socket, _, more = rest.partition(",")
    protocol, _, port = socket.partition(":")
    number = int(first) if first.isdigit() else int(IPv4Address(first))
    return number, protocol, int(port or 0), more


def listing(sets: Iterable[IPSet], *, terse: bool = False) -> str:
    """``ipset list``; ``terse`` leaves the members out."""
    return "\n\n".join(_block(each, terse) for each in sets)


def _block(each: IPSet, terse: bool) -> str:
    family = "family inet hashsize 1024 maxelem 65536"
    header = "range 0-65535" if each.type == "bitmap:port" else family
    lines = [
        f"Name: {each.name}",
        f"Type: {each.type}",
        f"Revision: {_REVISIONS[each.type]}",
        f"Header: {header}",
        "Size in memory: 0",
        "References: 0",
        f"Number of entries: {len(each.members)}",
    ]
    return "\n".join(lines if terse else [*lines, "Members:", *each.members])
