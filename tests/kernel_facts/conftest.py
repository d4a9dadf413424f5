"""One namespace for all tests of the kernel's facts; every test has ports of its own."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .kernel import TOOLS, Kernel


def _lacking() -> str | None:
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    return None if Path("/dev/net/tun").exists() else "needs /dev/net/tun"


@pytest.fixture(scope="session")
def kernel() -> Iterator[Kernel]:
    if lacking := _lacking():
        if os.environ.get("CI"):
            pytest.fail(lacking)
        pytest.skip(lacking)
    # Not the process number: a run that was killed, or a machine put back to an earlier state,
    # left a namespace behind whose number came round again, and no fact could be looked at.
    made = Kernel(f"pylbfacts-{secrets.token_hex(4)}")
    yield made
    made.close()


_PORTS = itertools.count(20000)


@pytest.fixture
def port() -> int:
    """A source port, or ICMP id, that no other test uses."""
    return next(_PORTS)
