"""10 000 Services of every kind load into both dataplanes, which treat their packets alike."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pylb.bench import mixed
from pylb.dataplane.base import DropReason, Output
from pylb.plan.compile import apply, compile, update, validate
from pylb.plan.tables import Frontend, FrontendKind, Others, Plan
from pylb.policy import objects
from pylb.policy.store import Store, change
from pylb.wire import sctp
from tests.differential.twins import Twins
from tests.unit.dataplane import net

SERVICES, NODES, GROUPS = 10_000, 4, 16
OWN, POD = "node1", net.POD_A
BEAT = 61
"""One of so many frontends is asked: a beat that meets every kind and scheduler."""


@dataclass(frozen=True)
class Loaded:
    store: Store
    plan: Plan
    twins: Twins


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    raw = objects.from_bodies(mixed.bodies(SERVICES, NODES, GROUPS, image="pause"))
    store = Store.empty().apply(raw)
    plan = compile(store.policy, OWN)
    validate(plan)
    twins = Twins(max_flows=4096, every_flow=False)
    twins.load(plan)
    return Loaded(store, plan, twins)


def asked(plan: Plan) -> list[Frontend]:
    """Some of the frontends, and every redirection that the pod itself is a backend of.

    Which ones the beat met depended once on the order of a set, so that one run in
    many asked a pod's own redirection, of which `expected` knew nothing.
    """
    of_all = list(plan.frontends.values())
    own = [f for f in of_all if f.others is Others.PASSING and is_backend(f, POD)]
    return [*of_all[::BEAT], *own]


def is_backend(of: Frontend, src: int) -> bool:
    return any(of.backends[i].address == src for i in of.active)


def ask(twins: Twins, of: Frontend, src: int, sport: int) -> Output:
    if of.key.protocol == sctp.PROTOCOL:
        init = sctp.build(src, of.key.address, sport, of.key.port, 0, sctp.init(7))
        return twins.process(net.tun(init))
    make = net.syn if of.key.protocol == net.TCP else net.datagram
    return twins.process(net.tun(make(src, sport, of.key.address, of.key.port)))


def expected(of: Frontend, src: int) -> set[tuple[int, int]]:
    """Where the packet may go: one of the backends chosen from, or past the frontend."""
    if of.others is Others.PASSING and is_backend(of, src):
        return {(of.key.address, of.key.port)}
    chosen = of.active
    inside = src in net.prefix("10.244.1.0/24") or src == net.NODE
    if of.others is Others.INSIDE and inside:
        chosen = of.other
    if of.others is Others.BACKENDS and is_backend(of, src):
        chosen = of.other
    return {of.backends[i][:2] for i in chosen}


def test_every_kind_is_there(loaded: Loaded) -> None:
    policy, plan = loaded.store.policy, loaded.plan
    assert len(policy.services) == SERVICES
    kinds = {name.rpartition("-")[0] for _, name in policy.services}
    assert kinds == set(mixed.KINDS)
    assert {f.kind for f in plan.frontends.values()} == set(FrontendKind)
    assert {f.scheduler for f in plan.frontends.values()} == set(mixed.SCHEDULERS)
    assert {f.others for f in plan.frontends.values()} >= {Others.INSIDE, Others.BACKENDS}
    assert {f.key.protocol for f in plan.frontends.values()} == {net.TCP, net.UDP, 132}
    frontends = plan.frontends.values()
    for name in ("affinity", "sources", "local_only", "announced", "elsewhere"):
        assert any(getattr(f, name) for f in frontends), name
    own = [f for f in frontends if not f.service.endswith(".local-redirect")]
    assert {len(f.backends) for f in own} == {mixed.GROUP}


@pytest.mark.parametrize(("who", "src"), [("pod", POD), ("client", net.CLIENT), ("node", net.NODE)])
def test_packets_go_where_the_plan_says(loaded: Loaded, who: str, src: int) -> None:
    of_all, reached, passed = asked(loaded.plan), set(), 0
    for number, of in enumerate(of_all):
        out = ask(loaded.twins, of, src, 20_000 + number)
        places = expected(of, src)
        if out.dropped:
            [reason] = [each.reason for each in out.dropped]
            assert reason is DropReason.NO_LOCAL_ENDPOINT, of
            assert of.elsewhere
            assert not places
            continue
        packet = net.inner(out.sent[0])
        if places:
            assert (packet.dst, packet.dport) in places, of
            reached.add((of.kind, of.scheduler))
            passed += places == {(of.key.address, of.key.port)}
        else:
            # A reset, or that the port is unreachable.
            assert packet.dst == src
    kinds = {kind for kind, _ in reached}
    assert kinds >= {FrontendKind.CLUSTER_IP, FrontendKind.NODE_PORT, FrontendKind.EXTERNAL_IP}
    assert {scheduler for _, scheduler in reached} == set(mixed.SCHEDULERS)
    assert bool(passed) == (who == "pod")


def test_one_endpoint_among_them_goes(loaded: Loaded) -> None:
    body = mixed.fewer(loaded.store.policy.services, NODES, GROUPS)
    store = loaded.store.apply(objects.from_bodies([body]))
    delta = update(loaded.plan, change(loaded.store, store))
    [(key, of)] = delta.frontends.items()
    assert of is not None
    assert len(of.backends) == mixed.GROUP - 1
    loaded.twins.change(delta)
    packet = net.inner(ask(loaded.twins, of, POD, 30_000).sent[0])
    assert (packet.dst, packet.dport) in expected(of, POD)
    assert apply(loaded.plan, delta) == compile(store.policy, OWN)
    loaded.twins.load(loaded.plan)
    assert loaded.plan.frontends[key] != of
