"""Plumbing in a real namespace: what it makes, what it leaves, what it captures."""

from __future__ import annotations

import os
import select
import socket
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from pylb.node.errors import NodeError
from pylb.node.plumbing import Plumbing, attach_pod_port, refuse_initial_namespace
from pylb.node.tun import Tun
from pylb.plan.tables import FrontendKind, Plan
from tests.netns.node.world import CLIENT_IP, DEADLINE, NODE_IP, World
from tests.unit.node.plans import frontend, ip, peer, plan, prefix

pytestmark = pytest.mark.root


def applied(here: World, of: Plan) -> list[str]:
    return here.node.call(lambda: here.plumbing().apply(of))


def cleaned(here: World) -> list[str]:
    return here.node.call(here.plumbing().clean)


def opened(here: World) -> Tun:
    tun = here.node.call(Tun)
    tun.persist()
    return tun


def test_it_is_idempotent_and_clean_leaves_the_namespace_as_it_was(here: World) -> None:
    before = here.node.state()
    with opened(here):
        assert applied(here, plan())
        with_it = here.node.state()
        assert applied(here, plan()) == []
        assert here.node.state() == with_it
    assert cleaned(here)
    assert here.node.state() == before
    assert cleaned(here) == []
    assert not (here.folder / "plumbing.json").exists()


def test_a_change_of_policy_is_adjusted_to_and_back(here: World) -> None:
    vip = frontend("203.0.113.9", 80, FrontendKind.LOAD_BALANCER)
    other = plan(vip, peers={"node2": peer(2), "node3": peer(3)})
    with opened(here):
        applied(here, plan())
        before = here.node.state()
        changes = applied(here, other)
        assert len(changes) == 5, changes
        assert "to 203.0.113.9 iif eth0 lookup 100" in here.node.state()
        assert "unreachable 10.244.3.0/24" in here.node.state()
        assert len(applied(here, plan())) == 5
        assert here.node.state() == before


def test_a_bridge_that_was_there_stays(here: World) -> None:
    here.node.sh("ip link add cni0 type bridge; ip link set cni0 up")
    before = here.node.state()
    with opened(here):
        applied(here, plan())
    cleaned(here)
    assert "cni0" in before
    links = here.node.sh("ip -br link").stdout
    assert "cni0" in links
    assert "pylb0" not in links


def test_a_recreated_tun_is_plumbed_again(here: World) -> None:
    with opened(here):
        applied(here, plan())
        plumbed = here.node.sh("ip route show table 100; tc filter show dev eth0 ingress").stdout
    here.node.sh("ip link del pylb0")
    with opened(here):
        changes = applied(here, plan())
        assert any("table 100" in change for change in changes)
        assert any("fragments" in change for change in changes)
        again = here.node.sh("ip route show table 100; tc filter show dev eth0 ingress").stdout
        assert again.count("mirred") == plumbed.count("mirred") == 1
        assert applied(here, plan()) == []


def test_rules_and_filters_of_others_are_left_alone(here: World) -> None:
    here.node.sh(
        "ip rule add pref 105 from 1.2.3.4 lookup 77; ip route add 9.9.9.0/24 dev eth0;"
        "tc qdisc add dev eth0 clsact;"
        "tc filter add dev eth0 ingress pref 7 protocol ip u32 match ip dst 9.9.9.9/32 flowid 1:9"
    )
    before = here.node.state()
    with opened(here):
        applied(here, plan())
    cleaned(here)
    assert here.node.state() == before


def test_what_is_missing_is_named(here: World) -> None:
    with pytest.raises(NodeError, match="interface pylb0 is not in this network namespace"):
        applied(here, plan())
    with opened(here):
        with pytest.raises(NodeError, match="eth0 does not have the node's InternalIP"):
            applied(here, replace(plan(), node_ip=ip("192.168.7.9")))
        elsewhere = Plumbing(here.plumbing().names._replace(uplink="eth7"), here.folder / "other")
        with pytest.raises(NodeError, match="interface eth7 is not in this network namespace"):
            here.node.call(lambda: elsewhere.apply(plan()))
        here.node.sh("ip link add cni0 type veth peer name other0")
        with pytest.raises(NodeError, match="cni0 is there but is not a bridge"):
            applied(here, plan())
    cleaned(here)


def test_the_machines_own_namespace_is_refused(here: World) -> None:
    with pytest.raises(NodeError, match="the machine's own network namespace"):
        refuse_initial_namespace()
    with pytest.raises(NodeError, match="the machine's own network namespace"):
        here.plumbing().apply(plan())
    here.node.call(refuse_initial_namespace)


def test_a_tun_that_was_not_made_persistent_goes_with_its_owner(here: World) -> None:
    here.node.call(Tun).close()
    assert "pylb0" not in here.node.sh("ip -br link").stdout


def test_a_tun_has_one_owner(here: World) -> None:
    with opened(here), pytest.raises(NodeError, match="pylb0 is open in another process"):
        opened(here)
    here.node.sh("ip link del pylb0; ip tuntap add pylb0 mode tap")
    with pytest.raises(NodeError, match="is not a TUN device"):
        opened(here)


def next_packet(tun: Tun) -> tuple[str, str, int]:
    """Source, destination and protocol of the next packet that the kernel hands over."""
    poll = select.poll()
    poll.register(tun.fileno(), select.POLLIN)
    assert poll.poll(DEADLINE * 1000), "no packet came"
    data = os.read(tun.fileno(), 65535)
    return str(IPv4Address(data[12:16])), str(IPv4Address(data[16:20])), data[9]


PACKETS = [
    ("pod to VIP", "pod", "10.96.0.10", 80, "10.244.1.2"),
    ("pod to a pod of its own node", "pod", "10.244.1.3", 80, "10.244.1.2"),
    ("pod to a remote pod", "pod", "10.244.2.3", 80, "10.244.1.2"),
    ("pod to outside", "pod", "203.0.113.80", 80, "10.244.1.2"),
    ("pod to its node", "pod", NODE_IP, 22, "10.244.1.2"),
    ("outside to NodePort", "client", NODE_IP, 30080, CLIENT_IP),
    ("outside to VIP", "client", "10.96.0.10", 80, CLIENT_IP),
    ("outside to pod", "client", "10.244.1.2", 80, CLIENT_IP),
    ("reply to a masqueraded flow", "client", NODE_IP, 61234, CLIENT_IP),
    ("node to VIP", "node", "10.96.0.10", 80, NODE_IP),
    ("node to remote pod", "node", "10.244.2.3", 80, NODE_IP),
    ("node to D", "node", "10.244.1.0", 80, NODE_IP),
    ("node to its own NodePort", "node", NODE_IP, 30080, NODE_IP),
    ("node to loopback NodePort", "node", "127.0.0.1", 30080, "127.0.0.1"),
]


def test_every_packet_that_concerns_the_daemon_reaches_the_tun(here: World) -> None:
    with opened(here) as tun:
        applied(here, plan())
        places = {"pod": here.pod(2), "client": here.client, "node": here.node}
        for what, place, destination, port, source in PACKETS:

            def send(to: tuple[str, int] = (destination, port)) -> None:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.sendto(b"x", to)

            places[place].call(send)
            assert next_packet(tun) == (source, destination, 17), what


def raw(protocol: int, destination: str, payload: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as sock:
        sock.sendto(payload, (destination, 0))


def test_other_protocols_icmp_and_fragments_to_the_node_reach_the_tun(here: World) -> None:
    def fragmented() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(bytes(4000), (NODE_IP, 30080))

    with opened(here) as tun:
        applied(here, plan())
        here.client.call(lambda: raw(47, NODE_IP, bytes(8)))
        assert next_packet(tun) == (CLIENT_IP, NODE_IP, 47)
        here.client.call(lambda: raw(1, NODE_IP, b"\x08\x00" + bytes(6)))
        assert next_packet(tun) == (CLIENT_IP, NODE_IP, 1)
        here.client.call(fragmented)
        assert [next_packet(tun) for _ in range(3)] == [(CLIENT_IP, NODE_IP, 17)] * 3


def test_the_node_itself_stays_reachable(here: World) -> None:
    with opened(here):
        applied(here, plan())
        here.serve(here.node, 8472, "overlay", "udp")
        here.serve(here.node, 22, "shell")
        assert here.ask(here.client, NODE_IP, 22) == f"shell {CLIENT_IP}"
        assert here.ask(here.client, NODE_IP, 8472, "udp") == f"overlay {CLIENT_IP} 5"
        assert here.ask(here.node, "127.0.0.1", 22) == "shell 127.0.0.1"
        assert here.ask(here.node, NODE_IP, 22) == f"shell {NODE_IP}"


def test_without_a_daemon_pods_meet_and_nothing_leaks(here: World) -> None:
    with opened(here):
        applied(here, plan())
        one, two = here.pod(2), here.pod(3)
        here.serve(two, 80, "two")
        here.serve(here.node, 22, "shell")
        here.serve(here.client, 9000, "outside", "udp")
    assert here.ask(one, "10.244.1.3", 80) == "two 10.244.1.2"
    assert here.ask(one, NODE_IP, 22) == "shell 10.244.1.2"
    assert here.ask(one, "10.244.1.1", 22) == "shell 10.244.1.2"
    assert here.ask(here.node, "10.244.1.3", 80) == "two 10.244.1.1"
    assert here.no_answer(one, CLIENT_IP, 9000, "udp")
    assert here.no_answer(one, "10.96.0.10", 80)
    assert here.no_answer(here.node, "10.244.2.3", 80)
    assert here.ask(here.node, CLIENT_IP, 9000, "udp") == f"outside {NODE_IP} 5"


def test_a_pod_port_needs_its_bridge(here: World) -> None:
    here.node.sh("ip link add veth9 type veth peer name other9")
    with pytest.raises(NodeError, match="interface cni0 is not in this network namespace"):
        here.node.call(lambda: attach_pod_port("veth9"))
    with pytest.raises(NodeError, match="interface veth8 is not in this network namespace"):
        here.node.call(lambda: attach_pod_port("veth8"))


def test_host_gw_reaches_peers_through_main(here: World) -> None:
    direct = plan(overlay=plan().overlay._replace(kind="host-gw", port=0, mtu=1500))
    with opened(here):
        applied(here, direct)
        route = here.node.sh("ip route get 10.244.2.3 from 10.244.1.2 iif pylb0").stdout
        assert "via 192.168.7.2 dev eth0" in route
        assert prefix("10.244.2.0/24") in {peer.subnet for peer in direct.peers.values()}
        applied(here, plan())
        assert here.node.sh("ip route get 10.244.2.3 from 10.244.1.2 iif pylb0", False).returncode
