"""What may differ between two runs of a walk-through, and nothing else.

Ports that the kernel or a daemon chose, times, identifiers and sequence numbers
become words.  Addresses, ports of Services, states and counts stay.
"""

from __future__ import annotations

import re

EPHEMERAL = range(32768, 65536)
"""Source ports of clients (32768-60999) and masquerade ports (61000-65534)."""


def _port(found: re.Match[str]) -> str:
    known = int(found["port"]) not in EPHEMERAL
    return found[0] if known else f"{found['before']}PORT"


_RULES: list[tuple[str, str]] = [
    # conntrack: seconds until a flow is forgotten, identifiers, the time of an event.
    (r"(?m)^(.*?\b(?:tcp|udp|icmp|sctp|gre|unknown) +\d+ )\d+ ", r"\1TIMEOUT "),
    (r"\bid=\d+", "id=ID"),
    (r"\[\d{10}\.\d{6}\]", "[TIME]"),
    # tcpdump and logs.
    (r"\b\d\d:\d\d:\d\d\.\d+\b", "TIME"),
    (r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", "[TIME]"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", "TIME"),
    (r"\b(seq|ack|val|ecr) \d{6,10}\b", r"\1 NUMBER"),
    (r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC"),
    # How many SYNs a client sent before it gave up.
    (r"\b(drop_\w+ +)[1-9]\d*", r"\1COUNT"),
    # What is installed.
    (r"\b(curl/|pylb-)\d+(?:\.\d+)*", r"\1VERSION"),
    # The age of an object, and how wide its column is.
    (r"(?m)(?<= )(?:(?:\d+m)?\d+s|AGE)(?: +|$)", "AGE "),
]


def normalised(text: str) -> str:
    """``text`` with what is random or timed replaced by words."""
    text = re.sub(r"(?P<before>\b[sd]port=|\b(?:\d+\.){3}\d+[.:])(?P<port>\d{5})\b", _port, text)
    for pattern, words in _RULES:
        text = re.sub(pattern, words, text)
    return text
