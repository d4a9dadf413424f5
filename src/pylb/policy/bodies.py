"""Objects written out again, with everything that was assigned to them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pylb.policy.build import Built
from pylb.policy.labspec import container_body, lab_body
from pylb.policy.manifests import SERVICE_NAME, Understood
from pylb.policy.model import Endpoint, EndpointSlice, Pod, Service
from pylb.policy.objects import Ref

Body = dict[str, Any]

_TEMPLATED = frozenset(("Deployment", "ReplicaSet"))
_ORDER = ("Lab", "Node", "Pod", "Service", "Endpoints", "EndpointSlice")
_AS_GIVEN = (
    "Node",
    "EndpointSlice",
    "Endpoints",
    "CiliumLocalRedirectPolicy",
    "IPAddressPool",
)
"""Kinds to which nothing is assigned."""


def normalised(
    built: Built, objects: Mapping[Ref, Understood], kind: str | None, namespace: str | None
) -> list[Body]:
    """The objects by kind, namespace and name; computed EndpointSlices only by kind."""
    policy = built.policy
    found: list[tuple[Ref, Body]] = [(Ref("Lab", "", "lab"), lab_body(policy.lab))]
    for ref, understood in objects.items():
        if ref.kind in _AS_GIVEN or (ref.kind in _TEMPLATED and kind == ref.kind):
            body = copy.deepcopy(dict(understood.raw.body))
            if ref.namespace:
                body["metadata"]["namespace"] = ref.namespace
            found.append((ref, body))
    for key, pod in policy.pods.items():
        found.append((Ref("Pod", *key), _pod(pod, built.sources[key].body)))
    for key, service in policy.services.items():
        ref = Ref("Service", *key)
        found.append((ref, _service(service, objects[ref].raw.body)))
    if kind == "EndpointSlice":
        for slices in policy.slices.values():
            found += [
                (Ref(kind, each.namespace, each.name), slice_body(each))
                for each in slices
                if each.computed
            ]
    found = [
        (ref, body)
        for ref, body in found
        if kind in (None, ref.kind) and (namespace is None or ref.namespace in ("", namespace))
    ]
    found.sort(key=lambda item: (_rank(item[0].kind), item[0]))
    return [body for _, body in found]


def _rank(kind: str) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _pod(pod: Pod, source: Mapping[str, Any]) -> Body:
    if source.get("kind") == "Pod":
        body: Body = copy.deepcopy(dict(source))
    else:
        owner = {"kind": source.get("kind"), "name": source["metadata"]["name"]}
        spec = copy.deepcopy(dict(source["spec"]["template"].get("spec", {})))
        spec["containers"] = [container_body(c) for c in pod.containers]
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": spec}
        body["metadata"] = {"name": pod.name, "ownerReferences": [owner]}
        if pod.labels:
            body["metadata"]["labels"] = dict(pod.labels)
        if pod.annotations:
            body["metadata"]["annotations"] = dict(pod.annotations)
    body["metadata"]["namespace"] = pod.namespace
    body["spec"]["nodeName"] = pod.node
    status = body["status"] = dict(body.get("status") or {})
    status["podIP"] = str(pod.ip)
    if pod.ready is not None:
        others = [c for c in status.get("conditions") or () if c.get("type") != "Ready"]
        status["conditions"] = [*others, {"type": "Ready", "status": str(pod.ready)}]
    return body


def _service(service: Service, source: Mapping[str, Any]) -> Body:
    body: Body = copy.deepcopy(dict(source))
    body["metadata"]["namespace"] = service.namespace
    spec = body["spec"] = dict(body.get("spec") or {})
    spec["type"] = service.type.value
    if service.cluster_ip is not None:
        spec["clusterIP"] = str(service.cluster_ip)
        spec["clusterIPs"] = [str(service.cluster_ip)]
    for entry, port in zip(spec.get("ports") or (), service.ports, strict=True):
        entry["protocol"] = port.protocol.value
        entry["targetPort"] = port.target_port
        if port.node_port:
            entry["nodePort"] = port.node_port
    if service.health_check_node_port:
        spec["healthCheckNodePort"] = service.health_check_node_port
    if service.load_balancer_ips:
        status = body["status"] = dict(body.get("status") or {})
        status["loadBalancer"] = {**(status.get("loadBalancer") or {})}
        addresses = [{"ip": str(a), "ipMode": "VIP"} for a in service.load_balancer_ips]
        others = [e for e in status["loadBalancer"].get("ingress") or () if not _is_vip(e)]
        status["loadBalancer"]["ingress"] = [*addresses, *others]
    return body


def _is_vip(ingress: Mapping[str, Any]) -> bool:
    return bool(ingress.get("ip")) and ingress.get("ipMode", "VIP") == "VIP"


def slice_body(each: EndpointSlice) -> Body:
    """An EndpointSlice as Kubernetes writes it."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": each.name,
            "namespace": each.namespace,
            "labels": {
                SERVICE_NAME: each.service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.pylb.io",
            },
        },
        "addressType": "IPv4",
        "ports": [
            {"name": p.name, "port": p.port, "protocol": p.protocol.value} for p in each.ports
        ],
        "endpoints": [_endpoint_body(endpoint) for endpoint in each.endpoints],
    }


def _endpoint_body(endpoint: Endpoint) -> Body:
    body: Body = {
        "addresses": [str(endpoint.address)],
        "conditions": {
            "ready": endpoint.ready,
            "serving": endpoint.serving,
            "terminating": endpoint.terminating,
        },
        "nodeName": endpoint.node,
    }
    if endpoint.pod:
        namespace, name = endpoint.pod
        body["targetRef"] = {"kind": "Pod", "namespace": namespace, "name": name}
    hints = {
        "forZones": [{"name": name} for name in endpoint.for_zones],
        "forNodes": [{"name": name} for name in endpoint.for_nodes],
    }
    if any(hints.values()):
        body["hints"] = {key: names for key, names in hints.items() if names}
    return body
