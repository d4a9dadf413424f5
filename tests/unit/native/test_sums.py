"""Sums that are made many bytes at a time, at every length and address, against their twins."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pylb.wire import pure
from tests.unit.native.probe import Ask, ones_sum, toeplitz

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
STEP = 64
"""Bytes that are summed at once where the processor can."""


@pytest.mark.parametrize("offset", range(9))
def test_every_length_around_the_wide_steps(ask: Ask, offset: int) -> None:
    data = random.Random(offset).randbytes(9 * STEP)
    lengths = [*range(STEP + 2), *range(3 * STEP - 2, 9 * STEP)]
    for length in lengths:
        part = data[:length]
        assert ones_sum(ask, part, offset, 0) == pure.ones_sum(part), length


@given(st.integers(0, 3000), st.integers(0, 63), u32, st.integers(0, 2**32 - 1))
@example(0, 0, 0xFFFFFFFF, 0)
def test_the_sum_equals_its_twin(
    ask: Ask, length: int, offset: int, initial: int, seed: int
) -> None:
    data = random.Random(seed).randbytes(length)
    assert ones_sum(ask, data, offset, initial) == pure.ones_sum(data, initial)


@pytest.mark.parametrize("byte", [0x00, 0xFF])
@pytest.mark.parametrize("length", [65535, 65534, 4 * STEP, 4 * STEP - 1, 1 << 20])
def test_sums_that_carry_always_or_never(ask: Ask, byte: int, length: int) -> None:
    data = bytes([byte]) * length
    assert ones_sum(ask, data, 1, 0) == pure.ones_sum(data)


@given(u32, u32, u16, u16)
@example(0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF, 0xFFFF)
def test_toeplitz_equals_its_twin(ask: Ask, src: int, dst: int, sport: int, dport: int) -> None:
    assert toeplitz(ask, src, dst, sport, dport) == (
        pure.toeplitz(src, dst, sport, dport),
        pure.toeplitz_addresses(src, dst),
    )


def test_every_bit_of_the_input_has_its_entry_in_the_table(ask: Ask) -> None:
    for bit in range(96):
        value = 1 << bit
        fields = (value >> 64, value >> 32 & 0xFFFFFFFF, value >> 16 & 0xFFFF, value & 0xFFFF)
        assert toeplitz(ask, *fields) == (
            pure.toeplitz(*fields),
            pure.toeplitz_addresses(*fields[:2]),
        )
