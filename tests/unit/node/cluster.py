"""A cluster of two nodes as Kubernetes objects."""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]


def node(number: int) -> Body:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node{number}"},
        "spec": {"podCIDR": f"10.244.{number}.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.7.{number}"}]},
    }


def service(name: str = "web", address: str = "10.96.0.10", port: int = 80) -> Body:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": address, "ports": [{"port": port}]},
    }


def endpoints(name: str = "web", *addresses: str, port: int = 8080) -> Body:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in addresses],
    }


def pod(name: str, node: str, address: str, **spec: Any) -> Body:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "main", "image": "echoserver", "command": ["true"]}],
            **spec,
        },
        "status": {"podIP": address},
    }


def cluster(*more: Body) -> list[Body]:
    return [node(1), node(2), *more]


def ref(body: Body) -> dict[str, str]:
    namespace = "" if body["kind"] == "Node" else "default"
    return {"kind": body["kind"], "namespace": namespace, "name": body["metadata"]["name"]}
