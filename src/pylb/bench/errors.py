"""What a bench, or a single measurement, stops for."""

from __future__ import annotations


class BenchError(Exception):
    """The bench cannot go on; the message is one sentence for a person."""


class NotAvailable(Exception):
    """This subject or metric cannot be had on this machine; the message says why."""


class Failed(Exception):
    """This measurement gave no figure, though another might; the message says why."""
