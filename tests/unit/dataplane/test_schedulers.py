"""Schedulers: who gets a new flow, down to the last one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylb.dataplane.base import FlowTuple
from pylb.dataplane.python import maglev
from pylb.dataplane.python.balance import MOST_AFFINE, Balancer
from pylb.dataplane.python.datapath import PythonDataplane
from pylb.plan.tables import Backend, Frontend
from pylb.wire.hash import siphash
from tests.unit.dataplane.net import (
    CLIENT,
    NODE,
    POD_A,
    POD_B,
    POD_REMOTE,
    SECOND,
    SECRET,
    TCP,
    UDP,
    VIP,
    datagram,
    dataplane,
    frontend,
    inner,
    ip,
    plan,
    segment,
    syn,
    tun,
)

pytestmark = pytest.mark.python_only

SMALL = 251
"""A prime: tables of this size are quick to make."""


class Fixed:
    """Loads that a test sets."""

    def __init__(self) -> None:
        self.of: dict[int, int] = {}

    def settle(self, now: int) -> None:
        pass

    def load(self, backend: tuple[int, int], protocol: int) -> int:
        return self.of.get(backend[0], 0)


def balanced(scheduler: str, *weights: int, **more: object) -> Frontend:
    backends = [Backend(i, 80, weight) for i, weight in enumerate(weights, 1)]
    return frontend(VIP, 80, backends, scheduler=scheduler)._replace(**more)


def flow(number: int, src: int = POD_A) -> FlowTuple:
    return FlowTuple(src, VIP, TCP, number, 80)


def chosen(
    balancer: Balancer, of: Frontend, count: int, src: int = POD_A, now: int = 0
) -> list[int]:
    """The addresses of the backends of flows 0 to count - 1."""
    found = []
    for number in range(count):
        backend = balancer.choose(of, of.active, flow(number, src), now)
        assert backend is not None
        found.append(backend.address)
    return found


def new(loads: Fixed | None = None, size: int = SMALL) -> Balancer:
    made = Balancer(SECRET, loads or Fixed())
    made.maglev_size = size
    return made


@pytest.mark.parametrize("scheduler", ["random", "rr", "wrr", "lc", "wlc", "sh", "mh"])
def test_without_a_backend_there_is_no_choice_and_with_one_it_is_that(scheduler: str) -> None:
    balancer = new()
    none, one = balanced(scheduler), balanced(scheduler, 7)
    assert balancer.choose(none, none.active, flow(1), 0) is None
    assert set(chosen(balancer, one, 20)) == {1}


# Weighted round robin


def test_wrr_is_the_virtual_servers_sequence() -> None:
    """The example of LVS's documentation: A, B, C with weights 4, 3, 2 give AABABCABC."""
    sequence = chosen(new(), balanced("wrr", 4, 3, 2), 18)
    assert sequence == [1, 1, 2, 1, 2, 3, 1, 2, 3] * 2
    assert chosen(new(), balanced("wrr", 400, 300, 200), 9) == sequence[:9]
    assert chosen(new(), balanced("wrr", 1, 1, 1), 6) == [1, 2, 3, 1, 2, 3]


def test_wrr_goes_on_where_it_was_when_backends_change() -> None:
    balancer = new()
    assert chosen(balancer, balanced("wrr", 4, 3, 2), 3) == [1, 1, 2]
    assert chosen(balancer, balanced("wrr", 1, 1, 1, 1), 4) == [3, 4, 1, 2]
    assert chosen(balancer, balanced("wrr", 5), 3) == [1, 1, 1]


@given(st.lists(st.integers(1, 65535), min_size=1, max_size=6), st.integers(0, 40))
def test_wrr_gives_each_its_share_of_a_whole_round(weights: list[int], before: int) -> None:
    scaled = [w % 40 + 1 for w in weights]
    balancer, of = new(), balanced("wrr", *scaled)
    chosen(balancer, of, before)
    counts = Counter(chosen(balancer, of, sum(scaled)))
    assert [counts[i] for i in range(1, len(scaled) + 1)] == scaled


# Least connections


def test_lc_takes_the_least_loaded_and_the_first_of_equals() -> None:
    loads = Fixed()
    balancer, of = new(loads), balanced("lc", 1, 9, 1)
    assert chosen(balancer, of, 2) == [1, 1]
    loads.of = {1: 257, 2: 256, 3: 256}
    assert chosen(balancer, of, 1) == [2]
    loads.of[2] = 512
    assert chosen(balancer, of, 1) == [3]


def test_wlc_divides_by_the_weight() -> None:
    loads = Fixed()
    balancer, of = new(loads), balanced("wlc", 1, 3)
    loads.of = {1: 256, 2: 767}
    assert chosen(balancer, of, 1) == [2]
    loads.of[2] = 768
    assert chosen(balancer, of, 1) == [1], "equal: the first"
    loads.of[1] = 257
    assert chosen(balancer, of, 1) == [2]


def loads_of(dp: PythonDataplane, protocol: int = TCP) -> dict[int, int]:
    found = {a: dp._table.load((a, 8080), protocol) for a in (POD_B, POD_REMOTE)}
    return {address: load for address, load in found.items() if load}


def least(scheduler: str = "lc", protocol: int = TCP) -> Frontend:
    backends = [Backend(POD_B, 8080, local=True), Backend(POD_REMOTE, 8080)]
    return frontend(VIP, 80, backends, protocol=protocol, scheduler=scheduler)


def test_flows_count_while_they_live_and_less_while_they_close() -> None:
    dp = dataplane(least())
    dp.process([tun(syn(POD_A, 40000, VIP, 80))], 0)
    assert loads_of(dp) == {POD_B: 256}
    dp.process([tun(syn(POD_A, 40001, VIP, 80))], 0)
    assert loads_of(dp) == {POD_B: 256, POD_REMOTE: 256}
    dp.process([tun(segment(POD_B, 8080, POD_A, 40000, 0x12, 5000, 1001))], 0)
    dp.process([tun(segment(POD_A, 40000, VIP, 80, 0x10, 1001, 5001))], 0)
    assert loads_of(dp)[POD_B] == 256
    dp.process([tun(segment(POD_A, 40000, VIP, 80, 0x11, 1001, 5001))], 0)
    assert loads_of(dp) == {POD_B: 1, POD_REMOTE: 256}
    first = inner(dp.process([tun(syn(POD_A, 40002, VIP, 80))], 1).sent[0])
    assert first.dst == POD_B
    assert loads_of(dp) == {POD_B: 257, POD_REMOTE: 256}
    dp.process([tun(segment(POD_B, 8080, POD_A, 40002, 0x14, 0, 1001))], 2)
    assert loads_of(dp) == {POD_B: 1, POD_REMOTE: 256}, "refused: the flow is no more"


def test_what_is_dead_does_not_count_though_nobody_has_advanced() -> None:
    dp = dataplane(least("wlc", UDP))
    for port in range(40000, 40003):
        dp.process([tun(datagram(POD_A, port, VIP, 80))], 0)
    assert loads_of(dp, UDP) == {POD_B: 512, POD_REMOTE: 256}
    (sent,) = dp.process([tun(datagram(POD_A, 40009, VIP, 80))], 30 * SECOND).sent
    assert inner(sent).dst == POD_B
    assert loads_of(dp, UDP) == {POD_B: 256}


def test_only_flows_that_were_given_by_load_count() -> None:
    dp = dataplane(least("rr"))
    dp.process([tun(syn(POD_A, 40000, VIP, 80))], 0)
    assert loads_of(dp) == {}
    dp.load(plan(least("lc")), 1)
    dp.process([tun(syn(POD_A, 40001, VIP, 80))], 2)
    assert loads_of(dp) == {POD_B: 256}
    dp.advance(400 * 86400 * SECOND)
    assert loads_of(dp) == {}


# Source hash


def test_sh_keeps_a_client_at_its_backend_on_every_node() -> None:
    of = balanced("sh", 1, 1, 1, 1)
    for client in (CLIENT, NODE, POD_A):
        (one,) = set(chosen(new(), of, 30, client))
        assert set(chosen(Balancer(bytes(16), Fixed()), of, 30, client)) == {one}


def test_sh_shares_clients_by_weight() -> None:
    of = balanced("sh", 1, 3)
    balancer = new()
    counts = Counter(chosen(balancer, of, 1, client)[0] for client in range(1, 4001))
    assert 850 < counts[1] < 1150
    share = siphash(b"pylb.io/balancer", CLIENT.to_bytes(4, "big")) % 4
    assert chosen(balancer, of, 1, CLIENT) == [1 if share < 1 else 2]


# Maglev


def naive(backends: list[Backend], size: int) -> list[int]:
    """The paper's pseudocode 1, with whole permutations."""
    permutation = []
    for b in backends:
        place = b.address.to_bytes(4, "big") + b.port.to_bytes(2, "big")
        offset = siphash(b"pylb.io/balancer", b"o" + place) % size
        skip = siphash(b"pylb.io/balancer", b"s" + place) % (size - 1) + 1
        permutation.append([(offset + j * skip) % size for j in range(size)])
    nexts = [0] * len(backends)
    entry = [-1] * size
    while True:
        for i in range(len(backends)):
            while entry[permutation[i][nexts[i]]] >= 0:
                nexts[i] += 1
            entry[permutation[i][nexts[i]]] = i
            if min(entry) >= 0:
                return entry


def places(count: int, weight: int = 1) -> list[Backend]:
    return [Backend(ip("10.244.2.0") + i, 8080, weight) for i in range(count)]


@settings(deadline=None)
@given(st.integers(1, 12), st.sampled_from((13, 101, SMALL)))
def test_a_table_is_the_papers(count: int, size: int) -> None:
    backends = places(count)
    assert list(maglev.build(backends, size)) == naive(backends, size)
    heavy = [b._replace(weight=7) for b in backends]
    assert maglev.build(heavy, size) == maglev.build(backends, size)


def test_every_backend_has_its_share_of_a_table() -> None:
    counts = Counter(maglev.build(places(10), 65537))
    assert set(counts.values()) == {6553, 6554}
    weighted = places(3)
    weighted[1] = weighted[1]._replace(weight=3)
    weighted[2] = weighted[2]._replace(weight=6)
    counts = Counter(maglev.build(weighted, 10007))
    for i, share in enumerate((0.1, 0.3, 0.6)):
        assert counts[i] / 10007 == pytest.approx(share, abs=0.001)


def test_the_heaviest_weights_are_no_more_work_and_the_lightest_get_a_slot() -> None:
    backends = [Backend(1, 80, 65535), Backend(2, 80, 1), Backend(3, 80, 65534)]
    counts = Counter(maglev.build(backends, SMALL))
    assert counts[1] == 1
    assert abs(counts[0] - counts[2]) <= 1


def test_a_backend_that_goes_takes_few_slots_of_the_others_with_it() -> None:
    before, after = places(20), places(20)
    del after[7]
    one, other = maglev.build(before, 10007), maglev.build(after, 10007)
    moved = sum(
        before[i].address != after[j].address
        for i, j in zip(one, other, strict=True)
        if before[i].address != before[7].address
    )
    assert moved < 0.05 * 10007


def test_mh_chooses_by_the_flow_on_every_node_alike() -> None:
    of = balanced("mh", 1, 1, 1)
    one, other = new(), Balancer(bytes(16), Fixed())
    other.maglev_size = SMALL
    assert chosen(one, of, 200) == chosen(other, of, 200)
    table = maglev.build(of.backends, SMALL)
    key = POD_A.to_bytes(4, "big") + VIP.to_bytes(4, "big") + b"\0\5\0\x50\6"
    assert chosen(one, of, 6)[5] == table[siphash(b"pylb.io/balancer", key) % SMALL] + 1
    assert len(set(chosen(one, of, 200))) == 3


def test_tables_are_made_once_and_shared() -> None:
    balancer = new()
    one, twin = balanced("mh", 1, 1), balanced("mh", 1, 1)
    twin = twin._replace(key=twin.key._replace(port=81))
    chosen(balancer, one, 5)
    chosen(balancer, twin, 5)
    tables = {id(held.slots) for held in balancer._tables.values()}
    assert len(balancer._tables) == 2
    assert len(tables) == 1
    chosen(balancer, balanced("mh", 1, 2), 5)
    assert len({id(held.slots) for held in balancer._tables.values()}) == 2
    balancer.forget(one.key)
    balancer.keep_only({})
    assert not balancer._tables


# Affinity


def test_affinity_comes_before_the_scheduler() -> None:
    balancer, of = new(), balanced("rr", 1, 1, 1, affinity=10)
    assert set(chosen(balancer, of, 5)) == {1}
    assert set(chosen(balancer, of, 5, CLIENT)) == {2}
    assert set(chosen(balancer, of, 5, now=10 * SECOND - 1)) == {1}
    assert set(chosen(balancer, of, 5, now=20 * SECOND - 1)) == {3}, "10 s since the last"


def test_a_client_that_may_not_have_its_backend_is_given_another() -> None:
    balancer, of = new(), balanced("rr", 1, 1, 1, affinity=10)
    assert chosen(balancer, of, 1) == [1]
    backend = balancer.choose(of, (1, 2), flow(1), 0)
    assert backend is not None
    assert backend.address == 3, "turn 1 of two"
    assert chosen(balancer, of, 2) == [3, 3]


def test_as_many_clients_are_remembered_as_there_is_room_for() -> None:
    balancer, of = new(), balanced("rr", 1, 1, affinity=10)
    for client in range(MOST_AFFINE):
        balancer.choose(of, of.active, flow(1, client), 0)
    assert chosen(balancer, of, 1, 0) == [1], "it asked again: now it is the youngest"
    balancer.choose(of, of.active, flow(1, MOST_AFFINE), 0)
    assert chosen(balancer, of, 1, 0) == [1]
    turn = balancer._turns[of.key]
    chosen(balancer, of, 1, 1)
    assert balancer._turns[of.key] == turn + 1, "1 was forgotten"
