"""``conntrack -S``: the counters of connection tracking in the tool's words."""

from __future__ import annotations

from collections.abc import Mapping

NAMES = (
    "found",
    "invalid",
    "insert",
    "insert_failed",
    "drop",
    "early_drop",
    "error",
    "search_restart",
    "clash_resolve",
    "chaintoolong",
)
"""conntrack's counters in the order of its line."""


def statistics(counters: Mapping[str, int]) -> dict[str, int]:
    """conntrack's counters from a dataplane's.

    A counter of the same name is taken as it is.  Otherwise ``insert`` is the new
    flows, ``invalid`` the packets dropped for their state, ``insert_failed`` those
    whose translation found no free port, ``drop`` those that the full table
    refused and ``error`` those that were malformed; what pylb has no notion of is 0.
    """
    ours = {
        "insert": ("new",),
        "invalid": ("drop_invalid_state",),
        "insert_failed": ("drop_snat_exhausted",),
        "drop": ("drop_table_full",),
        "error": _MALFORMED,
    }
    return {
        name: counters.get(name, sum(counters.get(own, 0) for own in ours.get(name, ())))
        for name in NAMES
    }


def statistics_line(statistics: Mapping[str, int], cpu: int = 0) -> str:
    """The line for one CPU, with the tool's padding and its blank at the end."""
    return f"cpu={cpu:<4}\t" + "".join(f"{name}={statistics[name]} " for name in NAMES)


_MALFORMED = (
    "drop_truncated",
    "drop_bad_version",
    "drop_bad_header_length",
    "drop_bad_total_length",
    "drop_bad_ip_checksum",
    "drop_bad_l4_header",
    "drop_bad_l4_checksum",
)
