"""A node's surroundings for each test; without root there are none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.node.world import World, world


@pytest.fixture
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Its daemons are native, or what the test's parameter says (`world.ON_BOTH`)."""
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("needs root and /dev/net/tun")
    with world(tmp_path, getattr(request, "param", "native")) as made:
        yield made
