"""What schedulers remember, written down: loads by state, full memories, large tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import product

import pytest

from pylb.dataplane.python.balance import MOST_AFFINE
from pylb.plan.tables import Backend, Delta, Frontend, Plan
from tests.differential.twins import Twins
from tests.unit.dataplane.net import (
    CLIENT,
    POD_A,
    POD_B,
    POD_REMOTE,
    SECOND,
    UDP,
    VIP,
    datagram,
    from_peer,
    frontend,
    inner,
    ip,
    plan,
    segment,
    syn,
    tun,
)

SYN, SYN_ACK, ACK, FIN_ACK, RST_ACK = 0x02, 0x12, 0x10, 0x11, 0x14
BACKENDS = [Backend(POD_B, 8080, 3, local=True), Backend(POD_REMOTE, 8080, 2)]


def balanced(scheduler: str, backends: list[Backend] = BACKENDS, **more: object) -> Frontend:
    return frontend(VIP, 80, backends, scheduler=scheduler)._replace(**more)


def twins_of(loaded: Plan, max_flows: int = 4096) -> Twins:
    twins = Twins(max_flows, every_flow=False)
    twins.load(loaded)
    return twins


def to(twins: Twins, sport: int, src: int = POD_A) -> int:
    """Who gets a new connection."""
    (sent,) = twins.process(tun(syn(src, sport, VIP, 80))).sent
    return inner(sent).dst


def probed(twins: Twins, first: int) -> list[int]:
    """Who gets eight more: the loads can be read off it."""
    return [to(twins, first + i) for i in range(8)]


# The client's and the server's segments, in turn, from the one after the SYN.
STORIES = {
    "opens": [(False, SYN_ACK), (True, ACK)],
    "opens from both ends": [(False, SYN), (True, SYN_ACK), (False, ACK)],
    "client closes": [(False, SYN_ACK), (True, ACK), (True, FIN_ACK)],
    "server closes": [(False, SYN_ACK), (True, ACK), (False, FIN_ACK), (True, ACK)],
    "closes": [(False, SYN_ACK), (True, ACK), (True, FIN_ACK), (False, FIN_ACK), (True, ACK)],
    "is refused": [(False, RST_ACK)],
    "is reset": [(False, SYN_ACK), (True, ACK), (False, RST_ACK)],
}


@pytest.mark.parametrize("closing", [0, 2])
@pytest.mark.parametrize("scheduler", ["lc", "wlc"])
@pytest.mark.parametrize("story", STORIES)
def test_loads_in_every_state(story: str, scheduler: str, closing: int) -> None:
    """After each segment, who is chosen next shows what the connection counts for.

    Beside a backend with nothing it shows whether it counts at all, and beside one with two
    closing connections whether it counts as open or as closing.
    """
    for told in range(len(STORIES[story]) + 1):
        twins = twins_of(plan(balanced(scheduler)))
        server = to(twins, 40000)
        for sport in range(40001, 40001 + closing):
            other = to(twins, sport)
            assert other != server
            play(twins, sport, other, STORIES["client closes"])
        play(twins, 40000, server, STORIES[story][:told])
        probed(twins, 41000)
        twins.flows()
        twins.end()


def play(twins: Twins, sport: int, server: int, segments: list[tuple[bool, int]]) -> None:
    """What follows the SYN of a connection."""
    mine, theirs = 1001, 5000
    for from_client, flags in segments:
        ends = (POD_A, sport, VIP, 80) if from_client else (server, 8080, POD_A, sport)
        seq, ack = (mine, theirs) if from_client else (theirs, mine)
        if flags == SYN_ACK and from_client:
            seq -= 1  # the client's SYN once more, now with an acknowledgement
        raw = segment(*ends, flags, seq, ack if flags & ACK else 0)
        remote = not from_client and server == POD_REMOTE
        twins.process(from_peer(raw) if remote else tun(raw))
        if flags & (SYN | 0x01) and not (flags == SYN_ACK and from_client):
            mine, theirs = (mine + 1, theirs) if from_client else (mine, theirs + 1)


@pytest.mark.parametrize("scheduler", ["rr", "wrr", "wlc", "sh", "mh", "random"])
@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_many_backends_of_many_weights(scheduler: str, count: int) -> None:
    """Also when some of them go and come, and the weights change."""
    base = replace(plan(), maglev_size=1009)
    backends = [Backend(POD_REMOTE + i, 8080, 1 + i * 37 % 64) for i in range(count)]
    backends[-1] = backends[-1]._replace(weight=65535)
    twins = twins_of(with_frontend(base, balanced(scheduler, backends)))
    for n, left in enumerate((backends, backends[::2], backends, backends[: count // 2 + 1])):
        made = balanced(scheduler, left)
        twins.change(Delta(frontends={made.key: made}))
        sent = [to(twins, 10000 + 1000 * n + i, POD_A + i % 3) for i in range(200)]
        assert set(sent) <= {backend.address for backend in left}
    twins.flows()
    twins.end()


def with_frontend(base: Plan, made: Frontend) -> Plan:
    return replace(base, frontends={made.key: made}, services={"default/web": (made.key,)})


def test_a_whole_round_of_wrr_is_shared_by_weight_on_both() -> None:
    twins = twins_of(plan(balanced("wrr")))
    assert Counter(to(twins, 20000 + i) for i in range(50)) == {POD_B: 30, POD_REMOTE: 20}


def test_wrr_when_weights_change() -> None:
    """Wherever the round was, with weights that had another divisor or were heavier."""
    twins = twins_of(plan(balanced("wrr")), max_flows=16)
    weights = [(9, 4), (3, 2), (6, 4), (5, 5), (1, 8), (2, 7)]
    for n, (was, becomes) in enumerate(product(weights, weights)):
        for told in range(1, 8):
            for now, count in ((was, told), (becomes, 3)):
                made = balanced(
                    "wrr", [b._replace(weight=w) for b, w in zip(BACKENDS, now, strict=True)]
                )
                twins.change(Delta(frontends={made.key: made}))
                for i in range(count):
                    to(twins, 10000 + n * 256 + told * 16 + i)
            twins.now += 1000 * SECOND
            twins.advance(twins.now)


def test_more_clients_than_affinity_remembers() -> None:
    """The one that asked longest ago is forgotten, by both the same."""
    udp = frontend(VIP, 80, BACKENDS, protocol=UDP, scheduler="rr")._replace(affinity=10800)
    twins = twins_of(plan(udp), max_flows=256)
    first = int(IPv4Address("198.18.0.0"))

    def ask(client: int) -> int:
        (sent,) = twins.process(tun(datagram(client, 999, VIP, 80))).sent
        return inner(sent).dst

    before = ask(CLIENT)
    asked = range(first, first + MOST_AFFINE)
    for at in range(0, MOST_AFFINE - 1, 64):
        batch = [tun(datagram(c, 999, VIP, 80)) for c in asked[at : at + 64]]
        twins.now += 31 * SECOND // 100
        twins.process(*batch)
        if at == MOST_AFFINE // 2:
            assert ask(CLIENT) == before, "remembered, and now younger than half of them"
    for client in (first, first + 1, CLIENT, first + MOST_AFFINE - 1, ip("198.18.0.9")):
        ask(client)
    twins.flows()


@pytest.mark.parametrize("size", [2, 3, 251, 65537])
def test_maglev_tables_of_every_size(size: int) -> None:
    many = [Backend(POD_REMOTE + i, 80 + i, 1 + i % 3) for i in range(5)]
    made = balanced("mh", many, affinity=0)
    twins = twins_of(with_frontend(replace(plan(), maglev_size=size), made))
    for i in range(300):
        to(twins, 30000 + i)
    twins.load(with_frontend(replace(plan(), maglev_size=7), made))
    for i in range(50):
        to(twins, 31000 + i)
    twins.end()
