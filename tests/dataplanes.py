"""The dataplanes that process packets: what a test says of the one holds for the other.

A test that makes its dataplane here runs once on each (`on_both`, in the conftest of its
folder).  One that looks into the Python dataplane's own parts is marked ``python_only``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

from pylb.dataplane.native.datapath import NativeDataplane
from pylb.dataplane.python.datapath import PythonDataplane

AnyDataplane = PythonDataplane | NativeDataplane

DATAPLANES: dict[str, type[PythonDataplane] | type[NativeDataplane]] = {
    "python": PythonDataplane,
    "native": NativeDataplane,
}
CHOSEN = os.environ.get("PYLB_DATAPLANES", ",".join(DATAPLANES)).split(",")
_chosen: ContextVar[str] = ContextVar("dataplane", default="python")


def make(secret: bytes, max_flows: int = 262144) -> AnyDataplane:
    """A dataplane of the kind that the running test is about, without a plan."""
    return DATAPLANES[_chosen.get()](secret, max_flows)


def on_both(metafunc: pytest.Metafunc) -> None:
    """For `pytest_generate_tests`: run each test on every dataplane of `CHOSEN`."""
    if not metafunc.definition.get_closest_marker("python_only"):
        metafunc.parametrize("chosen_dataplane", CHOSEN, indirect=True)


@contextmanager
def chosen(name: str) -> Iterator[None]:
    """What `make` makes meanwhile is the dataplane of this name."""
    before = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(before)


@pytest.fixture(autouse=True)
def chosen_dataplane(request: pytest.FixtureRequest) -> Iterator[None]:
    """For the conftest of a folder, with `on_both`."""
    with chosen(getattr(request, "param", "python")):
        yield
