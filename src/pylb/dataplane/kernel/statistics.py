"""The kernel's own counters out of its text: /proc/net/stat/nf_conntrack and /proc/net/dev."""

from __future__ import annotations

_RENAMED = {
    "clashres": "clash_resolve",
    "icmp_error": "error",
}
_KEPT = (
    "found",
    "new",
    "invalid",
    "insert",
    "insert_failed",
    "drop",
    "early_drop",
    "clash_resolve",
    "error",
    "search_restart",
    "chaintoolong",
)


def conntrack(text: str) -> dict[str, int]:
    """nf_conntrack's statistics by conntrack(8)'s names, all CPUs together.

    ``text`` is that of /proc/net/stat/nf_conntrack: names, then a line of
    hexadecimal numbers for each CPU.  ``flows`` is not a sum: each CPU tells it.
    """
    lines = text.splitlines()
    if len(lines) < 2:
        return {"flows": 0, **dict.fromkeys(_KEPT, 0)}
    names = [_RENAMED.get(name, name) for name in lines[0].split()]
    rows = [[int(word, 16) for word in line.split()] for line in lines[1:]]
    sums = {name: sum(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return {"flows": rows[0][names.index("entries")], **{n: sums.get(n, 0) for n in _KEPT}}


def device(text: str, name: str) -> tuple[int, int]:
    """Packets (received, sent) of the device ``name``; (0, 0) when it is not there.

    ``text`` is that of /proc/net/dev: eight columns received, then eight sent.
    """
    for line in text.splitlines():
        label, _, rest = line.partition(":")
        if label.strip() == name:
            columns = rest.split()
            return int(columns[1]), int(columns[9])
    return 0, 0
