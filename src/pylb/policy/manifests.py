"""From a Kubernetes object to what pylb knows of it.

One function for each kind.  What is still to be assigned (a pod's address, a
cluster IP, a node port) stays `UNASSIGNED` or 0 here; see `pylb.policy.assign`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any

from pylb.policy import workloads
from pylb.policy.endpoints import WEIGHT
from pylb.policy.fields import METADATA, UNASSIGNED, Notes, Reader, is_dns_subdomain
from pylb.policy.fields import metadata as read_metadata
from pylb.policy.labspec import LabDocument, read_lab
from pylb.policy.model import Endpoint, EndpointPort, EndpointSlice, Node, Service
from pylb.policy.objects import CLUSTER_SCOPED, RawObject
from pylb.policy.pools import AddressPool, read_pool
from pylb.policy.redirects import RedirectPolicy, read_redirect
from pylb.policy.services import SCHEDULERS, read_protocol, read_service
from pylb.policy.workloads import PodTemplate

BACKEND_DATA = "flannel.alpha.coreos.com/backend-data"
SERVICE_NAME = "kubernetes.io/service-name"

Model = Node | Service | EndpointSlice | PodTemplate | LabDocument | AddressPool | RedirectPolicy


@dataclass(frozen=True, slots=True)
class Understood:
    """What an object means: its models, and what it says that is not acted on."""

    raw: RawObject
    models: tuple[Model, ...] = ()
    warnings: tuple[str, ...] = ()
    problems: tuple[Any, ...] = ()
    ready: Mapping[str, Any] = field(default_factory=dict)


def understand(raw: RawObject) -> Understood:
    """Read one object.  Problems are gathered, not raised."""
    notes = Notes(raw)
    top = Reader(raw.body, notes)
    for key in ("kind", "apiVersion"):
        top.raw(key)
    if not is_dns_subdomain(raw.name):
        notes.wrong("metadata.name", f"expected a DNS name (a-z, 0-9, -, .), got {raw.name!r}")
    known = _KINDS.get(raw.kind)
    models: tuple[Model, ...] = ()
    if known is None:
        notes.warn("", "objects of this kind are not acted on")
    else:
        versions, reader = known
        if raw.api_version not in versions:
            expected = " or ".join(versions)
            notes.wrong("apiVersion", f"expected {expected}, got {raw.api_version!r}")
        else:
            models = tuple(reader(raw, top))
    return Understood(raw, models, tuple(notes.warnings), tuple(notes.problems))


def _node(raw: RawObject, top: Reader) -> tuple[Model, ...]:
    labels, annotations, metadata = read_metadata(top)
    metadata.done(*METADATA)
    spec, status = top.under("spec"), top.under("status")
    pod_cidr = spec.network("podCIDR", required=True)
    spec.done("podCIDRs", "providerID", "taints", "unschedulable")
    address = UNASSIGNED
    for entry in status.each("addresses"):
        if entry.text("type") == "InternalIP" and address == UNASSIGNED:
            address = entry.address("address", required=True)
    if address == UNASSIGNED:
        status.wrong("addresses", "expected an entry of type InternalIP with an IPv4 address")
    top.done("status")
    mac = _vtep_mac(annotations, metadata, address)
    if pod_cidr is None or address == UNASSIGNED:
        return ()
    return (Node(raw.name, address, pod_cidr, labels, annotations, mac),)


def _vtep_mac(annotations: Mapping[str, str], metadata: Reader, address: IPv4Address) -> bytes:
    """02:50 and the InternalIP, or what flannel's annotation says."""
    given = annotations.get(BACKEND_DATA)
    if given:
        try:
            data = json.loads(given)
            mac = bytes.fromhex(str(data["VtepMAC"]).replace(":", ""))
            if len(mac) == 6 and not mac[0] & 1:
                return mac
        except (ValueError, KeyError, TypeError):
            pass
        field_name = f'annotations["{BACKEND_DATA}"]'
        metadata.wrong(field_name, f'expected {{"VtepMAC": "a unicast MAC"}}, got {given!r}')
    return b"\x02\x50" + address.packed


def _pod(raw: RawObject, top: Reader) -> tuple[Model, ...]:
    labels, annotations, metadata = read_metadata(top)
    terminating = metadata.raw("deletionTimestamp") is not None
    metadata.done(*METADATA, "deletionGracePeriodSeconds")
    _check_weight(annotations, metadata)
    template = workloads.read_pod_spec(top.under("spec"), raw.namespace, raw.name)
    status = top.under("status")
    pod_ip = status.address("podIP")
    phase = status.choice("phase", ("", "Pending", "Running", "Succeeded", "Failed", "Unknown"), "")
    ready: bool | None = None
    for condition in status.each("conditions"):
        if condition.text("type") == "Ready":
            ready = condition.choice("status", ("True", "False", "Unknown"), "Unknown") == "True"
    if ready is None and phase in ("Pending", "Succeeded", "Failed"):
        ready = False
    top.done("status")
    pod = replace(
        template.pod,
        ip=pod_ip,
        labels=labels,
        annotations=annotations,
        ready=ready,
        terminating=terminating,
    )
    return (replace(template, pod=pod),)


def _check_weight(annotations: Mapping[str, str], metadata: Reader) -> None:
    given = annotations.get(WEIGHT, "1")
    if not (given.isascii() and given.isdigit() and int(given) <= 65535):
        message = f"expected a number from 0 to 65535, got {given!r}"
        metadata.wrong(f'annotations["{WEIGHT}"]', message)


def _replicated(raw: RawObject, top: Reader) -> tuple[Model, ...]:
    """A ReplicaSet or Deployment: its pods, NAME-0 to NAME-(replicas - 1)."""
    _, _, metadata = read_metadata(top)
    metadata.done(*METADATA)
    spec = top.under("spec")
    replicas = spec.number("replicas", 0, 10000, default=1)
    selector = spec.under("selector").labels("matchLabels")
    template = spec.under("template")
    meta = template.under("metadata")
    labels, annotations = meta.labels("labels"), meta.labels("annotations")
    meta.done(*METADATA)
    _check_weight(annotations, meta)
    if not selector:
        spec.wrong("selector.matchLabels", "is required")
    elif not selector.items() <= labels.items():
        spec.wrong("selector.matchLabels", "does not match the template's labels")
    pod_spec = template.under("spec")
    made = []
    for i in range(replicas):
        one = workloads.read_pod_spec(pod_spec, raw.namespace, f"{raw.name}-{i}")
        pod = replace(one.pod, labels=labels, annotations=annotations)
        made.append(replace(one, pod=pod, owner=f"{raw.kind}/{raw.name}", ordinal=i))
    spec.done("strategy", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
    top.done("status")
    return tuple(made)


def _endpoint_slice(raw: RawObject, top: Reader) -> tuple[Model, ...]:
    labels, _, metadata = read_metadata(top)
    metadata.done(*METADATA)
    service = labels.get(SERVICE_NAME, "")
    if not service:
        metadata.wrong(f'labels["{SERVICE_NAME}"]', "is required: the Service's name")
    kind = top.text("addressType", "IPv4")
    endpoints = []
    for entry in top.each("endpoints"):
        conditions = entry.under("conditions")
        ready = conditions.flag("ready", True)
        serving = conditions.flag("serving", ready)
        terminating = conditions.flag("terminating", False)
        node = entry.text("nodeName")
        hints = entry.under("hints")
        zones = tuple(hint.text("name", required=True) for hint in hints.each("forZones"))
        hinted = tuple(hint.text("name", required=True) for hint in hints.each("forNodes"))
        hints.done()
        for text in entry.texts("addresses"):
            address = entry.as_address("addresses", text)
            endpoints.append(
                Endpoint(address, ready, serving, terminating, node, None, zones, hinted)
            )
        entry.done("targetRef", "zone", "hostname", "deprecatedTopology")
    ports = tuple(_endpoint_port(entry) for entry in top.each("ports"))
    top.done("status")
    if kind != "IPv4":
        top.notes.warn("addressType", f"{kind} endpoints are not acted on: only IPv4 ones are")
        return ()
    return (EndpointSlice(raw.namespace, raw.name, service, ports, tuple(endpoints)),)


def _endpoints(raw: RawObject, top: Reader) -> tuple[Model, ...]:
    _, _, metadata = read_metadata(top)
    metadata.done(*METADATA)
    slices = []
    for i, subset in enumerate(top.each("subsets")):
        ports = tuple(_endpoint_port(entry) for entry in subset.each("ports"))
        found = []
        for key, ready in (("addresses", True), ("notReadyAddresses", False)):
            for entry in subset.each(key):
                address = entry.address("ip", required=True)
                found.append(Endpoint(address, ready, ready, False, entry.text("nodeName")))
                entry.done("hostname", "targetRef")
        subset.done()
        name = f"{raw.name}-endpoints-{i}"
        slices.append(EndpointSlice(raw.namespace, name, raw.name, ports, tuple(found)))
    top.done("status")
    return tuple(slices)


def _endpoint_port(entry: Reader) -> EndpointPort:
    port = EndpointPort(entry.port("port", required=True), read_protocol(entry), entry.name("name"))
    entry.done("appProtocol")
    return port


def _lab(raw: RawObject, top: Reader) -> tuple[Model, ...]:
    top.under("metadata").done(*METADATA, "labels", "annotations")
    made = read_lab(top, SCHEDULERS)
    top.done("status")
    return (made,)


_Kind = tuple[tuple[str, ...], Callable[[RawObject, Reader], Sequence[Model]]]
_KINDS: Mapping[str, _Kind] = {
    "Node": (("v1",), _node),
    "Pod": (("v1",), _pod),
    "Service": (("v1",), read_service),
    "Endpoints": (("v1",), _endpoints),
    "EndpointSlice": (("discovery.k8s.io/v1",), _endpoint_slice),
    "ReplicaSet": (("apps/v1",), _replicated),
    "Deployment": (("apps/v1",), _replicated),
    "Lab": (("pylb.io/v1alpha1",), _lab),
    "IPAddressPool": (("metallb.io/v1beta1",), read_pool),
    "CiliumLocalRedirectPolicy": (("cilium.io/v2",), read_redirect),
}
assert {"Node", "Lab"} <= CLUSTER_SCOPED
