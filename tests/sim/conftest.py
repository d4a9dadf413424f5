"""Both dataplanes, and how many seeds: ``PYLB_SIM_SEEDS`` (default 3), from 1 on."""

from __future__ import annotations

import os

import pytest

from tests.dataplanes import chosen_dataplane, on_both

__all__ = ["chosen_dataplane"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_both(metafunc)
    if "seed" in metafunc.fixturenames:
        count = int(os.environ.get("PYLB_SIM_SEEDS", "3"))
        metafunc.parametrize("seed", range(1, count + 1), ids=lambda n: f"seed{n}")
