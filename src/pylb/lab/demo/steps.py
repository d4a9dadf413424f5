"""What the demo does, step by step: a table of who asks whom and what must come of it.

The expectations are what Kubernetes documents ("Using Source IP") and, where it
leaves the address to the implementation, DESIGN's table of sources, which is what
people find in their servers' logs.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from pylb.policy.model import Overlay, Policy


class Evidence(enum.Enum):
    """Where the demo learns which source address the server saw."""

    ECHO = "the echoserver's answer"
    ACCESS_LOG = "the web server's access log"
    DNS_LOG = "the DNS server's query log"
    CONNTRACK = "the reply tuple of the node's conntrack entry"


@dataclass(frozen=True, slots=True)
class Step:
    """One request.

    ``where`` is the place that asks; ``node`` the node whose conntrack tells of it
    and ``flow`` the query that finds the entry.  ``seen_by`` is the place whose log
    is read, ``backend`` the pod that must have answered ("" for any).
    ``encapsulated``: the packet must have left ``node`` through the overlay, or
    must not; None where either is right.
    """

    title: str
    where: str
    command: tuple[str, ...]
    evidence: Evidence
    source: IPv4Address
    why: str
    node: str
    flow: Mapping[str, str]
    backend: str = ""
    seen_by: str = ""
    encapsulated: bool | None = None
    token: str = field(default="")


KEPT = "Kubernetes: within the cluster, a ClusterIP never changes the source"
HAIRPIN = "a pod that is its own backend would answer itself: the source is the tunnel end"
LOCAL = "Kubernetes: a NodePort masquerades; the backend is here, so it sees the node's address"
REMOTE = "Kubernetes: a NodePort masquerades; the backend is elsewhere, so it sees the tunnel end"
HOST = "a process of the node is masqueraded, so that the answer comes back through the node"
OVERLAY = "Kubernetes' network model: pods reach pods without NAT"
OUTSIDE = "Kubernetes: what leaves the cluster is masqueraded to the node's address"


def steps(policy: Policy) -> list[Step]:
    """The demo's steps for its cluster."""
    pod = {key[1]: p.ip for key, p in policy.pods.items()}
    web, solo, dns = (policy.services[("default", name)] for name in ("web", "solo", "dns"))
    node1, node2 = policy.nodes["node1"], policy.nodes["node2"]
    node_port = solo.ports[0].node_port
    internet = policy.lab.outside[0]
    client = policy.lab.client_ip

    def curl(url: str, agent: str = "") -> tuple[str, ...]:
        extra = ("-A", agent) if agent else ()
        return ("curl", "-sS", "--max-time", "5", *extra, url)

    def flow(src: object, dst: object, **more: object) -> dict[str, str]:
        return {"src": str(src), "dst": str(dst), **{k: str(v) for k, v in more.items()}}

    at_web = f"http://{web.cluster_ip}/"
    name = "demo.pylb.example"
    made = [
        Step(
            "pod to ClusterIP, same node",
            "client-1",
            curl(at_web),
            Evidence.ECHO,
            pod["client-1"],
            KEPT,
            "node1",
            flow(pod["client-1"], web.cluster_ip, replySrc=pod["web-1"]),
            backend="web-1",
            encapsulated=False,
        ),
        Step(
            "pod to ClusterIP, other node",
            "client-1",
            curl(at_web),
            Evidence.ECHO,
            pod["client-1"],
            KEPT,
            "node1",
            flow(pod["client-1"], web.cluster_ip, replySrc=pod["web-2"]),
            backend="web-2",
            encapsulated=True,
        ),
        Step(
            "pod to itself by its Service",
            "solo",
            curl(f"http://{solo.cluster_ip}/"),
            Evidence.ECHO,
            node2.tunnel_ip,
            HAIRPIN,
            "node2",
            flow(pod["solo"], solo.cluster_ip),
            backend="solo",
            encapsulated=False,
        ),
        Step(
            "outside to NodePort, endpoint here",
            "client",
            curl(f"http://{node2.internal_ip}:{node_port}/"),
            Evidence.ECHO,
            node2.internal_ip,
            LOCAL,
            "node2",
            flow(client, node2.internal_ip, dport=node_port),
            backend="solo",
            encapsulated=False,
        ),
        Step(
            "outside to NodePort, endpoint elsewhere",
            "client",
            curl(f"http://{node1.internal_ip}:{node_port}/"),
            Evidence.ECHO,
            node1.tunnel_ip,
            REMOTE,
            "node1",
            flow(client, node1.internal_ip, dport=node_port),
            backend="solo",
            encapsulated=True,
        ),
        Step(
            "host process to ClusterIP",
            "node1",
            curl(at_web),
            Evidence.ECHO,
            node1.tunnel_ip,
            HOST,
            "node1",
            flow(node1.internal_ip, web.cluster_ip),
        ),
        Step(
            "host process to NodePort on 127.0.0.1",
            "node1",
            curl(f"http://127.0.0.1:{node_port}/"),
            Evidence.ECHO,
            node1.tunnel_ip,
            HOST,
            "node1",
            flow("127.0.0.1", "127.0.0.1", dport=node_port),
            backend="solo",
            encapsulated=True,
        ),
        Step(
            "pod to pod over the overlay",
            "client-1",
            curl(f"http://{pod['web-2']}:8080/"),
            Evidence.ECHO,
            pod["client-1"],
            OVERLAY,
            "node1",
            flow(pod["client-1"], pod["web-2"]),
            backend="web-2",
            encapsulated=True,
        ),
        Step(
            "pod to an outside web server",
            "client-1",
            curl(f"http://{internet.ip}/", agent="pylb-demo"),
            Evidence.ACCESS_LOG,
            node1.internal_ip,
            OUTSIDE,
            "node1",
            flow(pod["client-1"], internet.ip, protocol=6),
            seen_by=internet.name,
            encapsulated=False,
            token="pylb-demo",
        ),
        Step(
            "DNS over UDP (dig, dnsmasq)",
            "client-1",
            ("dig", "+short", "+tries=1", "+time=5", f"@{dns.cluster_ip}", name),
            Evidence.DNS_LOG,
            pod["client-1"],
            KEPT,
            "node1",
            flow(pod["client-1"], dns.cluster_ip, protocol=17),
            seen_by="dns",
            encapsulated=True,
            token=f"query[A] {name} from ",
        ),
        Step(
            "ping through masquerade",
            "client-1",
            ("ping", "-c", "1", "-W", "5", str(internet.ip)),
            Evidence.CONNTRACK,
            node1.internal_ip,
            OUTSIDE,
            "node1",
            flow(pod["client-1"], internet.ip, protocol=1),
            encapsulated=False,
        ),
    ]
    if policy.lab.overlay is Overlay.HOST_GW:
        # Nodes are each other's gateways: nothing is ever wrapped.
        return [replace(step, encapsulated=False) for step in made]
    return made
