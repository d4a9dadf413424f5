"""The kernel dataplane's plumbing in a real namespace: what it makes, what it leaves."""

from __future__ import annotations

import pytest

from pylb.node.errors import NodeError
from pylb.node.kernel.plumbing import KernelPlumbing
from pylb.node.kernel.rules import Nftables
from pylb.node.plumbing import Names
from pylb.plan.tables import Plan
from tests.netns.node.world import World
from tests.unit.node.plans import ip, peer, plan

pytestmark = [pytest.mark.root, pytest.mark.tools("nft")]

HOST_GW = plan().overlay._replace(kind="host-gw", mtu=1500)


def plumbing(here: World) -> KernelPlumbing:
    return KernelPlumbing(Names(), here.folder / "kernel.json")


def applied(here: World, of: Plan) -> list[str]:
    def body() -> list[str]:
        Nftables().load(of)
        return plumbing(here).apply(of)

    return here.node.call(body)


def state(here: World) -> str:
    entries = here.node.sh("bridge fdb show dev pylb.1; ip neigh show dev pylb.1", check=False)
    return here.node.state() + entries.stdout


def test_it_is_idempotent_and_clean_leaves_the_namespace_as_it_was(here: World) -> None:
    # Connection tracking's sysctls are there from the first ruleset on.
    here.node.call(lambda: Nftables().load(plan()))
    before = state(here)
    assert applied(here, plan())
    with_it = state(here)
    assert applied(here, plan()) == []
    assert state(here) == with_it
    assert here.node.call(plumbing(here).clean)
    assert state(here) == before
    assert not (here.folder / "kernel.json").exists()


def test_the_device_is_the_plans(here: World) -> None:
    applied(here, plan())
    link = here.node.sh("ip -d link show pylb.1").stdout
    for said in (
        "mtu 1450",
        "02:50:c0:a8:07:01",
        "vxlan id 1",
        "local 192.168.7.1",
        "dstport 8472",
    ):
        assert said in link
    assert "nolearning" in link
    assert "10.244.1.0/32" in here.node.sh("ip addr show pylb.1").stdout
    route = here.node.sh("ip route show 10.244.2.0/24").stdout
    assert "via 10.244.2.0 dev pylb.1" in route
    assert "src 192.168.7.1 onlink" in route
    neighbour = here.node.sh("ip neigh show dev pylb.1").stdout
    assert "10.244.2.0 lladdr 02:50:c0:a8:07:02 PERMANENT" in neighbour
    entry = here.node.sh("bridge fdb show dev pylb.1").stdout
    assert "02:50:c0:a8:07:02 dst 192.168.7.2" in entry


def test_peers_come_move_and_go(here: World) -> None:
    applied(here, plan())
    before = state(here)
    moved = peer(3)._replace(address=ip("192.168.7.33"), mac=b"\x02\x50\x00\x00\x00\x03")
    for third in (peer(3), moved):
        assert applied(here, plan(peers={"node2": peer(2), "node3": third}))
        entry = here.node.sh("bridge fdb show dev pylb.1").stdout
        assert entry.count(" dst ") == 2, entry
    assert "dst 192.168.7.33" in entry
    applied(here, plan())
    assert state(here) == before


def test_from_vxlan_to_host_gateways_and_back(here: World) -> None:
    applied(here, plan())
    before = state(here)
    applied(here, plan(overlay=HOST_GW))
    assert "pylb.1" not in here.node.sh("ip link").stdout
    assert "via 192.168.7.2 dev eth0" in here.node.sh("ip route show 10.244.2.0/24").stdout
    applied(here, plan())
    assert state(here) == before


def test_a_device_that_differs_is_made_anew(here: World) -> None:
    applied(here, plan())
    changes = applied(here, plan(overlay=plan().overlay._replace(port=4789)))
    assert "removed pylb.1" in changes
    assert "dstport 4789" in here.node.sh("ip -d link show pylb.1").stdout


def test_what_the_machine_has_set_does_not_matter(here: World) -> None:
    here.node.sh(
        "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1"
        " net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.default.rp_filter=1"
    )
    applied(here, plan())
    told = here.node.sh("cat /proc/sys/net/ipv4/conf/*/rp_filter").stdout.split()
    links = here.node.sh("ls /proc/sys/net/ipv4/conf").stdout.split()
    strict = {link for link, value in zip(links, told, strict=True) if value != "0"}
    assert strict <= {"default", "lo"}


def test_without_its_uplink_it_says_so(here: World) -> None:
    here.node.sh("ip link del eth0")
    with pytest.raises(NodeError, match="interface eth0 is not in this network namespace"):
        applied(here, plan())
