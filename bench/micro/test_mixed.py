"""10 000 Services of every kind beside 10 000 of one kind: read, compiled, loaded, one changed.

Run with ``python -m pytest bench/micro/test_mixed.py``.  Nine nodes, 48 pods, three
endpoints for each Service; the one kind is a cluster IP with a given EndpointSlice.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pylb.bench import mixed
from pylb.dataplane.kernel import nft
from pylb.dataplane.native.datapath import NativeDataplane
from pylb.dataplane.python.datapath import PythonDataplane
from pylb.plan.compile import apply, compile, update, validate_delta
from pylb.plan.tables import Delta, Plan
from pylb.policy import objects
from pylb.policy.objects import RawObject
from pylb.policy.store import Store, change

SERVICES, NODES, GROUPS = 10_000, 9, 16
OWN = "node1"
AnyDataplane = type[PythonDataplane] | type[NativeDataplane]


@dataclass(frozen=True)
class Case:
    """``fewer`` takes one endpoint from one Service, ``delta`` is what that changes."""

    raw: list[RawObject]
    store: Store
    plan: Plan
    fewer: list[RawObject]
    delta: Delta


@pytest.fixture(scope="module", params=["uniform", "mixed"])
def case(request: pytest.FixtureRequest) -> Case:
    kinds = ("slice",) if request.param == "uniform" else ()
    raw = objects.from_bodies(mixed.bodies(SERVICES, NODES, GROUPS, image="pause", kinds=kinds))
    store = Store.empty().apply(raw)
    plan = compile(store.policy, OWN)
    fewer = objects.from_bodies([mixed.fewer(store.policy.services, NODES, GROUPS)])
    delta = update(plan, change(store, store.apply(fewer)))
    assert len(delta.frontends) == 1
    return Case(raw, store, plan, fewer, delta)


def test_read(benchmark: BenchmarkFixture, case: Case) -> None:
    """From manifests' bodies to a policy."""
    benchmark.group = "a policy of 10 000 Services"
    benchmark.pedantic(Store.empty().apply, (case.raw,), rounds=3)


def test_compile(benchmark: BenchmarkFixture, case: Case) -> None:
    benchmark.group = "compile"
    benchmark.pedantic(compile, (case.store.policy, OWN), rounds=5)


@pytest.mark.parametrize("dataplane", [PythonDataplane, NativeDataplane])
def test_load(benchmark: BenchmarkFixture, case: Case, dataplane: AnyDataplane) -> None:
    """Into a dataplane that has nothing; the native one makes its Maglev tables now."""
    benchmark.group = f"load into {dataplane.__name__}"

    def load() -> AnyDataplane:
        made = dataplane(bytes(16), 1024)
        made.load(case.plan, 0)
        return dataplane

    benchmark.pedantic(load, rounds=5)


def test_ruleset(benchmark: BenchmarkFixture, case: Case) -> None:
    benchmark.group = "as text for nft"
    benchmark.pedantic(nft.ruleset, (case.plan,), rounds=3)


def test_one_endpoint_to_a_delta(benchmark: BenchmarkFixture, case: Case) -> None:
    """From the manifest of one EndpointSlice to what changes of the plan, checked."""
    benchmark.group = "one endpoint: manifest to plan"

    def whole() -> Plan:
        after = case.store.apply(case.fewer)
        delta = update(case.plan, change(case.store, after))
        validate_delta(case.plan, delta)
        return apply(case.plan, delta)

    made = benchmark(whole)
    assert len(made.frontends) == len(case.plan.frontends)


@pytest.mark.parametrize("dataplane", [PythonDataplane, NativeDataplane])
def test_one_endpoint_in(benchmark: BenchmarkFixture, case: Case, dataplane: AnyDataplane) -> None:
    benchmark.group = f"one endpoint: {dataplane.__name__} changes"
    made = dataplane(bytes(16), 1024)
    made.load(case.plan, 0)
    benchmark(made.change, case.delta, 0)
