"""What the controller's API shows of a lab: its status, and its objects with theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pylb
from pylb.lab.daemons import NodeDaemon
from pylb.lab.workloads import Running, Workload
from pylb.policy.model import Endpoint, EndpointSlice, Key, Policy
from pylb.policy.objects import CLUSTER_SCOPED, RawObject, Ref

Body = dict[str, Any]


class Ages:
    """Since when objects are known: what ``metadata.creationTimestamp`` says."""

    def __init__(self) -> None:
        self._since: dict[Ref, str] = {}

    def keep(self, refs: Collection[Ref]) -> None:
        """Exactly these are there now: others are forgotten, so that one made anew is new."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._since = {ref: self._since.get(ref, now) for ref in refs}

    def of(self, body: Mapping[str, Any]) -> str | None:
        """RFC 3339, UTC, whole seconds.  Computed endpoints are as old as their Service."""
        metadata, kind = body["metadata"], str(body["kind"])
        namespace = "" if kind in CLUSTER_SCOPED else str(metadata.get("namespace", "default"))
        name = str(metadata.get("name", ""))
        since = self._since.get(Ref(kind, namespace, name))
        # What follows from a Service is named in a label, or like it.
        service = (metadata.get("labels") or {}).get("kubernetes.io/service-name", "")
        if kind == "Endpoints":
            service = name
        return since or self._since.get(Ref("Service", namespace, service))


def objects(
    bodies: Iterable[Mapping[str, Any]],
    policy: Policy,
    pods: Mapping[Key, Workload],
    daemons: Mapping[str, NodeDaemon],
    ages: Ages,
    sources: Mapping[Key, RawObject],
) -> Iterator[Body]:
    """``bodies`` as Kubernetes would give them: with their age and status.

    ``sources`` says which object each pod comes from.
    """
    owned: dict[Ref, list[Key]] = {}
    for key, source in sources.items():
        owned.setdefault(source.ref, []).append(key)
    for original in bodies:
        body = dict(original)
        metadata = body["metadata"] = dict(body.get("metadata") or {})
        metadata.setdefault("creationTimestamp", ages.of(body))
        if body["kind"] == "Pod":
            key = (metadata["namespace"], metadata["name"])
            body["status"] = _pod_status(body, policy, key, pods.get(key))
        elif body["kind"] == "Node":
            body["status"] = _node_status(body, daemons.get(metadata["name"]))
        elif body["kind"] in ("Deployment", "ReplicaSet"):
            keys = owned.get(Ref(body["kind"], metadata["namespace"], metadata["name"]), [])
            body["spec"] = {"replicas": 1, **body["spec"]}
            body["status"] = _replicas_status(body["kind"], keys, policy, pods)
        yield body


def _replicas_status(
    kind: str, keys: list[Key], policy: Policy, pods: Mapping[Key, Workload]
) -> Body:
    replicas = sum(key in pods for key in keys)
    ready = sum(bool(policy.pods[key].ready) for key in keys)
    status: Body = {"replicas": replicas, "readyReplicas": ready, "availableReplicas": ready}
    if kind == "Deployment":
        status["updatedReplicas"] = replicas
        status["conditions"] = [_condition("Available", ready == len(keys))]
    return status


def endpoints(policy: Policy, namespace: str | None, known: Collection[Key]) -> list[Body]:
    """The Endpoints that Kubernetes writes for Services with a selector, but the ``known`` ones."""
    return [
        _endpoints_body(key, [each for each in policy.slices.get(key, ()) if each.computed])
        for key, service in policy.services.items()
        if service.selector and key not in known and namespace in (None, key[0])
    ]


def _endpoints_body(key: Key, slices: Iterable[EndpointSlice]) -> Body:
    subsets = []
    for each in slices:
        subset: Body = {}
        for name, ready in (("addresses", True), ("notReadyAddresses", False)):
            some = [_endpoint_address(e) for e in each.endpoints if e.ready is ready]
            if some:
                subset[name] = some
        if subset:
            ports = [(p.name, p.port, p.protocol.value) for p in each.ports]
            subset["ports"] = [
                {**({"name": name} if name else {}), "port": port, "protocol": protocol}
                for name, port, protocol in ports
            ]
            subsets.append(subset)
    metadata = {"name": key[1], "namespace": key[0]}
    body: Body = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
    return {**body, "subsets": subsets} if subsets else body


def _endpoint_address(endpoint: Endpoint) -> Body:
    address: Body = {"ip": str(endpoint.address)}
    if endpoint.node:
        address["nodeName"] = endpoint.node
    if endpoint.pod:
        namespace, name = endpoint.pod
        address["targetRef"] = {"kind": "Pod", "namespace": namespace, "name": name}
    return address


def _condition(kind: str, value: bool) -> Body:
    return {"type": kind, "status": "True" if value else "False"}


def _node_status(body: Body, daemon: NodeDaemon | None) -> Body:
    return {
        "nodeInfo": {"kubeletVersion": f"pylb-{pylb.__version__}"},
        **(body.get("status") or {}),
        "conditions": [_condition("Ready", daemon is not None and daemon.up)],
    }


def _pod_status(body: Body, policy: Policy, key: Key, workload: Workload | None) -> Body:
    pod = policy.pods[key]
    ready = bool(pod.ready)
    return {
        **(body.get("status") or {}),
        "phase": "Running" if workload is not None else "Pending",
        "hostIP": str(policy.nodes[pod.node].internal_ip),
        "podIP": str(pod.ip),
        "podIPs": [{"ip": str(pod.ip)}],
        "conditions": [_condition("ContainersReady", ready), _condition("Ready", ready)],
        "containerStatuses": [
            _container(running, ready) for running in (workload.running if workload else ())
        ],
    }


def _container(running: Running, pod_ready: bool) -> Body:
    runs = running.child is not None and running.child.alive
    status: Body = {
        "name": running.container.name,
        "image": running.container.image,
        "ready": runs and pod_ready,
        "restartCount": running.restarts,
        "state": {"running": {}} if runs else {"waiting": {"reason": "CrashLoopBackOff"}},
    }
    if running.last_status is not None:
        status["lastState"] = {"terminated": {"exitCode": exit_code(running.last_status)}}
    return status


def exit_code(status: int) -> int:
    """An exit status as containers have it: 128 and the signal for a killed process."""
    return 128 - status if status < 0 else status


def status(policy: Policy, pods: Mapping[Key, Workload], daemons: Mapping[str, NodeDaemon]) -> Body:
    """Nodes with their daemons, and pods: the part of ``GET /status`` that is lists."""
    return {
        "nodes": [
            {
                "name": node.name,
                "ip": str(node.internal_ip),
                "podCIDR": str(node.pod_cidr),
                **_daemon(daemons[node.name]),
            }
            for node in policy.nodes.values()
        ],
        "pods": [
            {
                "namespace": pod.namespace,
                "name": pod.name,
                "node": pod.node,
                "ip": str(pod.ip),
                "ready": bool(pod.ready),
                "restarts": pods[key].restarts if key in pods else 0,
            }
            for key, pod in policy.pods.items()
        ],
    }


def _daemon(daemon: NodeDaemon) -> Body:
    running = daemon.child is not None and daemon.child.alive
    return {
        "daemon": "up" if daemon.up else ("starting" if running else "down"),
        "pid": daemon.child.pid if daemon.child is not None and running else None,
        "generation": daemon.number,
        "restarts": max(0, daemon.restarts),
        "error": daemon.failure or None,
    }
