"""What the controller makes of create, patch and delete: which policy follows, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from pylb.lab.controller import Controller
from pylb.lab.errors import LabError
from pylb.policy.errors import ManifestError
from pylb.policy.model import Overlay, ServiceType, TrafficPolicy
from pylb.policy.objects import Ref, from_bodies
from pylb.policy.patching import PatchError
from pylb.policy.store import Store

NODES = [
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node{n}", "labels": {"zone": "ab"[n - 1]}},
        "spec": {"podCIDR": f"10.244.{n}.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.50.1{n}"}]},
    }
    for n in (1, 2)
]
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx"}]},
        },
    },
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {
        "type": "NodePort",
        "selector": {"app": "web"},
        "externalTrafficPolicy": "Local",
        "ports": [{"port": 80}],
    },
}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "alone"},
    "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "pause"}]},
}
WEB, WEB_SERVICE = Ref("Deployment", "default", "web"), Ref("Service", "default", "web")


class Told(Controller):
    """A controller without a lab: it notes what it would go over to."""

    def __init__(self, *bodies: dict[str, Any]) -> None:
        raws = from_bodies([*NODES, *bodies])
        super().__init__("lab", "python", Overlay.VXLAN, Store.empty().apply(raws))
        self.went: list[Store] = []

    async def _change(self, store: Store) -> None:
        self.went.append(store)
        self.store = store

    @property
    def pods(self) -> list[str]:
        return [name for _, name in self.store.policy.pods]

    def body(self, ref: Ref) -> Any:
        [body] = (b for b in self.objects(ref.kind, None) if b["metadata"]["name"] == ref.name)
        return body


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setenv("PYLB_RUN", str(tmp_path))
    return Told(DEPLOYMENT, SERVICE, POD)


def actions(answer: Awaitable[Any]) -> list[str]:
    async def wait() -> Any:
        return await answer

    return [result["action"] for result in asyncio.run(wait())["results"]]


def test_create_makes_all_or_none(lab: Told) -> None:
    other = {**SERVICE, "metadata": {"name": "other"}}
    assert actions(lab.create(from_bodies([SERVICE, other]))) == ["exists"]
    assert lab.went == []
    assert actions(lab.create(from_bodies([other]))) == ["created"]
    assert ("default", "other") in lab.store.policy.services
    # A pod of a Deployment is there too, though nobody applied it.
    pod = {**POD, "metadata": {"name": "web-0"}}
    assert actions(lab.create(from_bodies([pod]))) == ["exists"]


def test_warnings_are_about_what_is_sent_or_new(lab: Told) -> None:
    def warnings(answer: Awaitable[Any]) -> list[str]:
        async def wait() -> Any:
            return await answer

        return [w.split(": ")[2] for w in asyncio.run(wait())["warnings"]]

    one, two = ({**SERVICE, "metadata": {"name": name}, "bogus": 1} for name in ("one", "two"))
    assert warnings(lab.create(from_bodies([one]))) == ["Service default/one"]
    assert warnings(lab.create(from_bodies([two]))) == ["Service default/two"]
    assert warnings(lab.apply(from_bodies([one]))) == ["Service default/one"]


def test_a_patch_keeps_what_was_assigned_an_assignment(lab: Told) -> None:
    before = lab.store.policy.services[("default", "web")]
    patch = {"spec": {"externalTrafficPolicy": "Cluster"}}
    assert actions(lab.patch(WEB_SERVICE, patch, "strategic")) == ["patched"]
    after = lab.store.policy.services[("default", "web")]
    assert after.external_traffic_policy is TrafficPolicy.CLUSTER
    assert (after.cluster_ip, after.ports) == (before.cluster_ip, before.ports)
    assert "clusterIP" not in lab.store.objects[WEB_SERVICE].raw.body["spec"]
    assert actions(lab.patch(WEB_SERVICE, patch, "strategic")) == ["unchanged"]
    assert len(lab.went) == 1


def test_a_patch_sees_what_was_assigned(lab: Told) -> None:
    number = lab.body(WEB_SERVICE)["spec"]["ports"][0]["nodePort"]
    operations = [
        {"op": "test", "path": "/spec/ports/0/nodePort", "value": number},
        {"op": "replace", "path": "/spec/ports/0/nodePort", "value": 31234},
    ]
    assert actions(lab.patch(WEB_SERVICE, operations, "json")) == ["patched"]
    assert lab.store.policy.services[("default", "web")].ports[0].node_port == 31234


def test_a_patched_type_takes_its_fields_along(lab: Told) -> None:
    patch = {"spec": {"type": "ClusterIP", "ports": [{"port": 80, "targetPort": 8080}]}}
    assert actions(lab.patch(WEB_SERVICE, patch, "strategic")) == ["patched"]
    service = lab.store.policy.services[("default", "web")]
    assert service.type is ServiceType.CLUSTER_IP
    assert (service.ports[0].node_port, service.ports[0].target_port) == (0, 8080)


def test_patches_that_cannot_be_change_nothing(lab: Told) -> None:
    for patch, form, error in (
        ({"kind": "Pod"}, "merge", PatchError),
        ({"spec": {"ports": [{"port": "x"}]}}, "merge", ManifestError),
        ({"spec": {"ports": None}}, "merge", ManifestError),
    ):
        with pytest.raises(error):
            actions(lab.patch(WEB_SERVICE, patch, form))
    with pytest.raises(ManifestError) as found:
        actions(lab.patch(WEB_SERVICE, {"spec": {"clusterIP": "1.2.3.4"}}, "merge"))
    assert str(found.value).startswith("Service default/web: spec.clusterIP: ")
    with pytest.raises(LabError) as owned:
        actions(lab.patch(Ref("Pod", "default", "web-0"), {}, "merge"))
    assert str(owned.value) == (
        "Pod default/web-0: it follows from Deployment default/web: change that"
    )
    assert actions(lab.patch(Ref("Pod", "default", "nope"), {}, "merge")) == ["not found"]
    assert lab.went == []


def test_scaling_and_moving(lab: Told) -> None:
    assert actions(lab.patch(WEB, {"spec": {"replicas": 3}}, "merge")) == ["patched"]
    assert lab.pods == ["alone", "web-0", "web-1", "web-2"]
    selector = {"spec": {"template": {"spec": {"nodeSelector": {"zone": "b"}}}}}
    assert actions(lab.patch(WEB, selector, "strategic")) == ["patched"]
    assert {pod.node for pod in lab.store.policy.pods.values() if pod.name != "alone"} == {"node2"}
    assert actions(lab.patch(WEB, {"spec": {"replicas": 0}}, "merge")) == ["patched"]
    assert lab.pods == ["alone"]


def test_a_deleted_pod_of_a_deployment_is_made_anew(lab: Told) -> None:
    address = lab.store.policy.pods[("default", "web-1")].ip
    assert actions(lab.delete([Ref("Pod", "default", "web-0")])) == ["deleted"]
    without, with_ = lab.went
    assert list(without.policy.pods) == [("default", "alone"), ("default", "web-1")]
    assert lab.pods == ["alone", "web-0", "web-1"]
    assert with_.policy.pods[("default", "web-1")].ip == address
    assert with_.objects.keys() == without.objects.keys()
    # Nothing of it is remembered: the Deployment can be scaled afterwards.
    assert actions(lab.patch(WEB, {"spec": {"replicas": 1}}, "merge")) == ["patched"]
    assert lab.pods == ["alone", "web-0"]


def test_pods_that_go_with_their_owner_do_not_come_back(lab: Told) -> None:
    refs = [Ref("Pod", "default", "web-0"), WEB, Ref("Pod", "default", "nope")]
    assert actions(lab.delete([*refs, WEB_SERVICE])) == [
        "deleted",
        "deleted",
        "not found",
        "deleted",
    ]
    assert len(lab.went) == 1
    assert lab.pods == ["alone"]
    assert not lab.store.policy.services
    with pytest.raises(LabError, match="cannot be changed"):
        actions(lab.delete([Ref("Node", "", "node1")]))


def test_a_deployment_tells_how_many_are_ready(lab: Told) -> None:
    lab.store = lab.store.with_ready({("default", "web-0"): True, ("default", "web-1"): False})
    body = lab.body(WEB)
    assert body["status"] == {
        "replicas": 0,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "updatedReplicas": 0,
        "conditions": [{"type": "Available", "status": "False"}],
    }


def test_the_endpoints_that_kubernetes_would_write(lab: Told) -> None:
    lab.store = lab.store.with_ready({("default", "web-0"): True, ("default", "web-1"): False})
    [body] = lab.objects("Endpoints", "default")
    assert body["metadata"]["name"] == "web"
    pods = {key: str(pod.ip) for (_, key), pod in lab.store.policy.pods.items()}

    def address(pod: str, node: str) -> dict[str, Any]:
        ref = {"kind": "Pod", "namespace": "default", "name": pod}
        return {"ip": pods[pod], "nodeName": node, "targetRef": ref}

    nodes = {pod.name: pod.node for pod in lab.store.policy.pods.values()}
    assert body["subsets"] == [
        {
            "addresses": [address("web-0", nodes["web-0"])],
            "notReadyAddresses": [address("web-1", nodes["web-1"])],
            "ports": [{"port": 80, "protocol": "TCP"}],
        }
    ]
    assert lab.objects("Endpoints", "shop") == []


def test_endpoints_of_the_user_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYLB_RUN", str(tmp_path))
    given = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "db"},
        "subsets": [{"addresses": [{"ip": "203.0.113.9"}], "ports": [{"port": 5432}]}],
    }
    bare = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "db"},
        "spec": {"ports": [{"port": 5432}]},
    }
    [body] = Told(given, bare).objects("Endpoints", None)
    assert body["subsets"] == given["subsets"]


BALANCER = {**SERVICE, "spec": {**SERVICE["spec"], "type": "LoadBalancer"}}
POOL = {
    "apiVersion": "metallb.io/v1beta1",
    "kind": "IPAddressPool",
    "metadata": {"name": "p", "namespace": "metallb-system"},
    "spec": {"addresses": ["192.0.2.1/30"]},
}


def test_node_ports_stay_when_none_are_allocated_any_more(lab: Told) -> None:
    """As in Kubernetes, where they go with each port's own nodePort."""
    asyncio.run(lab.apply(from_bodies([BALANCER])))
    before = lab.store.policy.services[("default", "web")].ports
    assert before[0].node_port
    patch = {"spec": {"allocateLoadBalancerNodePorts": False}}
    assert actions(lab.patch(WEB_SERVICE, patch, "strategic")) == ["patched"]
    assert lab.store.policy.services[("default", "web")].ports == before


def test_who_deletes_a_pool_hears_who_has_lost_an_address(lab: Told) -> None:
    asyncio.run(lab.apply(from_bodies([POOL, BALANCER])))
    (address,) = lab.store.policy.services[("default", "web")].load_balancer_ips
    assert str(address) == "192.0.2.0", "host bits of a pool's prefix count for nothing"
    answer = asyncio.run(lab.delete([Ref("IPAddressPool", "metallb-system", "p")]))
    (warning,) = answer["warnings"]
    assert "Service default/web: " in warning
    assert lab.store.policy.services[("default", "web")].load_balancer_ips == ()
