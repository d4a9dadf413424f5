"""The files that every place has over the host's own in /etc.

They are rewritten in place: programs see them through a bind mount, which
stays with the inode.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path

from pylb.lab.names import CLIENT, ROUTER, Place, pod_place
from pylb.policy.model import Policy, Service, ServiceType

_LOCAL = (("127.0.0.1", ("localhost",)), ("::1", ("localhost", "ip6-localhost", "ip6-loopback")))
_Line = tuple[str, tuple[str, ...]]
"""An address and its names."""
_CLUSTER_DOMAIN = "cluster.local"


def hosts(own: IPv4Address, hostname: str, policy: Policy, told: str) -> str:
    """/etc/hosts of a place with the address ``own``.

    After its own name come the nodes, and what `services` told of its namespace.
    """
    lines = [*_LOCAL, (str(own), (hostname,))]
    for node in policy.nodes.values():
        if node.name != hostname:
            lines.append((str(node.internal_ip), (node.name,)))
    return _text(lines) + told


def services(namespace: str, policy: Policy) -> str:
    """What /etc/hosts says of Services: each under the names that cluster DNS has for it.

    The short name is only for Services of ``namespace``.  Addresses are the
    cluster IP, or the ready endpoints of one that is headless.
    """
    lines: list[_Line] = []
    for service in policy.services.values():
        full = f"{service.name}.{service.namespace}"
        short = (service.name,) if service.namespace == namespace else ()
        names = (*short, full, f"{full}.svc", f"{full}.svc.{_CLUSTER_DOMAIN}")
        lines += ((str(address), names) for address in _answers(service, policy))
    return _text(lines)


def _text(lines: Iterable[_Line]) -> str:
    return "".join(f"{address}\t{' '.join(known)}\n" for address, known in lines)


def _answers(service: Service, policy: Policy) -> list[IPv4Address]:
    """The addresses that cluster DNS answers with."""
    if service.cluster_ip is not None:
        return [service.cluster_ip]
    if service.type is ServiceType.EXTERNAL_NAME:
        return []
    slices = policy.slices.get(service.key, ())
    return sorted({e.address for each in slices for e in each.endpoints if e.ready})


def resolv(namespace: str, policy: Policy) -> str:
    """/etc/resolv.conf: the Service kube-system/kube-dns when there is one.

    Without it there is no nameserver to ask, and names that /etc/hosts does not
    have fail at once instead of after a timeout on the host's nameserver, which
    a lab does not reach.
    """
    dns = policy.services.get(("kube-system", "kube-dns"))
    if dns is None or dns.cluster_ip is None:
        return "# no Service kube-system/kube-dns: names come from /etc/hosts\n"
    zones = f"{namespace}.svc.{_CLUSTER_DOMAIN} svc.{_CLUSTER_DOMAIN} {_CLUSTER_DOMAIN}"
    return f"search {zones}\nnameserver {dns.cluster_ip}\noptions ndots:5\n"


def addresses(policy: Policy) -> dict[str, tuple[IPv4Address, str]]:
    """The address and the namespace of every place that may have other than ``default``."""
    spec = policy.lab
    found = {
        ROUTER: (spec.router_ip, "default"),
        CLIENT: (spec.client_ip, "default"),
    }
    found |= {node.name: (node.internal_ip, "default") for node in policy.nodes.values()}
    found |= {host.name: (host.ip, "default") for host in spec.outside}
    found |= {pod_place(pod.key): (pod.ip, pod.namespace) for pod in policy.pods.values()}
    return found


def write(places: Iterable[Place], policy: Policy) -> None:
    """Write the files of ``places``, their folders too; what has not changed is left alone."""
    known = addresses(policy)
    # There may be thousands of Services, and most places are of one namespace.
    told = {
        namespace: services(namespace, policy)
        for namespace in {namespace for _, namespace in known.values()}
    }
    for place in places:
        own, namespace = known[place.name]
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(place.folder / "hostname", f"{place.hostname}\n")
        _write(place.folder / "hosts", hosts(own, place.hostname, policy, told[namespace]))
        _write(place.folder / "resolv.conf", resolv(namespace, policy))


def _write(path: Path, text: str) -> None:
    try:
        if path.read_text() == text:
            return
    except FileNotFoundError:
        pass
    path.touch()
    # Whatever the umask: programs that gave up root read /etc/hosts too.
    path.chmod(0o644)
    with path.open("r+") as file:
        file.write(text)
        file.truncate()
