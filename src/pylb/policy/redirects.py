"""CiliumLocalRedirectPolicy: what is read of it, and the pods that it selects.

Source of the rules: Cilium's CRD (pkg/k8s/apis/cilium.io/v2, clrp_types) and
redirect policy (pkg/redirectpolicy); the words are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pylb.policy.endpoints import PodIndex, endpoint_of
from pylb.policy.fields import METADATA, UNASSIGNED, Reader, show
from pylb.policy.model import EndpointPort, LocalRedirect, Pod, Protocol
from pylb.policy.objects import RawObject
from pylb.policy.selectors import Selector, read_selector

_IANA_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?")
_PREFIXES = ("k8s:", "any:")
"""Where Cilium's labels come from, which its selectors may say."""


@dataclass(frozen=True, slots=True)
class RedirectPolicy:
    """A policy as it was read: ``redirect`` has no endpoints yet."""

    redirect: LocalRedirect
    selector: Selector

    def selects(self, pod: Pod) -> bool:
        """True for a pod that is a backend, if it is ready, on its own node."""
        if pod.namespace != self.redirect.namespace:
            return False
        return self.selector.matches(pod.labels)

    def resolve(self, pods: PodIndex) -> LocalRedirect:
        """The redirection with the pods that are selected as its endpoints."""
        # By label first: thousands of policies need not look at all pods each.
        likely = pods.matching(self.redirect.namespace, dict(self.selector.labels))
        found = tuple(endpoint_of(pod) for pod in likely if self.selects(pod))
        return replace(self.redirect, endpoints=found)


def read_redirect(raw: RawObject, top: Reader) -> tuple[RedirectPolicy, ...]:
    """Read one; its problems and warnings are noted, and with a problem there is none."""
    top.under("metadata").done(*METADATA, "labels", "annotations")
    before = len(top.notes.problems)
    spec = top.under("spec")
    frontend, backend = spec.under("redirectFrontend"), spec.under("redirectBackend")
    both = "addressMatcher" in frontend, "serviceMatcher" in frontend
    if not any(both):
        spec.wrong("redirectFrontend", "expected addressMatcher or serviceMatcher")
    if all(both):
        spec.wrong("redirectFrontend", "addressMatcher and serviceMatcher may not both be set")
    of_address, of_service = frontend.under("addressMatcher"), frontend.under("serviceMatcher")
    matcher = of_service if both[1] else of_address
    address = of_address.address("ip", required=both[0])
    name = of_service.text("serviceName", required=both[1])
    namespace = of_service.text("namespace", required=both[1])
    if both[1] and namespace and namespace != raw.namespace:
        of_service.wrong("namespace", f"expected the policy's own, {raw.namespace}")
    ports = _ports(matcher)
    if both[0] and not ports and not all(both):
        of_address.wrong("toPorts", "expected at least one port")
    matcher.done()
    frontend.done()

    selector = _of_pods(read_selector(backend.under("localEndpointSelector")))
    if "localEndpointSelector" not in backend:
        backend.wrong("localEndpointSelector", "is required")
    targets = _ports(backend, named=len(ports) > 1)
    if not targets:
        backend.wrong("toPorts", "expected at least one port")
    if len(ports) == 1 and targets and targets[0].protocol is not ports[0].protocol:
        expected, got = ports[0].protocol.value, targets[0].protocol.value
        backend.wrong("toPorts[0].protocol", f"expected the frontend's, {expected}, got {got}")
    backend.done()
    skips = spec.flag("skipRedirectFromBackend")
    spec.done("description")
    top.done("status")
    if len(top.notes.problems) > before:
        return ()
    redirect = LocalRedirect(
        namespace=raw.namespace,
        name=raw.name,
        address=address if address != UNASSIGNED else None,
        service=(namespace, name) if both[1] else None,
        ports=ports,
        targets=targets,
        skips_backends=skips,
    )
    return (RedirectPolicy(redirect, selector),)


def _ports(reader: Reader, *, named: bool = False) -> tuple[EndpointPort, ...]:
    """``toPorts``; of several each needs a name, which is compared in lower case."""
    entries = list(reader.each("toPorts"))
    named = named or len(entries) > 1
    found: dict[tuple[object, ...], EndpointPort] = {}
    for entry in entries:
        port = _port(entry)
        name = entry.text("name", required=named)
        if name and (not _IANA_NAME.fullmatch(name) or "--" in name):
            entry.wrong("name", f"expected a port's name (letters, digits, -), got {show(name)}")
        protocol = Protocol(entry.choice("protocol", ("TCP", "UDP"), "TCP"))
        if "protocol" not in entry:
            entry.wrong("protocol", "is required: TCP or UDP")
        entry.done()
        made = EndpointPort(port, protocol, name.lower())
        key = (made.name or port, protocol)
        if key in found and key[0]:
            field = "name" if made.name else "port"
            entry.wrong(field, f"{key[0]}/{protocol.value} is there twice")
        found[key] = made
    return tuple(found.values())


def _port(entry: Reader) -> int:
    """A port number, which Cilium wants as text."""
    text = entry.raw("port")
    if isinstance(text, str) and re.fullmatch("[1-9][0-9]{0,4}", text) and int(text) <= 65535:
        return int(text)
    entry.wrong("port", f'expected a port number as text, such as "8080", got {show(text)}')
    return 0


def _of_pods(selector: Selector) -> Selector:
    """The selector without the sources that Cilium puts before labels' names."""

    def bare(key: str) -> str:
        return next((key.removeprefix(p) for p in _PREFIXES if key.startswith(p)), key)

    labels = tuple(sorted((bare(key), value) for key, value in selector.labels))
    return Selector(labels, tuple(e._replace(key=bare(e.key)) for e in selector.expressions))


def concerned(policies: Iterable[RedirectPolicy], pods: Iterable[Pod]) -> list[RedirectPolicy]:
    """The policies that select one of ``pods``."""
    listed = list(pods)
    return [policy for policy in policies if any(policy.selects(pod) for pod in listed)]
