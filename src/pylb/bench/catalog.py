"""What is measured: metrics with their units, the paths that packets take, the parts of a run."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE = 0.15
"""How far from the median a stable figure may be, as a part of it."""
PACKET_TOLERANCE = 0.25
"""The same for packets a second, which depend on how batches happen to fall."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity: ``more_is_better`` says which way is up."""

    name: str
    title: str
    unit: str
    more_is_better: bool
    tolerance: float = TOLERANCE


@dataclass(frozen=True, slots=True)
class Path:
    """A way through the lab."""

    name: str
    title: str


METRICS = {
    metric.name: metric
    for metric in (
        Metric("tcp", "TCP, 1 stream", "Gb/s", True),
        Metric("cpu", "CPU, 1 stream, both nodes, sender and receiver", "CPU s/GB", False),
        Metric("tcp4", "TCP, 4 streams", "Gb/s", True),
        Metric("packets", "UDP, 1 flow, overload", "packets/s", True, PACKET_TOLERANCE),
        Metric("packets-many", "UDP, 1 000 flows, overload", "packets/s", True, PACKET_TOLERANCE),
        Metric(
            "packets-lossless",
            "UDP, 1 flow, highest rate with < 1 % lost",
            "packets/s",
            True,
            PACKET_TOLERANCE,
        ),
        Metric("connections", "new TCP connections", "connections/s", True),
        Metric("udp-p50", "UDP round trip, median", "µs", False),
        Metric("udp-p99", "UDP round trip, 99th percentile", "µs", False),
        Metric("tcp-p50", "TCP round trip, median", "µs", False),
        Metric("tcp-p99", "TCP round trip, 99th percentile", "µs", False),
        Metric("services", "new TCP connections over all Services", "connections/s", True),
        Metric("load", "a node loads 10 000 Services x 3 endpoints", "s", False),
        Metric("change", "a node changes 1 endpoint among 30 000", "s", False),
        Metric("apply", "a lab of two nodes applies 10 000 Services x 3 endpoints", "s", False),
        Metric("apply-change", "a lab of two nodes applies 1 endpoint among 30 000", "s", False),
        Metric("memory", "memory for a tracked flow", "bytes", False),
        Metric("tcp-intact", "TCP bytes that arrive as they were sent", "%", True),
        Metric(
            "udp-intact", "UDP datagrams that arrive as they were sent, of those that do", "%", True
        ),
    )
}

PATHS = {
    path.name: path
    for path in (
        Path("cluster", "pod to ClusterIP, backend on the other node"),
        Path("node", "pod to ClusterIP, backend on the same node"),
        Path("hairpin", "pod to ClusterIP, the pod itself is the backend"),
        Path("nodeport", "client to NodePort, backend on the other node"),
        Path("masquerade", "pod to an outside host, masqueraded"),
        Path("overlay", "pod to pod on the other node, no translation"),
    )
}

PARTS = {
    "tcp": "TCP throughput with 1 and 4 streams, CPU seconds per GB",
    "packets": "small UDP datagrams: 1 flow, 1 000 flows, without loss",
    "connections": "new TCP connections a second",
    "latency": "UDP and TCP round trips, p50 and p99",
    "paths": "TCP, packets and connections on the other five paths",
    "services": "connections over 1 to 10 000 Services; loading them, changing one endpoint",
    "memory": "memory for a tracked flow, up to 1 M flows or the table's limit",
    "integrity": "is what arrives what was sent",
}
QUICK_PARTS = ("tcp", "packets", "connections", "latency")
