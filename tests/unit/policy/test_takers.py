"""Which nodes take packets to the addresses of a Service that are reached from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pylb.plan.compile import compile
from pylb.plan.tables import FrontendKind
from pylb.policy.objects import from_bodies
from pylb.policy.store import Store, change
from tests.unit.policy.cluster import GOOD, store

Body = dict[str, Any]
BOTH = ("node1", "node2")


def exposed(name: str, policy: str = "Local", port: int = 80, **more: Any) -> Body:
    spec = {
        "externalIPs": ["198.51.100.9"],
        "externalTrafficPolicy": policy,
        "ports": [{"port": port, "targetPort": 80}],
        **more,
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def endpoints(name: str, *addresses: str, node: str | None = None) -> Body:
    at = {} if node is None else {"nodeName": node}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"addresses": [address], **at} for address in addresses],
        "ports": [{"port": 80}],
    }


def with_these(folder: Path, *bodies: Body) -> Store:
    return store(GOOD, folder=folder).apply(from_bodies(bodies))


def takers(of: Store) -> dict[str, tuple[str, ...]]:
    return {key[1]: nodes for key, nodes in of.policy.takers.items()}


def test_all_nodes_take_what_nobody_serves(tmp_path: Path) -> None:
    """With Local none did, so that nobody was there to refuse."""
    assert takers(with_these(tmp_path, exposed("s"))) == {"s": BOTH}


@pytest.mark.parametrize(
    ("node", "on"), [("node2", ("node2",)), (None, ()), ("", ()), ("node9", ())]
)
def test_an_endpoint_is_on_the_node_that_it_names(
    tmp_path: Path, node: str | None, on: tuple[str, ...]
) -> None:
    """nodeName was read and passed over: what is in no podCIDR was on no node."""
    made = with_these(tmp_path, exposed("s"), endpoints("s", "192.0.2.7", node=node))
    assert takers(made) == {"s": on}
    for name in BOTH:
        of = compile(made.policy, name).frontends.values()
        [active] = [f.active for f in of if f.kind is FrontendKind.EXTERNAL_IP]
        assert active == ((0,) if name in on else ())


ON1, ON2 = "10.244.1.9", "10.244.2.9"


def test_services_that_share_an_address_agree_on_their_nodes(tmp_path: Path) -> None:
    """Each had its own: two nodes answered ARP for one address, or the router spread over
    nodes that drop what one of the Services is asked."""
    made = with_these(
        tmp_path,
        exposed("a"),
        exposed("b", "Cluster", port=81),
        endpoints("a", ON1, ON2),
        endpoints("b", ON1),
        exposed("alone", externalIPs=["198.51.100.10"]),
        endpoints("alone", ON2),
    )
    assert takers(made) == {"a": BOTH, "b": BOTH, "alone": ("node2",)}
    after = made.apply(from_bodies([endpoints("a", ON2)]))
    assert takers(after) == {"a": ("node2",), "b": ("node2",), "alone": ("node2",)}
    assert {("default", "a"), ("default", "b")} <= change(made, after).services


def test_who_shares_with_who_shares_is_of_the_group(tmp_path: Path) -> None:
    two = ["198.51.100.9", "198.51.100.10"]
    made = with_these(
        tmp_path,
        exposed("a"),
        exposed("b", "Cluster", port=81, externalIPs=two),
        exposed("c", "Cluster", externalIPs=two[1:]),
        endpoints("a", ON1),
    )
    assert takers(made) == dict.fromkeys("abc", ("node1",))


def test_without_a_node_for_all_it_is_those_for_any(tmp_path: Path) -> None:
    made = with_these(
        tmp_path, exposed("a"), exposed("b", port=81), endpoints("a", ON1), endpoints("b", ON2)
    )
    assert takers(made) == {"a": BOTH, "b": BOTH}


def test_local_with_a_shared_address_is_a_warning(tmp_path: Path) -> None:
    told = (
        "spec.externalTrafficPolicy: Local, but Service default/{} has 198.51.100.9 too: "
        "only nodes with endpoints of both take what comes from outside"
    )
    made = with_these(tmp_path, exposed("a"), exposed("b", "Cluster", port=81))
    assert [w.partition("Service ")[2] for w in made.warnings] == ["default/a: " + told.format("b")]
    pods = {"selector": {"app": "web"}}
    alike = with_these(tmp_path, exposed("a", **pods), exposed("b", port=81, **pods))
    assert alike.warnings == ()
