"""What good manifests come to: addresses, endpoints, warnings, and the way back to YAML."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pylb.plan.compile import apply as plan_apply
from pylb.plan.compile import compile as compile_plan
from pylb.plan.compile import update
from pylb.policy.loader import load_documents
from pylb.policy.model import Endpoint, EndpointPort, Overlay, Protocol
from pylb.policy.objects import Ref, from_bodies
from pylb.policy.store import Store, change
from tests.unit.policy.cluster import GOOD, objects, store

WEB = ("default", "web")


def pod_body(name: str, node: str = "", labels: dict[str, str] | None = None) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {
            **({"nodeName": node} if node else {}),
            "containers": [{"image": "pause", "ports": [{"name": "http", "containerPort": 80}]}],
        },
    }


def test_defaults_of_the_lab(tmp_path: Path) -> None:
    lab = store(GOOD, folder=tmp_path).policy.lab
    assert str(lab.underlay) == "192.168.50.0/24"
    assert (str(lab.router_ip), str(lab.client_ip)) == ("192.168.50.254", "192.168.50.253")
    assert (lab.mtu, lab.overlay, lab.udp_port) == (1500, Overlay.VXLAN, 8472)
    assert [(h.name, str(h.ip)) for h in lab.outside] == [("internet", "203.0.113.80")]


def test_the_overlay_flag_wins_over_the_document(tmp_path: Path) -> None:
    lab = "apiVersion: pylb.io/v1alpha1\nkind: Lab\nspec: {overlay: {type: vxlan, port: 4789}}\n"
    made = Store.empty(Overlay.UDP).apply(objects(GOOD, lab, folder=tmp_path))
    assert (made.policy.lab.overlay, made.policy.lab.udp_port) == (Overlay.UDP, 8285)
    kept = store(GOOD, lab, folder=tmp_path)
    assert kept.policy.lab.udp_port == 4789


def test_vtep_mac_is_made_from_the_address_or_taken_from_flannels_annotation(
    tmp_path: Path,
) -> None:
    assert store(GOOD, folder=tmp_path).policy.nodes["node1"].vtep_mac.hex(":") == (
        "02:50:c0:a8:32:0b"
    )
    annotated = GOOD.replace(
        "{name: node2}",
        "{name: node2, annotations: {flannel.alpha.coreos.com/backend-data: "
        '\'{"VNI":1,"VtepMAC":"8e:11:22:33:44:55"}\'}}',
    )
    mac = store(annotated, folder=tmp_path).policy.nodes["node2"].vtep_mac
    assert mac.hex(":") == "8e:11:22:33:44:55"


def test_named_target_ports_are_each_pods_own(tmp_path: Path) -> None:
    slices = store(GOOD, folder=tmp_path).policy.slices[WEB]
    assert [(s.name, s.ports[0].port, str(s.endpoints[0].address)) for s in slices] == [
        ("web-0", 8080, "10.244.1.2"),
        ("web-1", 9090, "10.244.2.2"),
    ]


def test_addresses_do_not_depend_on_the_order_of_files_and_stay(tmp_path: Path) -> None:
    base = store(GOOD, folder=tmp_path)
    bodies = [pod_body(name) for name in ("c", "a", "b")]
    one = base.apply(from_bodies(bodies))
    two = base.apply(from_bodies(bodies[::-1]))
    assert one.policy == two.policy
    added = one.apply(from_bodies([pod_body("0")]))
    for key, pod in one.policy.pods.items():
        assert added.policy.pods[key] == pod, "whoever has an address keeps it"
    fewer = added.delete([Ref("Pod", "default", "a")])
    assert fewer.policy.pods[("default", "b")].ip == one.policy.pods[("default", "b")].ip


def test_cluster_ips_and_node_ports_are_given_out_and_kept(tmp_path: Path) -> None:
    text = """
    apiVersion: v1
    kind: Service
    metadata: {name: NAME}
    spec: {type: NodePort, ports: [{port: 80}, ]}
    """
    base = store(GOOD, folder=tmp_path)
    first = base.apply(objects(text.replace("NAME", "b"), folder=tmp_path))
    b = first.policy.services[("default", "b")]
    assert (str(b.cluster_ip), b.ports[0].node_port) == ("10.96.0.2", 30000)
    second = first.apply(objects(text.replace("NAME", "a"), folder=tmp_path))
    assert second.policy.services[("default", "b")] == b
    assert second.policy.services[("default", "a")].ports[0].node_port == 30001


def test_deployments_become_pods_spread_over_fitting_nodes(tmp_path: Path) -> None:
    text = """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: shop}
    spec:
      replicas: 3
      selector: {matchLabels: {app: shop}}
      template:
        metadata: {labels: {app: shop}}
        spec: {NODES containers: [{name: c, image: nginx}]}
    """
    spread = store(GOOD, text.replace("NODES", ""), folder=tmp_path).policy
    placed = [p.node for k, p in sorted(spread.pods.items()) if k[1].startswith("shop-")]
    assert placed == ["node1", "node2", "node1"]
    chosen = store(GOOD, text.replace("NODES", "nodeSelector: {zone: a},"), folder=tmp_path).policy
    assert {p.node for k, p in chosen.pods.items() if k[1].startswith("shop-")} == {"node1"}


def test_pods_of_one_owner_are_spread_whatever_else_is_there(tmp_path: Path) -> None:
    """A Deployment's pods stand apart first, and then where there is room."""
    pod = """
    apiVersion: v1
    kind: Pod
    metadata: {name: NAME}
    spec: {NODE containers: [{name: c, image: pause}]}
    """
    owner = """
    apiVersion: apps/v1
    kind: ReplicaSet
    metadata: {name: m}
    spec:
      replicas: COUNT
      selector: {matchLabels: {app: m}}
      template: {metadata: {labels: {app: m}}, spec: {containers: [{name: c, image: pause}]}}
    """

    def named(name: str, node: str) -> str:
        return pod.replace("NAME", name).replace("NODE", f"nodeName: {node}," if node else "")

    others = [named(name, "node1") for name in ("a", "z1", "z2", "z3")]
    text = "---".join([*others, named("n", ""), owner.replace("COUNT", "3")])
    made = store(GOOD, text, folder=tmp_path)

    def nodes(store_: Store) -> dict[str, str]:
        return {name: p.node for (_, name), p in store_.policy.pods.items() if name[0] in "mn"}

    # Also what comes later by name counts: node1 has five others, node2 one.
    first = {"m-0": "node2", "m-1": "node1", "m-2": "node2", "n": "node2"}
    assert nodes(made) == first
    # Whoever is there stays, though without the others it would go elsewhere.
    more = made.apply(objects(owner.replace("COUNT", "4"), folder=tmp_path))
    assert nodes(more) == {**first, "m-3": "node1"}


def test_readiness_observed_counts_unless_the_manifest_says(tmp_path: Path) -> None:
    explicit = GOOD.replace(
        "ports: [{name: http, containerPort: 8080}]}]\n",
        "ports: [{name: http, containerPort: 8080}]}]\n"
        "status: {conditions: [{type: Ready, status: 'False'}]}\n",
    )
    made = store(explicit, folder=tmp_path)
    observed = made.with_ready({("default", "web-1"): True, ("default", "web-2"): False})
    ready = [e.ready for s in observed.policy.slices[WEB] for e in s.endpoints]
    assert ready == [False, False]
    again = observed.with_ready({("default", "web-2"): True})
    assert [e.ready for s in again.policy.slices[WEB] for e in s.endpoints] == [False, True]


def test_a_terminating_pod_still_serves(tmp_path: Path) -> None:
    text = GOOD.replace(
        "{name: web-2, labels: {app: web}}",
        "{name: web-2, labels: {app: web}, deletionTimestamp: '2026-01-01T00:00:00Z'}",
    )
    (endpoint,) = store(text, folder=tmp_path).policy.slices[WEB][1].endpoints
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == (False, True, True)


def test_endpoints_of_the_user(tmp_path: Path) -> None:
    text = """
    apiVersion: v1
    kind: Service
    metadata: {name: ext}
    spec: {ports: [{port: 80, name: http}]}
    ---
    apiVersion: v1
    kind: Endpoints
    metadata: {name: ext}
    subsets:
      - addresses: [{ip: 10.244.2.2}]
        notReadyAddresses: [{ip: 203.0.113.9}]
        ports: [{port: 8080, name: http}]
    ---
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {name: more, labels: {kubernetes.io/service-name: ext}}
    addressType: IPv4
    endpoints: [{addresses: [203.0.113.10], conditions: {ready: true}}]
    ports: [{port: 8081, name: http, protocol: TCP}]
    """
    made = store(GOOD, text, folder=tmp_path)
    slices = made.policy.slices[("default", "ext")]
    assert [s.name for s in slices] == ["ext-endpoints-0", "more"]
    first, second = slices[0].endpoints
    assert first == Endpoint(IPv4Address("10.244.2.2"), node="node2", pod=("default", "web-2")), (
        "the pod that has the address is known"
    )
    assert (second.ready, second.serving) == (False, False)
    assert slices[1].ports == (EndpointPort(8081, Protocol.TCP, "http"),)
    for kind, name in (("EndpointSlice", "more"), ("Endpoints", "ext")):
        bodies = {body["metadata"]["name"]: body for body in made.bodies(kind)}
        assert bodies[name]["metadata"]["namespace"] == "default", "as Services and Pods say it"
    fewer = made.delete([Ref("EndpointSlice", "default", "more")])
    assert [s.name for s in fewer.policy.slices[("default", "ext")]] == ["ext-endpoints-0"]


def test_endpoints_of_a_service_with_a_selector_are_kubernetes_own(tmp_path: Path) -> None:
    text = """
    apiVersion: v1
    kind: Endpoints
    metadata: {name: web}
    subsets: [{addresses: [{ip: 203.0.113.9}], ports: [{port: 80}]}]
    """
    made = store(GOOD, text, folder=tmp_path)
    assert all(s.computed for s in made.policy.slices[WEB])
    assert any("the Service's selector makes its endpoints" in w for w in made.warnings)


def test_what_is_not_acted_on_is_named(tmp_path: Path) -> None:
    text = """
    apiVersion: v1
    kind: Service
    metadata: {name: s}
    spec:
      type: LoadBalancer
      loadBalancerClass: example.com/lb
      selctor: {app: web}
      ports: [{port: 80, targetPort: nothing}]
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: c}
    """
    warnings = "\n".join(store(GOOD, text, folder=tmp_path).warnings)
    for part in (
        "spec.loadBalancerClass: is not acted on",
        "status.loadBalancer: has no address: no IPAddressPool has one for it",
        "spec.selctor: is not acted on",
        "ConfigMap default/c: objects of this kind are not acted on",
    ):
        assert part in warnings
    named = GOOD.replace("targetPort: http", "targetPort: nothing")
    assert "no selected pod has a TCP port of the name 'nothing'" in "\n".join(
        store(named, folder=tmp_path).warnings
    )


def test_yaml_is_read_as_kubernetes_reads_it() -> None:
    """A date is text (it goes out again as JSON), and so is what YAML 1.1 takes for base 60."""
    text = "{a: 2026-01-01T00:00:00Z, b: 22:22, c: 0x10, d: 010, e: 1.5, f: yes, g: -3}"
    assert load_documents(text) == [
        {"a": "2026-01-01T00:00:00Z", "b": "22:22", "c": 16, "d": 8, "e": 1.5, "f": True, "g": -3}
    ]


def test_list_and_folder_and_json(tmp_path: Path) -> None:
    import json

    from pylb.policy.objects import read

    (tmp_path / "a.yaml").write_text(GOOD)
    bodies = [pod_body("x"), pod_body("y")]
    (tmp_path / "b.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies})
    )
    (tmp_path / "notes.txt").write_text("not read")
    assert [r.name for r in read([tmp_path])][-2:] == ["x", "y"]


def test_bodies_make_an_equal_policy_elsewhere(tmp_path: Path) -> None:
    """What the controller sends is what the daemons understand."""
    text = """
    apiVersion: apps/v1
    kind: ReplicaSet
    metadata: {name: rs}
    spec:
      replicas: 2
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec: {containers: [{name: c, image: nginx, ports: [{name: http, containerPort: 80}]}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: np}
    spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
    """
    made = Store.empty(Overlay.UDP).apply(objects(GOOD, text, folder=tmp_path))
    made = made.with_ready({("default", "rs-0"): False, ("default", "rs-1"): True})
    copy = Store.empty().apply(from_bodies(made.bodies()))
    expected = made.with_ready(
        {key: made.policy.pods[key].ready is not False for key in made.policy.pods}
    )
    assert copy.policy.slices == made.policy.slices
    assert copy.policy.services == made.policy.services
    assert copy.policy.lab == made.policy.lab
    assert {k: p.ip for k, p in copy.policy.pods.items()} == {
        k: p.ip for k, p in expected.policy.pods.items()
    }


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("pod"), st.integers(0, 4), st.sampled_from(["web", "db"])),
        st.tuples(st.just("service"), st.integers(0, 3), st.sampled_from(["web", "db"])),
        st.tuples(st.just("ready"), st.integers(0, 4), st.booleans()),
        st.tuples(st.just("slice"), st.integers(0, 3), st.integers(1, 9)),
        st.tuples(st.just("delete"), st.integers(0, 9), st.just(0)),
    ),
    max_size=12,
)


@given(steps=_steps)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_incremental_is_the_same_as_anew_and_changes_name_all_that_differs(
    steps: list[tuple[str, int, object]], tmp_path_factory: object, tmp_path: Path
) -> None:
    """Step by step: the store equals one built at once, and every plan follows by its delta."""
    made = store(GOOD, folder=tmp_path)
    plans = {name: compile_plan(made.policy, name) for name in made.policy.nodes}
    ready: dict[tuple[str, str], bool] = {}
    for kind, number, what in steps:
        before = made
        made = _step(made, ready, kind, number, what)
        difference = change(before, made)
        for name, plan in plans.items():
            plans[name] = plan_apply(plan, update(plan, difference))
            assert plans[name] == compile_plan(made.policy, name)
    anew = Store.empty().apply([u.raw for u in made.objects.values()])
    anew = anew.with_ready(ready)
    assert anew.policy.slices.keys() == made.policy.slices.keys()
    assert {k: p.ready for k, p in anew.policy.pods.items()} == {
        k: p.ready for k, p in made.policy.pods.items()
    }


def _step(
    made: Store, ready: dict[tuple[str, str], bool], kind: str, number: int, what: object
) -> Store:
    if kind == "pod":
        return made.apply(from_bodies([pod_body(f"p{number}", labels={"app": str(what)})]))
    if kind == "service":
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"s{number}"},
            "spec": {
                "type": "NodePort",
                "selector": {"app": what},
                "ports": [{"port": 80, "targetPort": "http"}],
            },
        }
        return made.apply(from_bodies([body]))
    if kind == "ready":
        ready[("default", f"p{number}")] = bool(what)
        return made.with_ready(ready)
    if kind == "slice":
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"e{number}",
                "labels": {"kubernetes.io/service-name": f"s{number}"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [f"203.0.113.{what}"]}],
            "ports": [{"port": 8080}],
        }
        return made.apply(from_bodies([body]))
    refs = sorted(ref for ref in made.objects if ref.kind in ("Pod", "Service", "EndpointSlice"))
    return made.delete([refs[number % len(refs)]]) if refs else made
