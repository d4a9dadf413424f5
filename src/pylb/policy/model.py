"""What the user asked for, as frozen values.

These are the parts of Kubernetes objects that pylb acts on, and nothing else:
no I/O, no clock, no node's point of view.  `pylb.policy.manifests` reads them
from YAML, `pylb.plan.compile` turns them into what one node must do.

Field names are Kubernetes' own in snake_case.  Addresses are
:class:`ipaddress.IPv4Address`; ports are plain integers, 1 to 65535 inclusive;
durations are seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

SERVICE_CIDR = IPv4Network("10.96.0.0/12")
"""Where cluster IPs come from unless the Lab document says otherwise."""

ZONE = "topology.kubernetes.io/zone"
"""The label that says which zone a Node is in."""

Key = tuple[str, str]
"""(namespace, name) of a namespaced object."""


class Protocol(enum.Enum):
    """A port's transport protocol; the value is Kubernetes' spelling."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"

    @property
    def number(self) -> int:
        """The IANA protocol number."""
        return _PROTOCOL_NUMBERS[self.value]


_PROTOCOL_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}


class ServiceType(enum.Enum):
    """``spec.type`` of a Service; the value is Kubernetes' spelling."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    EXTERNAL_NAME = "ExternalName"


class TrafficPolicy(enum.Enum):
    """``externalTrafficPolicy`` and ``internalTrafficPolicy``."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class TrafficDistribution(enum.Enum):
    """``spec.trafficDistribution``: whose endpoints a node prefers.

    PreferClose is the older name of PreferSameZone (KEP-3015).
    """

    ANY = ""
    SAME_ZONE = "PreferSameZone"
    SAME_NODE = "PreferSameNode"


class Overlay(enum.Enum):
    """How a packet reaches a pod of another node; the value is the flag's word."""

    VXLAN = "vxlan"
    UDP = "udp"
    HOST_GW = "host-gw"

    @property
    def overhead(self) -> int:
        """Bytes that encapsulation adds to an IP packet.

        VXLAN over IPv4 is 20 (IP) + 8 (UDP) + 8 (VXLAN) + 14 (inner Ethernet),
        RFC 7348 section 5; flannel-UDP is 20 + 8; host-gw adds nothing.
        """
        return _OVERHEAD[self.value]

    @property
    def port(self) -> int:
        """UDP destination port: Linux's 8472 for VXLAN, flannel's 8285, 0 for none."""
        return _OVERLAY_PORT[self.value]


_OVERHEAD = {"vxlan": 50, "udp": 28, "host-gw": 0}
_OVERLAY_PORT = {"vxlan": 8472, "udp": 8285, "host-gw": 0}


@dataclass(frozen=True, slots=True)
class Node:
    """A v1 Node.

    ``vtep_mac`` is six bytes: 02:50 followed by the InternalIP, or what flannel's
    ``flannel.alpha.coreos.com/backend-data`` annotation names.
    """

    name: str
    internal_ip: IPv4Address
    pod_cidr: IPv4Network
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    vtep_mac: bytes = b""

    @property
    def zone(self) -> str:
        """The zone that its label says it is in, "" for none."""
        return self.labels.get(ZONE, "")

    @property
    def bridge_ip(self) -> IPv4Address:
        """The address of the node's pod bridge: .1 of the podCIDR."""
        return self.pod_cidr.network_address + 1

    @property
    def tunnel_ip(self) -> IPv4Address:
        """The SNAT address that the daemon owns (DESIGN's ``D``): .0 of the podCIDR."""
        return self.pod_cidr.network_address


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A port that a container declares; ``name`` is "" when it has none."""

    port: int
    protocol: Protocol = Protocol.TCP
    name: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a Pod: what is run and which ports it declares."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[ContainerPort, ...] = ()
    working_dir: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A v1 Pod bound to a node, its address given or assigned.

    ``ready`` is what ``status.conditions`` says of Ready, or None when the
    manifest says nothing and the lab is to find out.  ``terminating`` is true
    when ``metadata.deletionTimestamp`` is set.
    """

    namespace: str
    name: str
    node: str
    ip: IPv4Address
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()
    ready: bool | None = None
    terminating: bool = False
    hostname: str = ""

    @property
    def key(self) -> Key:
        """(namespace, name)."""
        return (self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service.

    ``target_port`` is a number or the name of a container port; ``node_port`` is
    0 when the Service has none.
    """

    port: int
    protocol: Protocol = Protocol.TCP
    name: str = ""
    target_port: int | str = 0
    node_port: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A v1 Service with its addresses given or allocated.

    ``cluster_ip`` is None for a headless Service.  ``selector`` is None when the
    endpoints come from Endpoints or EndpointSlice objects of the user.
    ``load_balancer_ips`` are those that the field ``load_balancer_at`` gave, or the
    one from a pool, which no field gave; ``source_ranges`` are whom they answer, ()
    for everyone.  ``affinity`` is ClientIP's timeout in
    seconds, 0 for no affinity.  ``health_check_node_port`` is 0 where there is
    none: only a LoadBalancer with policy Local has one.
    """

    namespace: str
    name: str
    type: ServiceType = ServiceType.CLUSTER_IP
    cluster_ip: IPv4Address | None = None
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    external_traffic_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    scheduler: str = ""
    internal_traffic_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    affinity: int = 0
    load_balancer_ips: tuple[IPv4Address, ...] = ()
    load_balancer_at: str = field(default="", compare=False)
    external_ips: tuple[IPv4Address, ...] = ()
    source_ranges: tuple[IPv4Network, ...] = ()
    allocates_node_ports: bool = True
    health_check_node_port: int = 0
    publish_not_ready: bool = False
    traffic_distribution: TrafficDistribution = TrafficDistribution.ANY

    @property
    def key(self) -> Key:
        """(namespace, name)."""
        return (self.namespace, self.name)

    @property
    def has_node_ports(self) -> bool:
        """Its type is one whose ports may be node ports too."""
        return self.type in (ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER)

    @property
    def has_health_check(self) -> bool:
        """It has a health check port: a load balancer asks there which nodes have endpoints."""
        local = self.external_traffic_policy is TrafficPolicy.LOCAL
        return self.type is ServiceType.LOAD_BALANCER and local

    @property
    def reached_from_outside(self) -> tuple[IPv4Address, ...]:
        """The virtual addresses that are announced outside the cluster."""
        return (*self.load_balancer_ips, *self.external_ips)


@dataclass(frozen=True, slots=True)
class EndpointPort:
    """A port of an EndpointSlice; ``name`` pairs it with the Service's port."""

    port: int
    protocol: Protocol = Protocol.TCP
    name: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address behind a Service and its conditions.

    ``pod`` is known when one of the policy has the address; ``node`` is that pod's, or
    what the slice says.
    ``for_zones`` and ``for_nodes`` are hints: whose nodes are to use it, () for
    no hint.  ``weight`` is for the schedulers that weigh; 0 takes no new flows.
    """

    address: IPv4Address
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""
    pod: Key | None = None
    for_zones: tuple[str, ...] = ()
    for_nodes: tuple[str, ...] = ()
    weight: int = 1

    def is_on(self, node: Node) -> bool:
        """Whether ``node`` has it: by its name, or without one by its podCIDR."""
        return self.node == node.name if self.node else self.address in node.pod_cidr


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """A discovery.k8s.io/v1 EndpointSlice: endpoints that share their ports.

    v1 Endpoints subsets become one slice each.  ``service`` is the name in the
    same namespace.  A slice that pylb computed from a selector has
    ``computed`` set; those never shadow the user's.
    """

    namespace: str
    name: str
    service: str
    ports: tuple[EndpointPort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    computed: bool = False

    @property
    def service_key(self) -> Key:
        """(namespace, name) of the Service."""
        return (self.namespace, self.service)


@dataclass(frozen=True, slots=True)
class LocalRedirect:
    """A cilium.io/v2 CiliumLocalRedirectPolicy: packets that stay on their node.

    What is redirected is ``address`` (addressMatcher) or the cluster IP of
    ``service`` (serviceMatcher), one of them None, at ``ports``; () means all of
    the Service's.  ``targets`` are the backends' ports, paired with ``ports`` by
    name, or with the only one.  ``endpoints`` are all pods that are selected, of
    any node; a node redirects to its own ready ones.  ``skips_backends``: what
    those pods themselves send is not redirected.
    """

    namespace: str
    name: str
    address: IPv4Address | None = None
    service: Key | None = None
    ports: tuple[EndpointPort, ...] = ()
    targets: tuple[EndpointPort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    skips_backends: bool = False

    @property
    def key(self) -> Key:
        """(namespace, name)."""
        return (self.namespace, self.name)

    def target(self, port: EndpointPort, *, alone: bool) -> EndpointPort | None:
        """The backends' port for one that is redirected; None where there is none.

        ``alone``: no other port is redirected, so that names are not needed.
        """
        if alone and len(self.targets) == 1:
            (only,) = self.targets
            return only if only.protocol is port.protocol else None
        return next(
            (t for t in self.targets if (t.name, t.protocol) == (port.name, port.protocol)), None
        )


@dataclass(frozen=True, slots=True)
class OutsideHost:
    """A host behind the lab's router, outside the cluster.

    ``containers`` are run there as a pod's are; without any it is a bare
    namespace.
    """

    name: str
    ip: IPv4Address
    containers: tuple[Container, ...] = ()


@dataclass(frozen=True, slots=True)
class LabSpec:
    """The ``kind: Lab`` document: what Kubernetes has no object for.

    ``underlay`` holds every InternalIP, the client and the router.  ``mtu`` is
    the underlay's; pods get it less the overlay's overhead.  ``address_pools`` are
    names with ranges as they were written.  ``maglev_size`` is the number of slots
    of a Maglev table, a prime.
    """

    underlay: IPv4Network
    router_ip: IPv4Address
    client_ip: IPv4Address
    mtu: int = 1500
    overlay: Overlay = Overlay.VXLAN
    overlay_port: int = 0
    service_cidr: IPv4Network = SERVICE_CIDR
    scheduler: str = "random"
    masquerade: bool = True
    outside: tuple[OutsideHost, ...] = ()
    address_pools: tuple[tuple[str, tuple[str, ...]], ...] = ()
    maglev_size: int = 65537

    @property
    def udp_port(self) -> int:
        """The overlay's UDP port: the given one or the overlay's own."""
        return self.overlay_port or self.overlay.port


@dataclass(frozen=True, slots=True)
class Policy:
    """Every object of a cluster, checked against each other.

    ``slices`` maps a Service's key to its EndpointSlices, the user's and the
    computed ones, ordered by name: `pylb.policy.build` fills it, and the plan
    reads endpoints from nowhere else.  ``takers`` are the nodes that may take
    packets to a Service's addresses outside the cluster, for the Services that
    have such.  ``redirects`` are the policies of addresses by their own key,
    ``redirected`` those of Services by the Service's.
    """

    lab: LabSpec
    nodes: Mapping[str, Node] = field(default_factory=dict)
    pods: Mapping[Key, Pod] = field(default_factory=dict)
    services: Mapping[Key, Service] = field(default_factory=dict)
    slices: Mapping[Key, tuple[EndpointSlice, ...]] = field(default_factory=dict)
    takers: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    redirects: Mapping[Key, LocalRedirect] = field(default_factory=dict)
    redirected: Mapping[Key, LocalRedirect] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """What became different on the way to ``policy``.

    ``services`` names every Service whose spec, endpoints, takers or redirection
    may differ, also for the sake of a pod that it selects; ``redirects`` the
    policies that redirect addresses.  The sets also name what was removed.
    ``lab`` is true when the Lab document differs.
    """

    policy: Policy
    nodes: frozenset[str] = frozenset()
    pods: frozenset[Key] = frozenset()
    services: frozenset[Key] = frozenset()
    lab: bool = False
    redirects: frozenset[Key] = frozenset()
