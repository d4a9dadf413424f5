"""What the hashes of a flow cost, in C and in Python."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pylb.wire import hash as c
from pylb.wire import pure

TWINS = [pytest.param(c, id="c"), pytest.param(pure, id="python")]


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("size", [13, 37])
def test_siphash(benchmark: BenchmarkFixture, twin, size: int) -> None:
    benchmark.group = f"SipHash-2-4 of {size} bytes"
    benchmark(twin.siphash, bytes(range(16)), bytes(size))


@pytest.mark.parametrize("twin", TWINS)
def test_toeplitz(benchmark: BenchmarkFixture, twin) -> None:
    benchmark.group = "Toeplitz of addresses and ports"
    benchmark(twin.toeplitz, 0x420995BB, 0xA18E6450, 2794, 1766)
