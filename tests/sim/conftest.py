"""How many seeds the simulations run with: ``PYLB_SIM_SEEDS`` (default 3), from 1 on."""

from __future__ import annotations

import os

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        count = int(os.environ.get("PYLB_SIM_SEEDS", "3"))
        metafunc.parametrize("seed", range(1, count + 1), ids=lambda n: f"seed{n}")
