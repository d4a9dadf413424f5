"""VXLAN, flannel-UDP and the virtio-net header: exact bytes, and every way to be cut off."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylb.wire import flannel_udp, udp, virtio_net, vxlan
from pylb.wire.errors import WireError

SRC_MAC, DST_MAC = bytes.fromhex("0250c0a8320b"), bytes.fromhex("0250c0a8320c")
INNER = udp.build(0x0AF40102, 0x0AF40203, 5000, 53, b"question")

macs = st.binary(min_size=6, max_size=6)


class TestVXLAN:
    def test_bytes_are_those_of_rfc7348_section_5(self) -> None:
        payload = vxlan.encode(INNER, 0x123456, SRC_MAC, DST_MAC)
        assert payload[:8] == bytes.fromhex("08000000 12345600")
        assert payload[8:22] == DST_MAC + SRC_MAC + b"\x08\x00"
        assert payload[22:] == INNER

    def test_inner_frame_is_ethernet(self) -> None:
        frame = dpkt.ethernet.Ethernet(vxlan.encode(INNER, 1, SRC_MAC, DST_MAC)[8:])
        assert (frame.dst, frame.src, frame.type) == (DST_MAC, SRC_MAC, 0x0800)
        assert bytes(frame.data) == INNER

    @given(st.binary(max_size=100), st.integers(0, 0xFFFFFF), macs, macs)
    def test_round_trip(self, packet: bytes, vni: int, src: bytes, dst: bytes) -> None:
        frame = vxlan.decode(vxlan.encode(packet, vni, src, dst))
        assert frame == vxlan.Frame(vni, src, dst, vxlan.IPV4, packet)

    def test_other_ethertypes_are_the_callers_to_judge(self) -> None:
        arp = vxlan.encode(b"", 1, SRC_MAC, DST_MAC)[:20] + b"\x08\x06" + bytes(28)
        assert vxlan.decode(arp).ethertype == 0x0806

    def test_reserved_bits_are_ignored(self) -> None:
        payload = b"\xff\xff\xff\xff\x00\x00\x01\xff" + bytes(14)
        assert vxlan.decode(payload).vni == 1

    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            (b"", "expected a header of 8 bytes, got 0"),
            (b"\x08" + bytes(6), "expected a header of 8 bytes, got 7"),
            (bytes(30), "expected the I flag, got flags 0x00"),
            (b"\xf7" + bytes(29), "expected the I flag, got flags 0xf7"),
            (b"\x08" + bytes(7), "inner Ethernet header of 14 bytes, got 0"),
            (b"\x08" + bytes(20), "inner Ethernet header of 14 bytes, got 13"),
        ],
    )
    def test_says_what_is_wrong(self, payload: bytes, said: str) -> None:
        with pytest.raises(WireError, match=said):
            vxlan.decode(payload)

    @pytest.mark.parametrize("vni", [-1, 1 << 24])
    def test_vni_of_more_than_24_bits_is_refused(self, vni: int) -> None:
        with pytest.raises(WireError, match="VXLAN VNI: expected 0 to 16777215"):
            vxlan.encode(INNER, vni, SRC_MAC, DST_MAC)

    @pytest.mark.parametrize(("src", "dst"), [(b"", DST_MAC), (SRC_MAC, bytes(7))])
    def test_mac_of_another_length_is_refused(self, src: bytes, dst: bytes) -> None:
        with pytest.raises(WireError, match="MAC: expected 6 bytes"):
            vxlan.encode(INNER, 1, src, dst)

    @given(st.binary(max_size=64), st.booleans())
    def test_anything(self, data: bytes, flagged: bool) -> None:
        payload = b"\x08" + data if flagged else data
        try:
            frame = vxlan.decode(payload)
        except WireError:
            return
        assert len(frame.packet) == len(payload) - 22
        assert frame.vni < 1 << 24


class TestFlannelUDP:
    @given(st.binary(min_size=1, max_size=100))
    def test_is_the_bare_packet(self, packet: bytes) -> None:
        assert flannel_udp.encode(packet) == packet
        assert flannel_udp.decode(packet) == packet

    def test_empty_datagram(self) -> None:
        with pytest.raises(WireError, match="got an empty datagram"):
            flannel_udp.decode(b"")


class TestVirtioNet:
    @given(st.tuples(*[st.integers(0, 0xFF)] * 2, *[st.integers(0, 0xFFFF)] * 4))
    def test_round_trip(self, fields: tuple[int, ...]) -> None:
        header = virtio_net.Header(*fields)
        data = virtio_net.encode(header)
        assert len(data) == virtio_net.SIZE == 10
        assert virtio_net.decode(data + b"the packet") == header

    def test_layout(self) -> None:
        header = virtio_net.Header(
            virtio_net.NEEDS_CSUM, virtio_net.GSO_TCPV4, hdr_len=40, gso_size=1410, csum_start=20
        )
        data = virtio_net.encode(header._replace(csum_offset=16))
        assert data[:2] == b"\x01\x01"
        assert list(memoryview(data)[2:].cast("H")) == [40, 1410, 20, 16]

    @pytest.mark.parametrize("length", range(10))
    def test_cut_off(self, length: int) -> None:
        with pytest.raises(WireError, match=f"expected 10 bytes, got {length}"):
            virtio_net.decode(bytes(length))
