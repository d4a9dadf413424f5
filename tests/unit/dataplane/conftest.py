"""Every test here runs on the Python and on the native dataplane."""

from __future__ import annotations

from tests.dataplanes import chosen_dataplane
from tests.dataplanes import on_both as pytest_generate_tests

__all__ = ["chosen_dataplane", "pytest_generate_tests"]
