"""A namespace for rulesets, and a node with its surroundings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.node.world import Namespace, World, world


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Namespace("rules")
    try:
        yield made
    finally:
        made.remove()
