"""The checksums in C against the RFCs' examples and their Python twins."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pylb.wire import checksum as c
from pylb.wire import pure

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
