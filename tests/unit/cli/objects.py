"""Objects as a controller tells of them, and a clock that stands still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from pylb.control.http import Request

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock(datetime):
    """Always `NOW`: ages do not depend on how long the tests have been running."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Clock:
        return cls.fromtimestamp(NOW.timestamp(), tz)


def ago(seconds: int) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(name: str, namespace: str = "default", ready: bool = True, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "creationTimestamp": ago(3600 * 5),
        },
        "spec": {"nodeName": "node1", "containers": [{"name": "c"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.244.1.2",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "c", "ready": ready, "restartCount": 2}],
        },
    }


NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "node1", "creationTimestamp": ago(86400 * 3 + 7200)},
    "spec": {"podCIDR": "10.244.1.0/24"},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "192.168.0.1"}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "pylb-0.1.0"},
    },
}

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "type": "NodePort",
        "clusterIP": "10.96.0.10",
        "selector": {"app": "web"},
        "ports": [
            {"port": 80, "protocol": "TCP", "nodePort": 30080},
            {"port": 53, "protocol": "UDP"},
        ],
    },
}

SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "addressType": "IPv4",
    "metadata": {"name": "web-abc", "namespace": "default", "creationTimestamp": ago(30)},
    "ports": [{"port": 8080}, {"port": 53}],
    "endpoints": [{"addresses": [f"10.244.1.{n}"]} for n in range(2, 7)],
}

OBJECTS = {
    "Node": [NODE],
    "Pod": [pod("web-1", app="web"), pod("db", ready=False), pod("x", "shop", app="web")],
    "Service": [SERVICE],
    "EndpointSlice": [SLICE],
    "Endpoints": [
        {
            "kind": "Endpoints",
            "metadata": {"name": "db", "namespace": "default"},
            "subsets": [
                {"addresses": [{"ip": "10.9.0.1"}, {"ip": "10.9.0.2"}], "ports": [{"port": 5432}]}
            ],
        }
    ],
    "Deployment": [
        {
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default", "creationTimestamp": ago(60)},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"containers": [{"name": "c", "image": "nginx"}]}},
            },
            "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2},
        }
    ],
    "ReplicaSet": [
        {
            "kind": "ReplicaSet",
            "metadata": {"name": "idle", "namespace": "default", "creationTimestamp": ago(60)},
            "spec": {"selector": {"matchLabels": {"app": "idle"}}},
            "status": {"replicas": 1},
        }
    ],
    "CiliumLocalRedirectPolicy": [],
    "IPAddressPool": [],
    "Lab": [
        {
            "kind": "Lab",
            "metadata": {"name": "lab", "creationTimestamp": ago(60)},
            "spec": {
                "overlay": {"type": "udp"},
                "underlay": {"subnet": "192.168.0.0/24"},
                "serviceCIDR": "10.96.0.0/12",
            },
        }
    ],
}


def objects(request: Request) -> dict[str, Any]:
    found = OBJECTS[request.query["kind"]]
    namespace = request.query.get("namespace")
    if namespace is not None:
        found = [o for o in found if o["metadata"]["namespace"] == namespace]
    return {"objects": found}
