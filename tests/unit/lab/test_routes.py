"""Which nodes the lab's router sends virtual addresses to."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from pylb.lab.cluster import routes
from pylb.policy.model import Service, ServiceType
from tests.unit.lab.policies import NODE1, NODE2, policy

OUTSIDE, INSIDE, SHARED = (
    IPv4Address(text) for text in ("192.0.2.1", "192.168.50.200", "198.51.100.7")
)


def balancer(name: str, *addresses: IPv4Address, external: tuple[IPv4Address, ...] = ()) -> Service:
    return Service(
        "default",
        name,
        ServiceType.LOAD_BALANCER,
        IPv4Address("10.96.0.1"),
        load_balancer_ips=addresses,
        external_ips=external,
    )


def test_addresses_outside_the_underlay_are_routed_to_who_takes_them() -> None:
    one = balancer("one", OUTSIDE, INSIDE, external=(SHARED,))
    two, idle = balancer("two", SHARED), balancer("idle", IPv4Address("192.0.2.9"))
    of = replace(
        policy(services=[one, two, idle]),
        takers={one.key: ("node2", "node1"), two.key: ("node2",), idle.key: ()},
    )
    both = (NODE1.internal_ip, NODE2.internal_ip)
    assert routes(of) == {OUTSIDE: both, SHARED: both, IPv4Address("192.0.2.9"): ()}
    assert routes(replace(of, takers={two.key: ("node2",)})) == {SHARED: (NODE2.internal_ip,)}
    assert routes(policy()) == {}
