"""What the checksums cost, from one header to the largest packet, in C and in Python."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pylb.wire import checksum as c
from pylb.wire import pure

TWINS = [pytest.param(c, id="c"), pytest.param(pure, id="python")]


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("size", [20, 64, 1400, 65535])
def test_checksum(benchmark: BenchmarkFixture, twin, size: int) -> None:
    benchmark.group = f"checksum of {size} bytes"
    benchmark(twin.checksum, bytes(range(256)) * (size // 256) + bytes(size % 256))


@pytest.mark.parametrize("twin", TWINS)
def test_update32(benchmark: BenchmarkFixture, twin) -> None:
    benchmark.group = "update of an address"
    benchmark(twin.update32, 0xDD2F, 0x0A600A0A, 0x0AF40203)


@pytest.mark.parametrize("twin", TWINS)
def test_pseudo_sum(benchmark: BenchmarkFixture, twin) -> None:
    benchmark.group = "pseudo-header"
    benchmark(twin.pseudo_sum, 0x0A600A0A, 0x0AF40203, 6, 1400)
