"""The ``kind: Lab`` document: what Kubernetes has no object for, and its defaults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pylb.policy.fields import UNASSIGNED, Reader
from pylb.policy.model import (
    SERVICE_CIDR,
    Container,
    ContainerPort,
    LabSpec,
    Node,
    OutsideHost,
    Overlay,
)
from pylb.policy.pools import read_ranges
from pylb.policy.workloads import read_container

ROUTER, CLIENT = 254, 253
MAGLEV_SIZE = 65537
LARGEST_MAGLEV = 1 << 24
INTERNET = OutsideHost(
    "internet",
    IPv4Address("203.0.113.80"),
    (Container("web", "nginx", ports=(ContainerPort(80),)),),
)


@dataclass(frozen=True, slots=True)
class LabDocument:
    """What the document says; None and UNASSIGNED where it says nothing."""

    underlay: IPv4Network | None = None
    router_ip: IPv4Address = UNASSIGNED
    client_ip: IPv4Address = UNASSIGNED
    mtu: int = 1500
    overlay: Overlay = Overlay.VXLAN
    overlay_port: int = 0
    service_cidr: IPv4Network = SERVICE_CIDR
    scheduler: str = "random"
    masquerade: bool = True
    outside: tuple[OutsideHost, ...] | None = None
    address_pools: tuple[tuple[str, tuple[str, ...]], ...] = ()
    maglev_size: int = MAGLEV_SIZE


def read_lab(top: Reader, schedulers: tuple[str, ...]) -> LabDocument:
    """Read the document's ``spec``."""
    spec = top.under("spec")
    underlay, overlay = spec.under("underlay"), spec.under("overlay")
    subnet = underlay.network("subnet")
    router, client = underlay.address("router"), underlay.address("client")
    mtu = underlay.number("mtu", 576, 65535, default=1500)
    underlay.done()
    kind = Overlay(overlay.choice("type", tuple(o.value for o in Overlay), Overlay.VXLAN.value))
    port = overlay.port("port")
    overlay.done()
    service_cidr = spec.network("serviceCIDR") or SERVICE_CIDR
    scheduler = spec.choice("scheduler", schedulers, schedulers[0])
    masquerade = spec.flag("masquerade", True)
    hosts: tuple[OutsideHost, ...] | None = None
    if "outsideHosts" in spec:
        hosts = tuple(_outside_host(entry) for entry in spec.each("outsideHosts"))
    pools = tuple(_address_pool(entry) for entry in spec.each("addressPools"))
    maglev = spec.number("maglevTableSize", 2, LARGEST_MAGLEV, default=MAGLEV_SIZE)
    if any(maglev % divisor == 0 for divisor in range(2, math.isqrt(maglev) + 1)):
        spec.wrong("maglevTableSize", f"expected a prime, such as {MAGLEV_SIZE}, got {maglev}")
    spec.done()
    return LabDocument(
        underlay=subnet,
        router_ip=router,
        client_ip=client,
        mtu=mtu,
        overlay=kind,
        overlay_port=port,
        service_cidr=service_cidr,
        scheduler=scheduler,
        masquerade=masquerade,
        outside=hosts,
        address_pools=pools,
        maglev_size=maglev,
    )


def _address_pool(entry: Reader) -> tuple[str, tuple[str, ...]]:
    name = entry.name("name", required=True)
    read_ranges(entry)
    entry.done()
    return name, entry.texts("addresses")


def _outside_host(entry: Reader) -> OutsideHost:
    name = entry.name("name", required=True)
    address = entry.address("ip", required=True)
    containers = tuple(
        read_container(c, f"container-{i}") for i, c in enumerate(entry.each("containers"))
    )
    entry.done()
    return OutsideHost(name, address, containers)


def complete(document: LabDocument, nodes: Iterable[Node]) -> LabSpec | None:
    """The lab with its defaults: the underlay is the /24 that holds every InternalIP.

    None when no subnet is given and no /24 holds them all.
    """
    underlay = document.underlay
    if underlay is None:
        found = {IPv4Network((int(node.internal_ip) & ~0xFF, 24)) for node in nodes}
        if len(found) != 1:
            return None
        underlay = found.pop()
    base = int(underlay.network_address)

    def host(given: IPv4Address, number: int) -> IPv4Address:
        if given != UNASSIGNED:
            return given
        # Counted from the top, so that it also holds for subnets other than /24.
        return IPv4Address(base + underlay.num_addresses - (256 - number))

    return LabSpec(
        underlay=underlay,
        router_ip=host(document.router_ip, ROUTER),
        client_ip=host(document.client_ip, CLIENT),
        mtu=document.mtu,
        overlay=document.overlay,
        overlay_port=document.overlay_port,
        service_cidr=document.service_cidr,
        scheduler=document.scheduler,
        masquerade=document.masquerade,
        outside=(INTERNET,) if document.outside is None else document.outside,
        address_pools=document.address_pools,
        maglev_size=document.maglev_size,
    )


def lab_body(lab: LabSpec) -> dict[str, Any]:
    """The document that says everything about ``lab``, defaults too."""
    return {
        "apiVersion": "pylb.io/v1alpha1",
        "kind": "Lab",
        "metadata": {"name": "lab"},
        "spec": {
            "underlay": {
                "subnet": str(lab.underlay),
                "router": str(lab.router_ip),
                "client": str(lab.client_ip),
                "mtu": lab.mtu,
            },
            "overlay": _overlay_body(lab),
            "serviceCIDR": str(lab.service_cidr),
            "scheduler": lab.scheduler,
            "maglevTableSize": lab.maglev_size,
            "masquerade": lab.masquerade,
            "outsideHosts": [
                {
                    "name": host.name,
                    "ip": str(host.ip),
                    "containers": [container_body(c) for c in host.containers],
                }
                for host in lab.outside
            ],
            **_pools_body(lab),
        },
    }


def _pools_body(lab: LabSpec) -> dict[str, Any]:
    pools = [{"name": name, "addresses": list(ranges)} for name, ranges in lab.address_pools]
    return {"addressPools": pools} if pools else {}


def _overlay_body(lab: LabSpec) -> dict[str, Any]:
    body: dict[str, Any] = {"type": lab.overlay.value}
    if lab.overlay_port:
        body["port"] = lab.overlay_port
    return body


def container_body(container: Container) -> dict[str, Any]:
    """A container as a manifest has it."""
    body: dict[str, Any] = {"name": container.name}
    if container.image:
        body["image"] = container.image
    if container.command:
        body["command"] = list(container.command)
    if container.args:
        body["args"] = list(container.args)
    if container.working_dir:
        body["workingDir"] = container.working_dir
    if container.env:
        body["env"] = [{"name": k, "value": v} for k, v in container.env.items()]
    if container.ports:
        body["ports"] = [_port_body(p) for p in container.ports]
    return body


def _port_body(port: ContainerPort) -> Mapping[str, Any]:
    body: dict[str, Any] = {"containerPort": port.port, "protocol": port.protocol.value}
    if port.name:
        body["name"] = port.name
    return body
