"""Every kind of bad manifest gets a sentence that says where and what was expected.

Services have theirs in test_bad_services.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pylb.policy.errors import ManifestError
from pylb.policy.objects import Ref, read
from pylb.policy.store import read_all
from tests.unit.policy.cluster import GOOD, objects, problems, store
from tests.unit.policy.manifests import (
    ADDRESS,
    PORT,
    lab,
    node,
    pod,
    pool,
    redirect,
    service,
    with_ip,
)

BAD = {
    "a pool inside another": (
        pool(["192.0.2.0/24"]) + "---\n" + pool(["192.0.2.9/32"]).replace("name: p", "name: q"),
        "f1.yaml: document 2: IPAddressPool default/q: spec.addresses: "
        "192.0.2.9-192.0.2.9 overlaps 192.0.2.0-192.0.2.255 of pool 'p'",
    ),
    "a pool that repeats itself": (
        pool(["192.0.2.0-192.0.2.9", "192.0.2.9-192.0.2.19"]),
        "f1.yaml: document 1: IPAddressPool default/p: spec.addresses: "
        "192.0.2.9-192.0.2.19 overlaps 192.0.2.0-192.0.2.9 of pool 'p'",
    ),
    "a pool of cluster IPs": (
        pool(["10.96.7.0/24"]),
        "f1.yaml: document 1: IPAddressPool default/p: spec.addresses: "
        "10.96.7.0-10.96.7.255 overlaps the service CIDR 10.96.0.0/12",
    ),
    "a pool of pods' addresses": (
        lab({"addressPools": [{"name": "a", "addresses": ["10.244.2.128/25"]}]}),
        "f1.yaml: document 1: Lab lab: spec.addressPools[0].addresses: "
        "10.244.2.128-10.244.2.255 overlaps podCIDR 10.244.2.0/24 of Node node2",
    ),
    "two pools of one name": (
        pool(["192.0.2.0/25"])
        + "---\n"
        + pool(["192.0.2.128/25"]).replace("name: p", "name: p, namespace: other"),
        "f1.yaml: document 2: IPAddressPool other/p: metadata.name: there is a pool 'p' already",
    ),
    "two redirections of one Service": (
        redirect({"serviceMatcher": {"serviceName": "web", "namespace": "default"}})
        + "---\n"
        + redirect({"serviceMatcher": {"serviceName": "web", "namespace": "default"}}, name="r2"),
        "f1.yaml: document 2: CiliumLocalRedirectPolicy default/r2: "
        "spec.redirectFrontend.serviceMatcher: "
        "is redirected by CiliumLocalRedirectPolicy default/r already",
    ),
    "a pool of nothing": (
        pool([]),
        "f1.yaml: document 1: IPAddressPool default/p: spec.addresses: expected at least one range",
    ),
    "a pool whose range ends before it begins": (
        pool(["192.0.2.9-192.0.2.1"]),
        "f1.yaml: document 1: IPAddressPool default/p: spec.addresses[0]: expected a range such "
        "as 10.0.0.0/24 or 10.0.0.10-10.0.0.20, got '192.0.2.9-192.0.2.1'",
    ),
    "a redirection of nothing": (
        redirect({}),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: spec.redirectFrontend: "
        "expected addressMatcher or serviceMatcher",
    ),
    "a redirection of both": (
        redirect(ADDRESS | {"serviceMatcher": {"serviceName": "web", "namespace": "default"}}),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: spec.redirectFrontend: "
        "addressMatcher and serviceMatcher may not both be set",
    ),
    "a redirection of a Service elsewhere": (
        redirect({"serviceMatcher": {"serviceName": "web", "namespace": "kube-system"}}),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: "
        "spec.redirectFrontend.serviceMatcher.namespace: expected the policy's own, default",
    ),
    "a redirected port as a number": (
        redirect({"addressMatcher": {"ip": "10.10.10.10", "toPorts": [{**PORT, "port": 80}]}}),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: "
        "spec.redirectFrontend.addressMatcher.toPorts[0].port: "
        'expected a port number as text, such as "8080", got 80',
    ),
    "several redirected ports without names": (
        redirect(
            {"addressMatcher": {"ip": "10.10.10.10", "toPorts": [PORT | {"name": "a"}, PORT]}},
            to=[PORT | {"name": "a"}],
        ),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: "
        "spec.redirectFrontend.addressMatcher.toPorts[1].name: is required",
    ),
    "a redirection to another protocol": (
        redirect(ADDRESS, to=[PORT | {"protocol": "UDP"}]),
        "f1.yaml: document 1: CiliumLocalRedirectPolicy default/r: "
        "spec.redirectBackend.toPorts[0].protocol: expected the frontend's, TCP, got UDP",
    ),
    "an address redirected twice": (
        redirect(ADDRESS) + "---\n" + redirect(ADDRESS, name="r2"),
        "f1.yaml: document 2: CiliumLocalRedirectPolicy default/r2: "
        "spec.redirectFrontend.addressMatcher: "
        "10.10.10.10:80/TCP is CiliumLocalRedirectPolicy default/r's already",
    ),
    "a Service's address redirected": (
        service(clusterIP="10.96.0.9")
        + "---\n"
        + redirect({"addressMatcher": {"ip": "10.96.0.9", "toPorts": [PORT]}}),
        "f1.yaml: document 2: CiliumLocalRedirectPolicy default/r: "
        "spec.redirectFrontend.addressMatcher: 10.96.0.9:80/TCP is Service default/s's already",
    ),
    "a podCIDR that overlaps another": (
        node("node3", "10.244.1.128/25", "192.168.50.13"),
        "f1.yaml: document 1: Node node3: spec.podCIDR: "
        "10.244.1.128/25 overlaps 10.244.1.0/24 of Node node1",
    ),
    "a podCIDR that overlaps the underlay": (
        node("node3", "192.168.50.128/25", "192.168.50.13"),
        "f1.yaml: document 1: Node node3: spec.podCIDR: "
        "192.168.50.128/25 overlaps the underlay 192.168.50.0/24",
    ),
    "a podCIDR with host bits": (
        node("node3", "10.244.3.1/24", "192.168.50.13"),
        "f1.yaml: document 1: Node node3: spec.podCIDR: "
        "expected an IPv4 prefix such as 10.244.1.0/24, got '10.244.3.1/24'",
    ),
    "a podCIDR without room": (
        node("node3", "10.244.3.0/31", "192.168.50.13"),
        "f1.yaml: document 1: Node node3: spec.podCIDR: "
        "10.244.3.0/31 is too small: expected a prefix of at most 30 bits",
    ),
    "two nodes with one address": (
        node("node3", "10.244.3.0/24", "192.168.50.11"),
        "f1.yaml: document 1: Node node3: status.addresses: 192.168.50.11 is Node node1's already",
    ),
    "a node with the router's address": (
        node("node3", "10.244.3.0/24", "192.168.50.254"),
        "f1.yaml: document 1: Node node3: status.addresses: 192.168.50.254 is the router's already",
    ),
    "nodes that share no /24": (
        node("node3", "10.244.3.0/24", "192.168.51.13"),
        "<lab>: Lab: spec.underlay.subnet: no /24 holds every InternalIP "
        "(192.168.50.11, 192.168.50.12, 192.168.51.13): give one in a Lab document",
    ),
    "an unknown node": (
        pod("p", nodeName="node9"),
        "f1.yaml: document 1: Pod default/p: spec.nodeName: "
        "there is no node 'node9' (there are: node1, node2)",
    ),
    "a nodeSelector that nothing matches": (
        pod("p", nodeName="", nodeSelector={"zone": "z"}),
        "f1.yaml: document 1: Pod default/p: spec.nodeSelector: no node has the labels zone=z",
    ),
    "a pod IP outside its CIDR": (
        with_ip(pod("p"), "10.244.2.9"),
        "f1.yaml: document 1: Pod default/p: status.podIP: "
        "10.244.2.9 is outside podCIDR 10.244.1.0/24 of node node1",
    ),
    "a pod with the bridge's address": (
        with_ip(pod("p"), "10.244.1.1"),
        "f1.yaml: document 1: Pod default/p: status.podIP: "
        "10.244.1.1 is reserved: .0 is the tunnel end, .1 the bridge",
    ),
    "two pods with one IP": (
        with_ip(pod("p"), "10.244.1.9") + "---\n" + with_ip(pod("q"), "10.244.1.9"),
        "f1.yaml: document 2: Pod default/q: status.podIP: 10.244.1.9 is Pod default/p's already",
    ),
    "a pod named like a node": (
        pod("node1"),
        "f1.yaml: document 1: Pod default/node1: metadata.name: 'node1' is the name of a node",
    ),
    "a pod named client": (
        pod("client"),
        "f1.yaml: document 1: Pod default/client: metadata.name: "
        "'client' is the name of the lab's own",
    ),
    "a pod with a bad name": (
        pod("No_Name"),
        "f1.yaml: document 1: Pod default/No_Name: metadata.name: "
        "expected a DNS name (a-z, 0-9, -, .), got 'No_Name'",
    ),
    "a pod on the host's network": (
        pod("p", hostNetwork=True),
        "f1.yaml: document 1: Pod default/p: spec.hostNetwork: "
        "is not supported: the pod needs a network namespace of its own",
    ),
    "a pod without containers": (
        pod("p", containers=[]),
        "f1.yaml: document 1: Pod default/p: spec.containers: expected at least one container",
    ),
    "an unknown scheduler": (
        lab({"scheduler": "fast"}),
        "f1.yaml: document 1: Lab lab: spec.scheduler: "
        "expected one of random, rr, wrr, lc, wlc, sh, mh, got 'fast'",
    ),
    "a Maglev table whose size is no prime": (
        lab({"maglevTableSize": 65536}),
        "f1.yaml: document 1: Lab lab: spec.maglevTableSize: "
        "expected a prime, such as 65537, got 65536",
    ),
    "a weight that is none": (
        pod("p").replace("{name: p}", "{name: p, annotations: {pylb.io/weight: heavy}}"),
        "f1.yaml: document 1: Pod default/p: "
        """metadata.annotations["pylb.io/weight"]: """
        "expected a number from 0 to 65535, got 'heavy'",
    ),
    "an unknown overlay": (
        lab({"overlay": {"type": "gre"}}),
        "f1.yaml: document 1: Lab lab: spec.overlay.type: "
        "expected one of vxlan, udp, host-gw, got 'gre'",
    ),
    "a client outside the underlay": (
        lab({"underlay": {"client": "10.0.0.1"}}),
        "f1.yaml: document 1: Lab lab: spec.underlay.client: "
        "10.0.0.1 is outside the underlay 192.168.50.0/24",
    ),
    "the wrong API version": (
        "apiVersion: v2\nkind: Service\nmetadata: {name: s}\n",
        "f1.yaml: document 1: Service default/s: apiVersion: expected v1, got 'v2'",
    ),
    "no kind": (
        "apiVersion: v1\nmetadata: {name: s}\n",
        "f1.yaml: document 1: kind: expected the object's kind, such as Service",
    ),
    "no name": (
        "apiVersion: v1\nkind: Service\n",
        "f1.yaml: document 1: Service: metadata.name: expected the object's name",
    ),
    "not an object": (
        "just text\n",
        "f1.yaml: document 1: expected a Kubernetes object, got text",
    ),
    "not YAML": (
        "kind: [\n",
        "f1.yaml: line 2: not YAML: did not find expected node content",
    ),
    "a key that is there twice": (
        "kind: Service\nkind: Pod\n",
        "f1.yaml: line 2: not YAML: the key 'kind' is there twice",
    ),
    "an object that is there already": (
        pod("web-1"),
        "f1.yaml: document 1: Pod default/web-1: is there twice; "
        "it stands in f0.yaml, document 3 already",
    ),
    "an endpoint on loopback": (
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: ext}\n"
        "subsets: [{addresses: [{ip: 127.0.0.1}], ports: [{port: 80}]}]\n---\n" + service("ext"),
        "f1.yaml: document 1: Endpoints default/ext: endpoints: "
        "127.0.0.1 is not the address of an endpoint",
    ),
    "a slice of no Service": (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\n"
        "addressType: IPv4\nendpoints: []\nports: []\n",
        "f1.yaml: document 1: EndpointSlice default/x: "
        'metadata.labels["kubernetes.io/service-name"]: is required: the Service\'s name',
    ),
}


@pytest.mark.parametrize(("text", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_manifest_is_told_by_file_document_object_and_field(
    text: str, sentence: str, tmp_path: Path
) -> None:
    assert problems(GOOD, text, folder=tmp_path) == [sentence]


def test_the_good_cluster_is_good(tmp_path: Path) -> None:
    assert problems(GOOD, folder=tmp_path) == []
    assert store(GOOD, folder=tmp_path).warnings == ()


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    bad = service(ports=[{"port": 0}], clusterIP="x") + "---\n" + pod("p", hostNetwork=True)
    found = problems(GOOD, bad, service("t", type="x"), folder=tmp_path)
    assert len(found) == 4
    assert [line.split(":")[0] for line in found] == ["f1.yaml", "f1.yaml", "f1.yaml", "f2.yaml"]


def test_one_kind_of_problem_does_not_hide_another(tmp_path: Path) -> None:
    """An object that cannot be read, a field that is wrong, and two that contradict each other."""
    mixed = service("a", clusterIP="10.96.0.9") + "---\n" + service("b", clusterIP="10.96.0.9")
    found = problems(GOOD, mixed, service("t", type="x"), folder=tmp_path)
    assert [line.split(": ")[-1] for line in found] == [
        "expected one of ClusterIP, NodePort, LoadBalancer, ExternalName, got 'x'",
        "10.96.0.9 is Service default/a's already",
    ]
    (tmp_path / "g0.yaml").write_text("kind: Pod\n")
    (tmp_path / "g1.yaml").write_text(service("t", type="x"))
    with pytest.raises(ManifestError) as error:
        read_all([tmp_path / "g0.yaml", tmp_path / "g1.yaml"])
    assert len(error.value.problems) == 2


def test_a_podcidr_can_be_used_up(tmp_path: Path) -> None:
    small = node("small", "10.244.3.0/30", "192.168.50.13")
    pods = [pod(name, nodeName="small") for name in ("a", "b")]
    assert problems(GOOD, small, *pods, folder=tmp_path) == [
        "f3.yaml: document 1: Pod default/b: spec.nodeName: "
        "podCIDR 10.244.3.0/30 of node small has no free address left"
    ]


def test_a_store_needs_a_node(tmp_path: Path) -> None:
    assert problems(service(), folder=tmp_path) == ["<policy>: expected at least one Node"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.yaml: cannot be read: No such file"):
        read([tmp_path / "none.yaml"])


def test_a_folder_without_manifests(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no file in it ends in \.yaml, \.yml, \.json"):
        read([tmp_path])


def test_a_bad_apply_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    good = store(GOOD, folder=tmp_path)
    before = good.policy
    with pytest.raises(ManifestError):
        good.apply(objects(service("s", clusterIP="10.1.0.1"), folder=tmp_path))
    assert good.policy is before


def test_deleting_what_is_not_there(tmp_path: Path) -> None:
    good = store(GOOD, folder=tmp_path)
    with pytest.raises(ManifestError, match="Pod default/none: there is no such object"):
        good.delete([Ref("Pod", "default", "none")])


def test_a_node_that_pods_need_cannot_be_deleted(tmp_path: Path) -> None:
    good = store(GOOD, folder=tmp_path)
    with pytest.raises(ManifestError, match="there is no node 'node2'"):
        good.delete([Ref("Node", "", "node2")])


def test_one_bad_object_among_good_ones_changes_nothing(tmp_path: Path) -> None:
    before = store(GOOD, folder=tmp_path)
    policy = before.policy
    good, bad = service("good"), service("bad", externalTrafficPolicy="Local")
    for text in (f"{good}---\n{bad}", f"{bad}---\n{good}"):
        with pytest.raises(ManifestError):
            before.apply(objects(text, folder=tmp_path))
    assert before.policy is policy
    assert before.policy == store(GOOD, folder=tmp_path).policy
