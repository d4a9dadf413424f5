"""Sequences that are written down: floods, sweeps over bytes, whole tables, secrets."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from pylb.dataplane.base import NODE_TUN, FlowFilter, OverlayPort, Packet
from pylb.dataplane.native.datapath import NativeDataplane
from pylb.dataplane.python.datapath import PythonDataplane
from pylb.plan.tables import Delta, Frontend, FrontendKey, FrontendKind, Plan, PlanError
from pylb.plan.validate import LONGEST_TIMEOUT
from pylb.wire import vxlan
from tests.differential.twins import Twins
from tests.unit.dataplane.damage import MORE, broken, fragment, patched, valid, victim_plan
from tests.unit.dataplane.net import (
    BRIDGE,
    INTERNET,
    LOOPBACK,
    MAC,
    NODE,
    PEER,
    PEER_MAC,
    POD_A,
    POD_B,
    POD_REMOTE,
    SECOND,
    TCP,
    UDP,
    VIP,
    VIP_UDP,
    backend,
    datagram,
    frontend,
    inner,
    ping,
    plan,
    segment,
    syn,
    tun,
)


def twins_of(loaded: Plan, max_flows: int = 1024, every_flow: bool = True) -> Twins:
    twins = Twins(max_flows, every_flow)
    twins.load(loaded)
    return twins


@pytest.mark.parametrize("overlay", ["vxlan", "udp", "host-gw"])
@pytest.mark.parametrize("kind", range(len(valid())))
def test_every_byte_of_a_packet_is_read_alike(kind: int, overlay: str) -> None:
    """Each byte in turn is something else, with checksums as they were and mended."""
    twins = twins_of(victim_plan(overlay), every_flow=False)
    raw = valid()[kind]
    twins.process(*map(tun, valid()))
    for at in range(min(len(raw), 80)):
        for value in {0, 1, raw[at] ^ 1, raw[at] ^ 0x10, raw[at] ^ 0x80, 255}:
            new = bytes((value,))
            twins.process(tun(patched(raw, at, new)), tun(broken(raw, at, new)))
    for length in range(len(raw)):
        twins.process(tun(raw[:length]))
    twins.flows()
    twins.end()


@pytest.mark.parametrize("overlay", ["vxlan", "udp"])
def test_every_byte_of_a_datagram_is_read_alike(overlay: str) -> None:
    twins = twins_of(victim_plan(overlay), every_flow=False)
    raw = syn(POD_REMOTE, 1, POD_A, 80)
    whole = vxlan.encode(raw, 1, PEER_MAC, MAC) if overlay == "vxlan" else raw
    for at in range(len(whole)):
        for value in (0, 1, whole[at] ^ 1, whole[at] ^ 8, 255):
            damaged = patched(whole, at, bytes((value,)))
            twins.process(Packet(OverlayPort(PEER), damaged))
        twins.process(Packet(OverlayPort(PEER), whole[:at]))
    twins.flows()
    twins.end()


def test_before_there_is_a_plan() -> None:
    twins = Twins()
    twins.process(tun(b""), tun(syn(POD_A, 1, VIP, 80)), Packet(OverlayPort(PEER), b"x"))
    twins.advance(SECOND)
    twins.delete(FlowFilter())


@pytest.mark.parametrize("options", [0, 4, 40])
@pytest.mark.parametrize("word", [0, 0x4000], ids=["may fragment", "dont fragment"])
def test_long_packets(options: int, word: int) -> None:
    """Up to the longest that there is, through every overlay and out in fragments."""
    for overlay in ("vxlan", "udp", "host-gw"):
        twins = twins_of(plan(overlay=overlay))
        for size in (1410, 1430, 1451, 1473, 9000, 65507 - options):
            for dst in (POD_REMOTE, POD_B, INTERNET):
                raw = datagram(POD_A, 5000, dst, 53, bytes(range(256)) * (size // 256))
                header = raw[:6] + struct.pack(">H", word) + raw[8:20] + b"\1" * options
                longer = bytearray(header + raw[20:])
                longer[0] = 0x40 | len(header) // 4
                twins.process(tun(broken(bytes(longer), 2, struct.pack(">H", len(longer)))))
        twins.end()


@pytest.mark.parametrize("length", [65535, 65536, 70000, 200_000])
def test_more_bytes_than_a_packet_can_have(length: int) -> None:
    """What follows the total length is cut off, however much it is."""
    twins = twins_of(plan())
    raw = datagram(POD_A, 5000, POD_B, 53)
    padded = raw + bytes(length - len(raw))
    twins.process(tun(padded))
    twins.process(Packet(OverlayPort(PEER), vxlan.encode(padded, 1, PEER_MAC, MAC)))
    twins.process(tun(fragment(POD_B, 0, MORE, bytes(24)) + bytes(length)))
    twins.end()


def test_floods_of_fragments() -> None:
    """As many datagrams and bytes as may wait, and more."""
    twins = twins_of(plan(), every_flow=False)
    flood = [tun(fragment(POD_B, 0, MORE, bytes(8), ident)) for ident in range(1, 1400)]
    twins.process(*flood)
    twins.advance(29 * SECOND)
    twins.process(*(tun(fragment(POD_B, 8, 0, bytes(8), i)) for i in range(1, 1400, 3)))
    twins.advance(30 * SECOND)
    big = [tun(fragment(POD_B, 8, MORE, bytes(60_000), ident)) for ident in range(100)]
    twins.process(*big)
    twins.process(*(tun(fragment(POD_B, 60_008, MORE, bytes(800), ident)) for ident in range(100)))
    twins.process(*(tun(fragment(POD_B, 0, MORE, bytes(8), ident)) for ident in range(100)))
    twins.process(*(tun(fragment(POD_B, 60_808, 0, bytes(8), ident)) for ident in range(100)))
    twins.end()


def test_thousands_of_flows_that_die_at_once() -> None:
    """More events than C keeps at a time, in the order of (deadline, creation)."""
    twins = twins_of(plan(), 20_000, every_flow=False)
    ports = range(1, 10_001)
    for start in range(0, len(ports), 500):
        twins.now += 1
        twins.process(
            *(tun(datagram(POD_A, port, POD_B, 53)) for port in ports[start : start + 500])
        )
        twins.process(*(tun(datagram(POD_A, port, POD_B, 53)) for port in ports[:start:7]))
    twins.flows()
    twins.end()


def test_a_full_table_of_flows_that_nobody_has_noticed_to_be_dead() -> None:
    twins = twins_of(plan(), 1000, every_flow=False)
    for second in range(4):
        twins.now = second * SECOND
        twins.process(*(tun(datagram(POD_A, 1 + p, POD_B, second)) for p in range(250)))
    twins.now = 32 * SECOND
    twins.process(*(tun(datagram(POD_A, 1 + p, POD_B, 9)) for p in range(400)))
    twins.flows()
    twins.now = 33 * SECOND
    # Noticed one by one first, and told of with the first that needs their room.
    twins.process(*(tun(datagram(POD_A, 1 + p, POD_B, 3)) for p in range(100)))
    twins.process(*(tun(datagram(POD_A, 1 + p, POD_B, 10)) for p in range(600)))
    twins.end()


def test_deleting_thousands_of_flows() -> None:
    twins = twins_of(plan(), 10_000, every_flow=False)
    twins.process(*(tun(datagram(POD_A, 1 + p, POD_B, p % 3)) for p in range(9000)))
    twins.delete(FlowFilter(dport=1))
    twins.delete(FlowFilter())
    twins.end()


def test_counters_beyond_32_bits() -> None:
    """A flow's bytes: 65535 of them, 66 000 times; a record of C has room for 32 bits."""
    native = NativeDataplane(bytes(16), 8)
    native.load(plan(), 0)
    raw = datagram(POD_A, 5000, POD_B, 53, bytes(65507))
    for _ in range(66):
        native.process([tun(raw)] * 1000, 0)
    (flow,) = native.flows(0)
    assert flow.packets == (66_000, 0)
    assert flow.bytes == (66_000 * 65535, 0)
    (event,) = native.delete(FlowFilter(), 0)[1].events
    assert event.flow.bytes == flow.bytes
    # Where the flow lay, the next one begins at 0.
    native.process([tun(datagram(POD_A, 5001, POD_B, 53))], 0)
    assert next(native.flows(0)).packets == (1, 0)


def test_a_packet_from_an_address_to_itself() -> None:
    """Both directions of the flow are one."""
    twins = twins_of(plan(frontend(VIP, 80, [backend(POD_A)])))
    for raw in (
        datagram(POD_A, 5, POD_A, 5),
        syn(POD_A, 80, POD_A, 80),
        segment(POD_A, 80, POD_A, 80, 0x12, 1, 1001),
        datagram(POD_A, 5, POD_A, 5),
        syn(POD_A, 8080, VIP, 80),
    ):
        twins.process(tun(raw))
        twins.now += 3 * SECOND
    twins.end()


def test_the_longest_timeout_after_a_year() -> None:
    loaded = plan()
    longest = replace(loaded.timeouts, udp=LONGEST_TIMEOUT)
    twins = twins_of(replace(loaded, timeouts=longest))
    twins.now = LONGEST_TIMEOUT * SECOND
    twins.process(tun(datagram(POD_A, 1, POD_B, 53)))
    twins.advance(2 * LONGEST_TIMEOUT * SECOND - 1)
    assert len(twins.flows()) == 1
    twins.advance(2 * LONGEST_TIMEOUT * SECOND)
    assert not twins.flows()


def test_services_that_change_their_names() -> None:
    """More names than a dataplane keeps in vain; flows keep the one that they were made under."""
    twins = twins_of(plan(), every_flow=False)
    for turn in range(12):
        frontends = {}
        for i in range(400):
            key = FrontendKey(VIP + i, 80, TCP)
            name = f"default/{turn}-{i}"
            frontends[key] = Frontend(
                key, FrontendKind.CLUSTER_IP, name, "rr", (backend(POD_B),), (0,)
            )
        loaded = replace(plan(), frontends=frontends, addresses={POD_B: 401})
        twins.load(loaded) if turn % 3 else twins.change(Delta(replace=loaded))
        twins.process(tun(syn(POD_A, 1000 + turn, VIP + turn, 80)))
        assert {flow.service for flow in twins.flows()} == {
            f"default/{t}-{t}" for t in range(turn + 1)
        }
    assert isinstance(twins.twin, NativeDataplane)
    assert len(twins.twin._names) < 12 * 400
    twins.end()


@pytest.mark.parametrize("make", [PythonDataplane, NativeDataplane])
class TestRefusals:
    """What is refused is refused alike, and changes nothing."""

    def test_a_secret_of_another_length(self, make: type[PythonDataplane]) -> None:
        with pytest.raises(ValueError, match="expected 16 bytes, got 15"):
            make(bytes(15))

    def test_a_delta_without_a_plan(self, make: type[PythonDataplane]) -> None:
        with pytest.raises(PlanError, match="load one first"):
            make(bytes(16)).change(Delta(), 0)

    def test_a_wrong_plan(self, make: type[PythonDataplane]) -> None:
        dataplane = make(bytes(16))
        with pytest.raises(PlanError, match="node_ip"):
            dataplane.load(replace(plan(), node_ip=0), 0)
        assert dataplane.generation == 0
        dataplane.load(plan(), 0)
        for wrong in (Delta(frontends={FrontendKey(VIP, 1, 6): None}), Delta(addresses={0: 1})):
            with pytest.raises(PlanError):
                dataplane.change(wrong, 0)
        assert dataplane.generation == 1

    def test_an_empty_delta_is_a_generation(self, make: type[PythonDataplane]) -> None:
        dataplane = make(bytes(16))
        dataplane.load(plan(), 0)
        dataplane.change(Delta(), 0)
        assert dataplane.generation == 2


@pytest.mark.parametrize("max_flows", [0, -1, 1 << 24])
def test_a_table_that_cannot_be(max_flows: int) -> None:
    with pytest.raises(ValueError, match="max_flows: expected 1 to"):
        NativeDataplane(bytes(16), max_flows)


def test_turns_outlive_plans() -> None:
    """`rr` goes on where it was unless its frontend was away in between."""
    both = [backend(POD_A), backend(POD_B), backend(POD_REMOTE)]
    first, second = frontend(VIP, 80, both), frontend(VIP, 81, both)
    twins = twins_of(plan(first, second))

    def ask(start: int) -> None:
        for i in range(4):
            twins.process(tun(syn(INTERNET, start + i, VIP, 80 + i % 2)))

    ask(1)
    twins.load(plan(first, second))
    ask(11)
    twins.change(Delta(frontends={second.key: frontend(VIP, 81, both[:2])}))
    ask(21)
    twins.change(Delta(frontends={second.key: second._replace(scheduler="random")}))
    ask(31)
    twins.change(Delta(frontends={second.key: second}))
    ask(41)
    twins.load(plan(first))
    ask(51)
    twins.load(plan(first, second))
    ask(61)
    twins.process(*(Packet(NODE_TUN, syn(NODE, 70 + i, VIP, 80)) for i in range(3)))
    twins.end()


def test_clashing_ports_are_sought_in_their_class() -> None:
    """Two frontends of one backend, and one port of the client for both."""
    first, second = (frontend(VIP, port, [backend(POD_B)]) for port in (80, 81))
    twins = twins_of(plan(first, second))
    for port in (1, 511, 512, 700, 1023, 1024, 40000, 65535):
        for dport in (80, 81):
            (out,) = twins.process(tun(syn(POD_A, port, VIP, dport))).sent
            assert out.port == NODE_TUN
    assert len({flow.reply.dport for flow in twins.flows()}) == 16
    twins.end()


def test_clashing_identifiers_of_pings() -> None:
    """Whatever address of its own a node asks from, a remote pod sees the tunnel's end."""
    twins = twins_of(plan())
    for source in (NODE, BRIDGE, LOOPBACK, LOOPBACK + 1):
        for ident in (7, 0, 65535):
            assert twins.process(tun(ping(source, POD_REMOTE, ident))).sent
    assert len({flow.reply.sport for flow in twins.flows()}) == 12
    twins.end()


def test_a_time_wait_flow_gives_its_port_away() -> None:
    twins = twins_of(replace(plan(), masquerade_ports=(61000, 61001)))
    for port in (1, 2):
        (out,) = twins.process(tun(syn(POD_A, port, INTERNET, 80))).sent
        mapped = inner(out).sport
        there, back = (POD_A, port, INTERNET, 80), (INTERNET, 80, NODE, mapped)
        twins.process(tun(segment(*back, 0x12, 5000, 1001)))
        twins.process(tun(segment(*there, 0x10, 1001, 5001)))
    assert not twins.process(tun(syn(POD_A, 3, INTERNET, 80))).sent
    twins.process(tun(segment(*there, 0x11, 1001, 5001)))
    twins.process(tun(segment(*back, 0x11, 5001, 1002)))
    twins.process(tun(segment(*there, 0x10, 1002, 5002)))
    (out,) = twins.process(tun(syn(POD_A, 3, INTERNET, 80))).sent
    assert inner(out).sport == mapped
    assert not twins.process(tun(datagram(POD_A, 3, INTERNET, 80))).dropped
    twins.end()


def test_a_udp_checksum_that_becomes_zero() -> None:
    """It is sent as 0xFFFF: 0 would say that there is none (RFC 768)."""
    twins = twins_of(plan(frontend(VIP_UDP, 53, [backend(POD_B, 53)], protocol=UDP)))
    # The payload is what completes the sum of the packet as it will be sent.
    check = datagram(POD_A, 5000, POD_B, 53, bytes(2))[26:28]
    (out,) = twins.process(tun(datagram(POD_A, 5000, VIP_UDP, 53, check))).sent
    assert out.data[26:28] == b"\xff\xff"
    twins.end()
