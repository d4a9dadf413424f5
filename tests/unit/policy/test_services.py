"""What a Service's fields come to: addresses and ports given out, endpoints, hints, takers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pylb.policy.errors import ManifestError
from pylb.policy.model import Policy, Service, TrafficDistribution, TrafficPolicy
from pylb.policy.objects import Ref, from_bodies
from pylb.policy.store import Store, change
from tests.unit.policy.cluster import GOOD, objects, store

Body = dict[str, Any]


def service(name: str = "s", *, status: Body | None = None, **spec: Any) -> Body:
    meta: Body = {"name": name}
    for key in ("labels", "annotations"):
        if key in spec:
            meta[key] = spec.pop(key)
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}], **spec},
    }
    return {**body, "status": status} if status else body


def pool(name: str, *addresses: str, **spec: Any) -> Body:
    return {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": name, "namespace": "metallb-system"},
        "spec": {"addresses": list(addresses), **spec},
    }


def with_these(folder: Path, *bodies: Body) -> Store:
    return store(GOOD, folder=folder).apply(from_bodies(bodies))


def made(of: Store, name: str = "s") -> Service:
    return of.policy.services[("default", name)]


def addresses(of: Store, name: str = "s") -> list[str]:
    return [str(address) for address in made(of, name).load_balancer_ips]


BALANCER = {"type": "LoadBalancer"}


# LoadBalancer addresses


def test_an_address_is_given_by_status_or_spec_or_annotation(tmp_path: Path) -> None:
    ingress = [{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}, {"ip": "192.0.2.2"}]
    given = with_these(
        tmp_path,
        service("a", status={"loadBalancer": {"ingress": ingress}}, **BALANCER),
        service("b", loadBalancerIP="192.0.2.3", **BALANCER),
        service("c", annotations={"metallb.io/loadBalancerIPs": "192.0.2.4,::1"}, **BALANCER),
        service("d", loadBalancerIP="192.0.2.5"),
        service(
            "e",
            annotations={"metallb.io/loadBalancerIPs": "192.0.2.6"},
            loadBalancerIP="192.0.2.7",
            **BALANCER,
        ),
    )
    assert addresses(given, "a") == ["192.0.2.1", "192.0.2.2"]
    assert addresses(given, "b") == ["192.0.2.3"]
    assert addresses(given, "c") == ["192.0.2.4"]
    assert addresses(given, "d") == [], "a ClusterIP Service has none"
    assert addresses(given, "e") == ["192.0.2.7"], "the spec comes first"
    assert any("hostname: is not acted on" in w for w in given.warnings)


def test_an_address_in_mode_proxy_is_not_ours(tmp_path: Path) -> None:
    ingress = [{"ip": "192.0.2.1", "ipMode": "Proxy"}, {"ip": "192.0.2.2", "ipMode": "VIP"}]
    given = with_these(tmp_path, service(status={"loadBalancer": {"ingress": ingress}}, **BALANCER))
    assert addresses(given) == ["192.0.2.2"]


def test_pools_give_the_lowest_free_address_and_it_stays(tmp_path: Path) -> None:
    pools = pool("p", "192.0.2.250-192.0.2.252", "192.0.2.9/32")
    given = with_these(
        tmp_path,
        pools,
        service("b", **BALANCER),
        service("x", loadBalancerIP="192.0.2.251", **BALANCER),
    )
    assert addresses(given, "b") == ["192.0.2.250"]
    more = given.apply(from_bodies([service("a", **BALANCER), service("c", **BALANCER)]))
    assert addresses(more, "b") == ["192.0.2.250"]
    assert (addresses(more, "a"), addresses(more, "c")) == (["192.0.2.252"], ["192.0.2.9"])
    without = more.delete([Ref("Service", "default", "b")])
    full = without.apply(from_bodies([service(n, **BALANCER) for n in ("d", "e")]))
    assert (addresses(full, "d"), addresses(full, "e")) == (["192.0.2.250"], [])
    assert any("Service default/e: status.loadBalancer: has no address" in w for w in full.warnings)
    moved = full.apply(from_bodies([pool("p", "198.51.100.0/24")]))
    assert addresses(moved, "a") == ["198.51.100.0"], "its own is in no pool any more"


def test_a_pool_of_the_whole_underlay_gives_out_what_no_machine_has(tmp_path: Path) -> None:
    given = with_these(tmp_path, pool("p", "192.168.50.0-192.168.50.13"), service("a", **BALANCER))
    assert addresses(given, "a") == ["192.168.50.1"], "the first of all is the network's"
    names = [f"s{i}" for i in range(12)]
    full = given.apply(from_bodies([service(n, **BALANCER) for n in names]))
    found = {address for n in names for address in addresses(full, n)}
    assert found == {f"192.168.50.{i}" for i in (*range(2, 11), 13)}, "nodes have .11 and .12"


def test_a_pool_does_not_give_out_what_is_redirected(tmp_path: Path) -> None:
    """Elsewhere there is room; but whoever has the address keeps it."""
    balancer, pools = service(**BALANCER), pool("p", "192.0.2.1-192.0.2.5")
    matcher = {"addressMatcher": {"ip": "192.0.2.1"}}
    beside, redirect = (paired(matcher, {"": port}, {"": 8080}) for port in (9999, 80))
    found = with_these(tmp_path, pools, balancer)
    assert addresses(found) == ["192.0.2.1"]
    assert addresses(found.apply(from_bodies([beside]))) == ["192.0.2.1"]
    assert addresses(with_these(tmp_path, pools, balancer, redirect)) == ["192.0.2.2"]


def test_which_pool_a_service_is_given_an_address_from(tmp_path: Path) -> None:
    given = with_these(
        tmp_path,
        pool("asked", "192.0.2.0/30", autoAssign=False),
        pool("buggy", "198.51.100.0/24", avoidBuggyIPs=True),
        pool(
            "shop",
            "203.0.113.0/30",
            serviceAllocation={"priority": 5, "serviceSelectors": [{"matchLabels": {"app": "s"}}]},
        ),
        pool("first", "203.0.113.8/30", serviceAllocation={"priority": 1, "namespaces": ["x"]}),
        service("a", annotations={"metallb.io/address-pool": "asked"}, **BALANCER),
        service("b", **BALANCER),
        service("c", labels={"app": "s"}, **BALANCER),
        service("d", annotations={"metallb.io/address-pool": "nowhere"}, **BALANCER),
    )
    assert addresses(given, "a") == ["192.0.2.0"]
    assert addresses(given, "b") == ["198.51.100.1"]
    assert addresses(given, "c") == ["203.0.113.0"]
    assert addresses(given, "d") == []


def test_the_lab_has_pools_too(tmp_path: Path) -> None:
    lab = "apiVersion: pylb.io/v1alpha1\nkind: Lab\nspec: {addressPools: [POOL]}\n"
    text = lab.replace("POOL", "{name: default, addresses: [192.168.50.200-192.168.50.210]}")
    given = store(GOOD, text, folder=tmp_path).apply(from_bodies([service(**BALANCER)]))
    assert addresses(given) == ["192.168.50.200"]
    again = Store.empty().apply(from_bodies(given.bodies()))
    assert again.policy.lab == given.policy.lab


@pytest.mark.parametrize(
    ("owner", "thief", "message"),
    [
        (
            {},
            {"clusterIP": "10.96.0.2"},
            "spec.clusterIP: 10.96.0.2 is Service default/s's already",
        ),
        (
            {"type": "NodePort"},
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]},
            "spec.ports[0].nodePort: 30000 is Service default/s's already",
        ),
        (
            {"externalTrafficPolicy": "Local", **BALANCER},
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]},
            "spec.ports[0].nodePort: 30001 is Service default/s's already",
        ),
        (
            BALANCER,
            {"loadBalancerIP": "192.0.2.8", **BALANCER},
            "spec.loadBalancerIP: 192.0.2.8:80/TCP is Service default/s's already",
        ),
    ],
)
def test_what_was_given_out_cannot_be_asked_for(
    owner: Body, thief: Body, message: str, tmp_path: Path
) -> None:
    """It is whoever comes later that is wrong, whatever its name."""
    base = with_these(tmp_path, pool("p", "192.0.2.8/29"), service("s", **owner))
    for name in ("a", "z"):
        with pytest.raises(ManifestError) as error:
            base.apply(from_bodies([service(name, **thief)]))
        (problem,) = error.value.problems
        said = f"{problem.field}: {problem.message}"
        assert (problem.object, said) == (f"Service default/{name}", message)


def test_a_pools_address_may_be_shared_by_another_port(tmp_path: Path) -> None:
    own, ports = service("s", **BALANCER), [{"port": 81}]
    other = service("t", loadBalancerIP="192.0.2.8", ports=ports, **BALANCER)
    given = with_these(tmp_path, pool("p", "192.0.2.8/29"), own).apply(from_bodies([other]))
    assert addresses(given, "s") == addresses(given, "t") == ["192.0.2.8"]


# Node ports


def test_a_load_balancer_may_do_without_node_ports(tmp_path: Path) -> None:
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30099}]
    given = with_these(
        tmp_path,
        service("with", **BALANCER),
        service("without", allocateLoadBalancerNodePorts=False, ports=ports, **BALANCER),
    )
    assert [p.node_port for p in made(given, "with").ports] == [30000]
    assert [p.node_port for p in made(given, "without").ports] == [0, 30099]


def test_health_check_ports_are_given_out_among_node_ports_and_kept(tmp_path: Path) -> None:
    local = {"externalTrafficPolicy": "Local", **BALANCER}
    given = with_these(
        tmp_path,
        service("np", type="NodePort"),
        service("k", **local),
        service("b", healthCheckNodePort=30005, **local),
        service("c", **BALANCER),
    )
    ports = {n: made(given, n).health_check_node_port for n in ("k", "b", "c", "np")}
    taken = {p.node_port for n in ports for p in made(given, n).ports}
    assert (ports["b"], ports["c"], ports["np"]) == (30005, 0, 0)
    assert ports["k"] not in taken
    assert ports["k"] in range(30000, 32768)
    more = given.apply(from_bodies([service("a", **local)]))
    assert made(more, "k").health_check_node_port == ports["k"]
    assert made(more, "a").health_check_node_port not in taken | set(ports.values())


# Fields as they are


def test_affinity_policies_and_ranges(tmp_path: Path) -> None:
    given = with_these(
        tmp_path,
        service("plain"),
        service(
            "all",
            sessionAffinity="ClientIP",
            internalTrafficPolicy="Local",
            loadBalancerSourceRanges=["10.1.2.3/8", "192.0.2.0/24"],
            externalIPs=["198.51.100.9", "198.51.100.9"],
            trafficDistribution="PreferClose",
            publishNotReadyAddresses=True,
            **BALANCER,
        ),
        service(
            "short",
            sessionAffinity="ClientIP",
            sessionAffinityConfig={"clientIP": {"timeoutSeconds": 7}},
            annotations={"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8"},
            **BALANCER,
        ),
    )
    plain, every, short = (made(given, name) for name in ("plain", "all", "short"))
    assert (plain.affinity, every.affinity, short.affinity) == (0, 10800, 7)
    assert every.internal_traffic_policy is TrafficPolicy.LOCAL
    assert [str(r) for r in every.source_ranges] == ["10.0.0.0/8", "192.0.2.0/24"]
    assert [str(r) for r in short.source_ranges] == ["10.0.0.0/8"]
    assert [str(a) for a in every.external_ips] == ["198.51.100.9"]
    assert every.traffic_distribution is TrafficDistribution.SAME_ZONE
    assert every.publish_not_ready
    again = Store.empty().apply(from_bodies(given.bodies()))
    assert again.policy.services == given.policy.services


def test_app_protocols_and_families_change_nothing(tmp_path: Path) -> None:
    port = {"port": 80, "targetPort": "http", "appProtocol": "kubernetes.io/h2c"}
    one_family = {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack"}
    given = with_these(tmp_path, service(ports=[port], **one_family))
    assert made(given) == made(with_these(tmp_path, service()))
    assert not given.warnings


def test_a_headless_service_has_its_endpoints_listed(tmp_path: Path) -> None:
    given = with_these(tmp_path, service(clusterIP="None"))
    assert made(given).cluster_ip is None
    listed = [body for body in given.bodies("EndpointSlice") if "s-" in body["metadata"]["name"]]
    assert [e["addresses"] for body in listed for e in body["endpoints"]] == [
        ["10.244.1.2"],
        ["10.244.2.2"],
    ]


# Endpoints


def endpoints(policy: Policy, name: str = "s") -> list[tuple[str, bool, bool]]:
    return [
        (str(e.address), e.ready, e.serving)
        for each in policy.slices[("default", name)]
        for e in each.endpoints
    ]


def test_not_ready_addresses_are_published_as_ready(tmp_path: Path) -> None:
    given = with_these(tmp_path, service(publishNotReadyAddresses=True), service("other"))
    unready = given.with_ready({("default", "web-1"): False})
    assert endpoints(unready.policy)[0] == ("10.244.1.2", True, False)
    assert endpoints(unready.policy, "other")[0] == ("10.244.1.2", False, False)


ZONED = GOOD.replace("{name: node1, labels: {zone: a}}", "{name: node1, labels: {Z: a}}").replace(
    "{name: node2}", "{name: node2, labels: {Z: b}}"
)


@pytest.mark.parametrize(
    ("wanted", "zones", "nodes"),
    [
        (None, [(), ()], [(), ()]),
        ("PreferClose", [("a",), ("b",)], [(), ()]),
        ("PreferSameZone", [("a",), ("b",)], [(), ()]),
        ("PreferSameNode", [("a",), ("b",)], [("node1",), ("node2",)]),
    ],
)
def test_hints_follow_from_the_traffic_distribution(
    tmp_path: Path, wanted: str | None, zones: object, nodes: object
) -> None:
    text = ZONED.replace("Z: ", "topology.kubernetes.io/zone: ")
    spec = {"trafficDistribution": wanted} if wanted else {}
    given = store(text, folder=tmp_path).apply(from_bodies([service(**spec)]))
    found = [e for s in given.policy.slices[("default", "s")] for e in s.endpoints]
    assert [e.for_zones for e in found] == zones
    assert [e.for_nodes for e in found] == nodes
    [first, *_] = given.bodies("EndpointSlice")
    assert ("hints" in first["endpoints"][0]) == (wanted is not None)


def test_hints_of_the_users_own_slices_are_read(tmp_path: Path) -> None:
    text = """
    apiVersion: v1
    kind: Service
    metadata: {name: ext}
    spec: {ports: [{port: 80}]}
    ---
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {name: e, labels: {kubernetes.io/service-name: ext}}
    addressType: IPv4
    endpoints:
      - addresses: [203.0.113.9]
        zone: a
        hints: {forZones: [{name: a}, {name: b}], forNodes: [{name: node1}]}
    ports: [{port: 80}]
    """
    given = store(GOOD, text, folder=tmp_path)
    ((endpoint,),) = [s.endpoints for s in given.policy.slices[("default", "ext")]]
    assert (endpoint.for_zones, endpoint.for_nodes) == (("a", "b"), ("node1",))
    assert not [w for w in given.warnings if "hints" in w]


# Who takes what comes from outside


def test_who_has_flows_is_not_cut_off(tmp_path: Path) -> None:
    """A terminating endpoint that serves, and one that is not ready while there is no other."""
    text = """
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {name: s, labels: {kubernetes.io/service-name: s}}
    addressType: IPv4
    endpoints:
      - {addresses: [10.244.1.2], conditions: {ready: false, serving: SERVING, terminating: true}}
      - {addresses: [10.244.2.2], conditions: {ready: READY, serving: READY}}
    ports: [{port: 80}]
    """
    exposed = {"externalIPs": ["198.51.100.9"], "externalTrafficPolicy": "Local"}
    both = ("node1", "node2")
    for serving, ready, expected in (
        ("true", "true", both),
        ("true", "false", ("node1",)),
        ("false", "true", ("node2",)),
        ("false", "false", both),
    ):
        given = text.replace("SERVING", serving).replace("READY", ready)
        made = store(GOOD, given, folder=tmp_path)
        made = made.apply(from_bodies([service("s", selector=None, **exposed)]))
        assert made.policy.takers["default", "s"] == expected


def test_takers_are_all_nodes_or_those_with_a_ready_endpoint(tmp_path: Path) -> None:
    given = with_these(
        tmp_path,
        pool("p", "192.0.2.0/24"),
        service("inside"),
        service("cluster", **BALANCER),
        service("local", externalTrafficPolicy="Local", **BALANCER),
        service("external", externalIPs=["198.51.100.9"], externalTrafficPolicy="Local"),
    )
    takers = {key[1]: nodes for key, nodes in given.policy.takers.items()}
    both = ("node1", "node2")
    assert takers == {"cluster": both, "local": both, "external": both}
    after = given.with_ready({("default", "web-1"): False, ("default", "web-2"): True})
    takers = {key[1]: nodes for key, nodes in after.policy.takers.items()}
    assert takers == {"cluster": both, "local": ("node2",), "external": ("node2",)}
    named = change(given, after).services
    assert {("default", "local"), ("default", "external")} <= named


# Redirection


REDIRECT = """
apiVersion: cilium.io/v2
kind: CiliumLocalRedirectPolicy
metadata: {name: nginx}
spec:
  redirectFrontend:
    addressMatcher: {ip: 10.10.10.10, toPorts: [{port: "8080", protocol: TCP}]}
  redirectBackend:
    localEndpointSelector: {matchLabels: {"k8s:app": web}}
    toPorts: [{port: "80", protocol: TCP}]
"""


def test_a_redirected_address(tmp_path: Path) -> None:
    given = store(GOOD, REDIRECT, folder=tmp_path)
    (redirect,) = given.policy.redirects.values()
    assert str(redirect.address) == "10.10.10.10"
    assert [p.port for p in (*redirect.ports, *redirect.targets)] == [8080, 80]
    assert [(e.node, e.ready) for e in redirect.endpoints] == [("node1", True), ("node2", True)]
    after = given.with_ready({("default", "web-1"): False, ("default", "web-2"): True})
    (redirect,) = after.policy.redirects.values()
    assert [e.ready for e in redirect.endpoints] == [False, True]
    assert change(given, after).redirects == {("default", "nginx")}
    assert Store.empty().apply(from_bodies(given.bodies())).policy.redirects == (
        given.policy.redirects
    )


@pytest.mark.parametrize(
    ("selector", "nodes"),
    [
        ("{}", ["node1", "node2"]),
        ("{matchExpressions: [{key: app, operator: Exists}]}", ["node1", "node2"]),
        ("{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}", []),
        ('{matchLabels: {"k8s:app": web, "any:app": other}}', []),
    ],
)
def test_pods_of_a_redirection(selector: str, nodes: list[str], tmp_path: Path) -> None:
    text = REDIRECT.replace('{matchLabels: {"k8s:app": web}}', selector)
    (redirect,) = store(GOOD, text, folder=tmp_path).policy.redirects.values()
    assert [endpoint.node for endpoint in redirect.endpoints] == nodes


def test_pods_are_indexed_anew_only_when_they_changed(tmp_path: Path) -> None:
    given = store(GOOD, REDIRECT, folder=tmp_path)
    assert given.built is not None
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "other-1", "labels": {"kubernetes.io/service-name": "other"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.9"]}],
    }
    same = given.apply(from_bodies([body]))
    assert same.built is not None
    assert same.built.index is given.built.index
    other = given.with_ready({("default", "web-1"): False, ("default", "web-2"): True})
    assert other.built is not None
    pod = other.built.index.at(other.policy.pods["default", "web-1"].ip)
    assert pod is not None
    assert pod.ready is False


def test_a_redirected_service(tmp_path: Path) -> None:
    text = REDIRECT.replace(
        "addressMatcher: {ip: 10.10.10.10, toPorts", "serviceMatcher: {serviceName: web, SKIP"
    ).replace('SKIP: [{port: "8080", protocol: TCP}]', "namespace: default")
    given = store(GOOD, text, folder=tmp_path)
    assert not given.policy.redirects
    assert set(given.policy.redirected) == {("default", "web")}
    after = given.with_ready({("default", "web-1"): False, ("default", "web-2"): True})
    assert ("default", "web") in change(given, after).services
    missing = store(GOOD, text.replace("serviceName: web", "serviceName: x"), folder=tmp_path)
    assert any("there is no Service default/x" in w for w in missing.warnings)
    gone = given.delete([Ref("CiliumLocalRedirectPolicy", "default", "nginx")])
    assert not gone.policy.redirected


def paired(matcher: Body, ports: Body, targets: Body) -> Body:
    """A policy; ports are number by name, "" for none."""
    spelled = [
        [
            {"port": str(number), "protocol": "TCP", **({"name": name} if name else {})}
            for name, number in side.items()
        ]
        for side in (ports, targets)
    ]
    (kind,) = matcher
    frontend = {kind: {**matcher[kind], **({"toPorts": spelled[0]} if ports else {})}}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumLocalRedirectPolicy",
        "metadata": {"name": "r"},
        "spec": {
            "redirectFrontend": frontend,
            "redirectBackend": {
                "localEndpointSelector": {"matchLabels": {"app": "web"}},
                "toPorts": spelled[1],
            },
        },
    }


TO_ADDRESS: Body = {"addressMatcher": {"ip": "10.10.10.10"}}
TO_SERVICE: Body = {"serviceMatcher": {"serviceName": "s", "namespace": "default"}}
NOWHERE = "is not redirected: no backend port has its name and protocol"
NOTHING = "no redirected port has its name and protocol"
BACKEND = "spec.redirectBackend.toPorts"


@pytest.mark.parametrize(
    ("matcher", "ports", "targets", "sentences"),
    [
        (TO_ADDRESS, {"a": 1, "b": 2}, {"a": 1, "b": 2}, []),
        (TO_ADDRESS, {"": 1}, {"": 2}, []),
        (
            TO_ADDRESS,
            {"a": 1, "b": 2},
            {"a": 3, "c": 4},
            [
                f"spec.redirectFrontend.addressMatcher.toPorts[1]: 2/TCP (b) {NOWHERE}",
                f"{BACKEND}[1]: nothing is redirected to 4/TCP (c): {NOTHING}",
            ],
        ),
        (
            TO_ADDRESS,
            {"a": 1, "b": 1},
            {"a": 1, "b": 2},
            [
                "spec.redirectFrontend.addressMatcher.toPorts[1]: 1/TCP (b) is at "
                "spec.redirectFrontend.addressMatcher.toPorts[0] too: "
                "only one of them is in force"
            ],
        ),
        (TO_SERVICE, {"x": 80, "y": 81}, {"x": 1, "y": 1}, []),
        (
            TO_SERVICE,
            {"x": 80, "y": 82},
            {"x": 1, "y": 1},
            ["spec.redirectFrontend.serviceMatcher.toPorts[1]: the Service has no port 82/TCP"],
        ),
        # Without toPorts every port of the Service is redirected, by its own name.
        (TO_SERVICE, {}, {"p": 1, "q": 2}, []),
        (TO_SERVICE, {}, {"p": 1}, [f"{BACKEND}: 81/TCP (q) {NOWHERE}"]),
    ],
)
def test_ports_of_a_redirection_that_lead_nowhere_are_named(
    matcher: Body, ports: Body, targets: Body, sentences: list[str], tmp_path: Path
) -> None:
    two = [{"name": "p", "port": 80}, {"name": "q", "port": 81}]
    given = with_these(tmp_path, service(ports=two), paired(matcher, ports, targets))
    about = "CiliumLocalRedirectPolicy default/r: "
    assert [w.partition(about)[2] for w in given.warnings] == sentences


def test_a_redirected_port_that_is_there_twice_is_named(tmp_path: Path) -> None:
    policy = paired(TO_ADDRESS, {"a": 1}, {"a": 1})
    port = {"port": "80", "protocol": "TCP"}
    at = "spec.redirectFrontend.addressMatcher.toPorts"
    for first, second, sentences in (
        (port, port, ["[1].port: 80/TCP is there twice"]),
        (port, {**port, "port": "81"}, []),
        ({**port, "name": "A"}, {**port, "name": "a"}, ["[1].name: a/TCP is there twice"]),
    ):
        policy["spec"]["redirectFrontend"]["addressMatcher"]["toPorts"] = [first, second]
        with pytest.raises(ManifestError) as found:
            with_these(tmp_path, policy)
        twice = [str(p) for p in found.value.problems if "twice" in str(p)]
        assert [p.partition(at)[2] for p in twice] == sentences


def test_objects_of_both_kinds_are_listed(tmp_path: Path) -> None:
    text = "---\n".join((REDIRECT, str(pool("p", "192.0.2.0/24")) + "\n"))
    given = store(GOOD, text, folder=tmp_path)
    kinds = [body["kind"] for body in given.bodies()]
    assert {"CiliumLocalRedirectPolicy", "IPAddressPool"} <= set(kinds)
    assert objects(text, folder=tmp_path)[0].ref in given.objects
