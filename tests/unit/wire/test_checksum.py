"""The checksums in C against the RFCs' examples and their Python twins."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pylb import _core
from pylb.wire import checksum as c
from pylb.wire import pure, sctp

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)


@pytest.mark.parametrize("twin", [c, pure])
def test_rfc1071_section_3_example(twin) -> None:
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert twin.ones_sum(data) == 0xDDF2
    assert twin.checksum(data) == 0x220D


@pytest.mark.parametrize("twin", [c, pure])
def test_rfc1624_section_4_example(twin) -> None:
    assert twin.update16(0xDD2F, 0x5555, 0x3285) == 0x0000


@pytest.mark.parametrize("twin", [c, pure])
def test_odd_last_byte_is_padded_on_its_right(twin) -> None:
    assert twin.ones_sum(b"\x12\x34\x56") == twin.ones_sum(b"\x12\x34\x56\x00") == 0x6834


@pytest.mark.parametrize("twin", [c, pure])
def test_pseudo_header_is_that_of_the_rfc(twin) -> None:
    header = bytes.fromhex("0a000001 0a000002 00 06 0014")
    assert twin.pseudo_sum(0x0A000001, 0x0A000002, 6, 20) == twin.ones_sum(header) == 0x141D


@given(st.binary(max_size=200), u32)
@example(b"", 0)
@example(b"", 0xFFFFFFFF)
@example(b"\xff" * 64, 0xFFFFFFFF)
def test_sum_equals_its_twin(data: bytes, initial: int) -> None:
    assert c.ones_sum(data, initial) == pure.ones_sum(data, initial)
    assert c.checksum(data, initial) == pure.checksum(data, initial)


@given(st.binary(max_size=80), st.integers(0, 15))
def test_sum_reads_unaligned_buffers(data: bytes, offset: int) -> None:
    shifted = memoryview(bytearray(bytes(offset) + data))[offset:]
    assert c.ones_sum(shifted) == pure.ones_sum(data)


def test_sum_of_the_largest_packet() -> None:
    data = b"\xff\xfe" * 32767
    assert c.ones_sum(data) == pure.ones_sum(data)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_sums_of_parts_add_up(head: bytes, tail: bytes) -> None:
    head += bytes(len(head) % 2)
    assert c.ones_sum(tail, c.ones_sum(head)) == c.ones_sum(head + tail)


@given(u16, u16, u16)
def test_update16_equals_its_twin(check: int, old: int, new: int) -> None:
    assert c.update16(check, old, new) == pure.update16(check, old, new)


@given(u16, u32, u32)
@example(0xFFFF, 0xFFFFFFFF, 0)
def test_update32_equals_its_twin(check: int, old: int, new: int) -> None:
    assert c.update32(check, old, new) == pure.update32(check, old, new)


@given(u32, u32, st.integers(0, 255), u16)
@example(0xFFFFFFFF, 0xFFFFFFFF, 255, 0xFFFF)
def test_pseudo_sum_equals_its_twin(src: int, dst: int, protocol: int, length: int) -> None:
    assert c.pseudo_sum(src, dst, protocol, length) == pure.pseudo_sum(src, dst, protocol, length)


@given(st.binary(min_size=4, max_size=60).filter(lambda d: len(d) % 2 == 0), u32, st.data())
def test_update_equals_recomputing(data: bytes, new: int, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) // 2 - 2)) * 2
    (old,) = struct.unpack_from(">I", data, at)
    changed = data[:at] + struct.pack(">I", new) + data[at + 4 :]
    updated = c.update32(c.checksum(data), old, new)
    # Of the two zeros, an update gives 0xffff as the sum of all zeros, and adding them up 0.
    assert updated == (c.checksum(changed) if any(changed) else 0)


@pytest.mark.parametrize(("value", "written"), [(0, 0xFFFF), (1, 1), (0xFFFF, 0xFFFF)])
def test_udp_never_writes_zero(value: int, written: int) -> None:
    assert c.udp_check(value) == written


@pytest.mark.parametrize("initial", [-1, 1 << 32])
def test_initial_outside_32_bits_is_refused(initial: int) -> None:
    with pytest.raises(OverflowError):
        c.ones_sum(b"", initial)


# RFC 3720 appendix B.4; there the bytes stand in the order of the wire, the lowest first.
ISCSI_READ = bytes.fromhex(
    "01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018"
    "28000000 00000000 02000000 00000000"
)


@pytest.mark.parametrize("crc32c", [c.crc32c, pure.crc32c])
@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (bytes(32), "aa36918a"),
        (b"\xff" * 32, "43aba862"),
        (bytes(range(32)), "4e79dd46"),
        (bytes(range(31, -1, -1)), "5cdb3f11"),
        (ISCSI_READ, "563a96d9"),
    ],
)
def test_rfc3720_appendix_b4(crc32c, data: bytes, wire: str) -> None:
    assert crc32c(data).to_bytes(4, "little").hex() == wire


@given(st.binary(max_size=200), u32, st.integers(0, 15))
@example(b"", 0, 0)
@example(bytes(64), 0xFFFFFFFF, 3)
def test_crc32c_equals_its_twins(data: bytes, initial: int, offset: int) -> None:
    expected = pure.crc32c(data, initial)
    shifted = memoryview(bytearray(bytes(offset) + data))[offset:]
    assert c.crc32c(shifted, initial) == expected
    assert _core.lib.pylb_crc32c_portable(data, len(data), initial) == expected


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_crcs_of_parts_follow_one_another(head: bytes, tail: bytes) -> None:
    assert c.crc32c(tail, c.crc32c(head)) == c.crc32c(head + tail)


@given(st.binary(max_size=300), u32, u32, u32)
def test_an_updated_crc_is_the_new_one_and_a_wrong_one_stays_as_wrong(
    tail: bytes, old: int, new: int, wrong: int
) -> None:
    before, after = (c.crc32c(word.to_bytes(4, "big") + tail) for word in (old, new))
    length = 4 + len(tail)
    assert c.crc32c_update(before, old, new, length) == after
    assert pure.crc32c_update(before, old, new, length) == after
    assert c.crc32c_update(before ^ wrong, old, new, length) == after ^ wrong


def test_the_crc_of_the_largest_packet_is_updated() -> None:
    data = bytes(range(256)) * 256
    for length in (65535, 65515, 32768, 32767):
        before, after = c.crc32c(data[:length]), c.crc32c(b"\1\2\3\4" + data[4:length])
        assert c.crc32c_update(before, 0x00010203, 0x01020304, length) == after


def test_the_checksum_of_sctp_does_not_cover_itself() -> None:
    body = bytes(range(40))
    expected = pure.crc32c(body[:8] + bytes(4) + body[12:])
    assert sctp.checksum(body) == sctp.checksum(body[:8] + b"abcd" + body[12:]) == expected
