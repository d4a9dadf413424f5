"""Both dataplanes' Maglev tables, slot by slot, and what the native one refuses to make."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylb.dataplane.native import maglev as native
from pylb.dataplane.python import maglev as python
from pylb.plan.tables import Backend

WEIGHTS = st.one_of(st.just(1), st.integers(1, 9), st.sampled_from((254, 65534, 65535)))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 0xFFFFFFFF), st.integers(1, 65535), WEIGHTS), min_size=1),
    st.sampled_from((2, 3, 13, 101, 251, 1009)),
)
def test_tables_are_the_same(backends: list[tuple[int, int, int]], size: int) -> None:
    made = [Backend(*each) for each in backends]
    assert native.build(made, size) == python.build(made, size)


def test_a_table_of_the_default_size_is_the_same() -> None:
    backends = [Backend((10 << 24) + i, 8080, 1 + i % 3) for i in range(300)]
    assert native.build(backends, 65537) == python.build(backends, 65537)


@pytest.mark.parametrize(
    ("backends", "size", "said"),
    [
        ([], 13, "expected 1 to 65535 backends, got 0"),
        ([Backend(1, 80), Backend(2, 80, 0)], 13, "expected weights of 1 or more"),
        ([Backend(1, 80)], 12, "expected a prime of at most 16777216, got 12"),
        ([Backend(1, 80)], 1, "expected a prime"),
        ([Backend(1, 80)], 16777259, "expected a prime"),
    ],
)
def test_what_would_never_end_is_refused(backends: list[Backend], size: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        native.build(backends, size)
