"""The kernel between two wires, as tests/kernel_facts has it."""

from __future__ import annotations

from tests.kernel_facts.conftest import kernel, port

__all__ = ["kernel", "port"]
