"""The demo: every kind of traffic through a lab, and whether each is as it must be."""

from __future__ import annotations

from pylb.lab.demo.show import run

__all__ = ["run"]
