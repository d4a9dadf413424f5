"""Many Services and many flows: what a dataplane's tables cost.

Both begin in a lab of their own, so that nothing that was measured before has
left anything in its tables or in its memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from pylb.bench import cluster
from pylb.bench.cluster import FLOWS, MANY, SINK, STORM
from pylb.bench.errors import Failed, NotAvailable
from pylb.bench.labs import NODES, Labs, RunningLab, free_memory
from pylb.bench.measures import CLIENT, Figure, accepting, storm_figure
from pylb.bench.subjects import Subject
from pylb.bench.tools import client, server

CURVE = (1, 100, 1000)
"""Services of the curve's first points; loading the last is measured too."""
ALL = 10_000
CHANGES = 3
"""How often one endpoint is changed in a round."""

POINTS = (10_000, 100_000, 1_000_000)
"""Flows of the memory curve; where the table holds fewer, the last point is what it holds."""
_ADDRESSES = 20
"""Destinations of every source port, of which there are fewer than 65 536."""
_RATE = {"python": 2000}
"""Flows a second that a dataplane can open; many times as many for the others."""
_OTHER_RATE = 150_000
_OPEN_WITHIN = 20.0
"""Seconds to open them: an unanswered UDP flow is forgotten after 30 (nf_conntrack_udp_timeout)."""
_LIMIT_MARGIN = 0.95
"""The part of a table's limit that is filled: near the limit flows are thrown out early."""
_MOST_MEMORY = 0.5
"""The part of free memory that flows may take."""

Reading = tuple[str, int | None, Figure | Failed]
"""A metric, where on its curve, and its figure or why there is none this time."""


def services(
    labs: Labs, subject: Subject, seconds: float, points: tuple[int, ...], last: int
) -> Iterator[Reading]:
    """Connections spread over all Services, at each number of them; loading and changing.

    Applies are timed from the request to the lab until its answer, which comes when
    every node has committed; ``load`` and ``change`` are what one node's daemon
    takes for the same, from its own request to its answer.
    """
    with labs.fresh(subject) as lab, ExitStack() as servers:
        for pod in ("far", "far-2", "far-3"):
            servers.enter_context(accepting(lab, pod))
        there = 0
        for count in points:
            lab.apply(cluster.many(there, count))
            there = count
            yield "services", count, _tried(partial(_storm, lab, seconds, count))
        if not last:
            return
        lab.delete(cluster.many(0, there))
        everything = cluster.many(0, last)
        yield "apply", None, _timed(partial(lab.apply, everything))
        yield "services", last, _tried(partial(_storm, lab, seconds, last))
        for turn in range(CHANGES):
            yield "apply-change", None, _timed(partial(lab.apply, [_one(last, turn)]))
        # From here on the node has what its lab does not know of; the lab's use ends with it.
        for turn in range(CHANGES):
            change = {"apply": [_one(last, turn + CHANGES)]}
            yield "change", None, _timed(partial(lab.load, "node1", change))
        whole = {"objects": [*cluster.bodies(), *everything]}
        yield "load", None, _timed(partial(lab.load, "node1", whole))


def _one(last: int, turn: int) -> cluster.Body:
    """The endpoints of the Service in the middle, one fewer or all of them in turn."""
    return cluster.endpoints(last // 2, 2 if turn % 2 == 0 else 3)


def _tried(measure: Callable[[], Figure]) -> Figure | Failed:
    try:
        return measure()
    except Failed as error:
        return error


def _timed(work: Callable[[], None]) -> Figure | Failed:
    """Seconds that ``work`` takes."""
    began = time.monotonic()
    try:
        work()
    except Failed as error:
        return error
    return Figure(time.monotonic() - began)


def _storm(lab: RunningLab, seconds: float, count: int) -> Figure:
    lab.flush()
    found = client(
        lab.place("load"),
        "tcp-connect",
        seconds,
        address=MANY,
        port=STORM,
        addresses=count,
        cpus=CLIENT,
    )
    return storm_figure(found, seconds)


def memory(labs: Labs, subject: Subject, points: tuple[int, ...]) -> Iterator[Reading]:
    """Bytes for each flow at several numbers of flows.

    For the kernel it is the growth of its entries over the flows of both nodes,
    since they share a slab; for a daemon the growth of its own
    resident memory over its own flows.
    """
    labs.flush()
    with labs.fresh(subject) as lab, server(lab.place("far"), "udp-sink", port=SINK):
        lab.apply(cluster.flow_services(_ADDRESSES))
        limit = _limit(lab)
        # The first flows pay for what is made once.
        _open(lab, 500)
        nodes = NODES if subject.kernel else NODES[:1]
        base, before = _memory(lab), sum(lab.flows(node) for node in nodes)
        reached = 0
        for point in points:
            if limit <= reached:
                break
            reached = min(point, limit)
            _open(lab, reached)
            flows = sum(lab.flows(node) for node in nodes)
            if flows - before < reached / 3:
                raise Failed(f"of {reached} flows only {flows} were tracked")
            grown = _memory(lab) - base
            detail = {"flows": flows - before, "bytes": grown}
            yield "memory", reached, Figure(grown / (flows - before), detail)


def _open(lab: RunningLab, count: int) -> None:
    rate = _RATE.get(lab.subject.dataplane, _OTHER_RATE)
    seconds = min(_OPEN_WITHIN, 1 + 2 * count / rate)
    client(
        lab.place("load"),
        "udp-open",
        seconds,
        address=FLOWS,
        addresses=_ADDRESSES,
        port=SINK,
        count=count,
        rate=rate,
    )
    time.sleep(0.5)


def _limit(lab: RunningLab) -> int:
    """Flows that can be opened in the time and the memory that there are."""
    if lab.subject.kernel:
        table = int(lab.sysctl("node1", "netfilter/nf_conntrack_max"))
    else:
        table = int(lab.counters("node1")["max_flows"])
    rate = _RATE.get(lab.subject.dataplane, _OTHER_RATE)
    # Above what any dataplane has been seen to take for a flow, on both nodes.
    room = int(free_memory() * _MOST_MEMORY / 8192)
    return min(int(table * _LIMIT_MARGIN), int(rate * _OPEN_WITHIN * 0.9), room)


def _memory(lab: RunningLab) -> int:
    """Bytes that are for flows: the kernel's entries, or the daemon's resident memory.

    Entries in use, not pages: pages that earlier flows have left are filled again
    first.  Raises `NotAvailable` when the kernel does not tell.
    """
    if lab.subject.kernel:
        return entry_bytes(_read(Path("/proc/slabinfo")))
    return resident_bytes(_read(Path(f"/proc/{lab.daemon_pid('node1')}/status")))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise NotAvailable(f"{path}: {error.strerror}") from None


def entry_bytes(slabinfo: str) -> int:
    """Bytes of the kernel's connection tracking entries that are in use (slabinfo(5))."""
    for line in slabinfo.splitlines():
        words = line.split()
        if words[:1] == ["nf_conntrack"]:
            return int(words[1]) * int(words[3])
    raise NotAvailable("/proc/slabinfo has no line nf_conntrack: is it compiled out?")


def resident_bytes(status: str) -> int:
    """Bytes of a process's resident memory, from its /proc status (proc(5))."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise NotAvailable("/proc/PID/status has no line VmRSS")
