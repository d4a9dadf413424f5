"""What one measurement is: which programs run where, and which figures come of it.

A measure gives its figures by metric, with what they were computed from.  The
first tenths of a second, in which windows open and neighbours are found, are
left out of every rate.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pylb.bench.cluster import BULK, ECHO, HASH, MASQUERADED_PORTS, SINK, STORM, UDP_ECHO
from pylb.bench.errors import Failed, NotAvailable
from pylb.bench.labs import RunningLab
from pylb.bench.tools import client, server

SMALL = 64
"""Payload of a small datagram, in bytes: 92 with UDP and IP headers."""
FLOWS = 1000
"""Flows of the measurement with many."""
MAY_LOSE = 0.01
"""The part of the datagrams that may be lost at a rate that counts as without loss."""
_WARM = 0.2
"""Seconds at the beginning that no rate takes in, and at most this part of a run."""
_WARM_PART = 0.3
_FEW = 20_000
"""Flows that may be left from before, of some 70 000 that there are source ports for."""
_STEPS = 5
"""Rates that are tried, besides overload, to find the highest one without loss."""


def halves(cpus: Sequence[int]) -> tuple[str, str]:
    """The CPUs of clients and those of servers, as the load program wants them.

    Left to the scheduler the two ends are sometimes on one CPU and sometimes on
    two, and every figure has two values.  Dataplanes run where they like.
    """
    middle = max(1, len(cpus) // 2)
    own, other = cpus[:middle], cpus[middle:] or cpus
    return ",".join(map(str, own)), ",".join(map(str, other))


CLIENT, SERVER = halves(sorted(os.sched_getaffinity(0)))
ONE = CLIENT.split(",")[0]
"""Where both ends of a round trip run, so that other CPUs are woken only by the dataplane."""
ALL = f"{CLIENT},{SERVER}"
"""For several streams, which the scheduler spreads."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure in its metric's unit, and what it was computed from."""

    value: float
    detail: Mapping[str, Any] = field(default_factory=dict)


Figures = dict[str, Figure]
Measure = Callable[[RunningLab, str, float], Figures]


def rate(counts: Sequence[int], slot: float, seconds: float) -> float:
    """Events a second between the warm-up and the client's end.

    ``counts`` are events in slots of ``slot`` seconds since the first one.  What
    came after ``seconds``, from queues, is not counted; without a whole slot it
    raises `Failed`.
    """
    first = round(min(_WARM, _WARM_PART * seconds) / slot)
    last = min(int(seconds / slot), len(counts) - 1)
    if last <= first:
        raise Failed("too little arrived for a figure")
    return sum(counts[first:last]) / ((last - first) * slot)


def busy_seconds(stat: str) -> float:
    """Seconds that all CPUs have worked since the machine came up, from /proc/stat (proc(5)).

    Stolen time is the hypervisor's and not counted.
    """
    ticks = [int(word) for word in stat.splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = ticks[:7]
    return (user + nice + system + irq + softirq) / _TICKS


_TICKS = 100
"""USER_HZ, which /proc counts in on every architecture that Debian has."""


def _stat() -> str:
    return Path("/proc/stat").read_text()


def _counted(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"counts": found["counts"], "slot": found["slot"]}


def tcp(streams: int) -> Measure:
    """Throughput of this many streams; with one also the CPU time for it."""

    here, there = (CLIENT, SERVER) if streams == 1 else (ALL, ALL)

    def measure(lab: RunningLab, path: str, seconds: float) -> Figures:
        target = lab.target(path)
        with server(lab.place(target.server), "tcp-sink", port=BULK, cpus=there) as sink:
            before, began = busy_seconds(_stat()), time.monotonic()
            sent = client(
                lab.place(target.source),
                "tcp-send",
                seconds,
                address=target.address,
                port=target.port(BULK),
                streams=streams,
                cpus=here,
            )
            busy, took = busy_seconds(_stat()) - before, time.monotonic() - began
            found = sink.stop()
        speed = rate(found["counts"], found["slot"], seconds) * 8 / 1e9
        detail = {**_counted(found), "sent": sent["sent"]}
        if streams > 1:
            return {f"tcp{streams}": Figure(speed, detail)}
        gigabytes = found["total"] / 1e9
        used = {"busy": busy, "elapsed": took, "bytes": found["total"]}
        return {
            "tcp": Figure(speed, detail),
            "cpu": Figure(busy / gigabytes, used),
        }

    return measure


def connections(lab: RunningLab, path: str, seconds: float) -> Figures:
    """New connections a second, 64 under way at a time, each closed by the server at once."""
    target = lab.target(path)
    ports = MASQUERADED_PORTS if path == "masquerade" else 1
    if ports > 1:
        lab.flush(above=_FEW)
    with accepting(lab, target.server, ports):
        found = client(
            lab.place(target.source),
            "tcp-connect",
            seconds,
            address=target.address,
            port=target.port(STORM),
            ports=ports,
            cpus=CLIENT,
        )
    return {"connections": storm_figure(found, seconds)}


@contextmanager
def accepting(lab: RunningLab, place: str, ports: int = 1) -> Iterator[None]:
    """A server of the storm at a place, which keeps no connection in TIME_WAIT.

    Connections to different Services may come to a backend from one source port,
    one after the other.  Their sequence numbers and timestamps do not follow each
    other, so a server in TIME_WAIT would take the second for the first one's late
    segments, and it would wait a second to be tried again.
    """
    # With more than TCP_TIMEWAIT_LEN (60 s) the whole socket waits for the client's FIN
    # and acknowledges it; then there is no bucket for it.
    lab.sysctl(place, "ipv4/tcp_fin_timeout", "61")
    lab.sysctl(place, "ipv4/tcp_max_tw_buckets", "0")
    with server(lab.place(place), "tcp-accept", port=STORM, ports=ports, cpus=SERVER):
        yield


def storm_figure(found: Mapping[str, Any], seconds: float) -> Figure:
    """The figure of a storm of connections; raises `Failed` when most of them failed."""
    if found["failed"] > found["total"]:
        raise Failed(f"{found['failed']} connections failed: {found['error']}")
    detail = {**_counted(found), "failed": found["failed"]}
    return Figure(rate(found["counts"], found["slot"], seconds), detail)


def packets(flows: int) -> Measure:
    """Datagrams a second that arrive of more than can be carried."""

    def measure(lab: RunningLab, path: str, seconds: float) -> Figures:
        got, sent = _send(lab, path, seconds, flows=flows)
        name = "packets" if flows == 1 else "packets-many"
        detail = {**_counted(got), "offered": sent["sent"] / sent["seconds"], "cut": sent["cut"]}
        if not sent["cut"]:
            raise NotAvailable("the sender's device does not let super-packets be cut")
        return {name: Figure(rate(got["counts"], got["slot"], seconds), detail)}

    return measure


def _send(
    lab: RunningLab, path: str, seconds: float, **options: object
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the sink counted and what the sender says."""
    if lab.subject.lacks_udp():
        raise NotAvailable("it proxies no UDP")
    target = lab.target(path)
    check = options.get("check", 0)
    with server(lab.place(target.server), "udp-sink", port=SINK, check=check, cpus=SERVER) as sink:
        sent = client(
            lab.place(target.source),
            "udp-send",
            seconds,
            address=target.address,
            port=target.port(SINK),
            cpus=CLIENT,
            **{"size": SMALL, **options},
        )
        _drained(lab)
        return sink.stop(), sent


_DRAIN = 0.1
"""Seconds that queues have to empty after the sender's end."""


def _drained(lab: RunningLab) -> None:
    time.sleep(_DRAIN if lab.subject.kernel else 5 * _DRAIN)


def packets_lossless(lab: RunningLab, path: str, seconds: float) -> Figures:
    """The highest rate, of those tried, that loses less than one datagram of a hundred.

    What arrives under overload says where to look: rates between a quarter of it
    and five quarters are halved, by their logarithm, as RFC 2544 searches for a
    throughput.
    """
    each = max(0.25, seconds / 4)
    got, _ = _send(lab, path, each)
    overload = rate(got["counts"], got["slot"], each)
    low, high = overload / 4, overload * 5 / 4
    best, tried = 0.0, []
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5
        got, sent = _send(lab, path, each, rate=f"{middle:.0f}")
        lost = 1 - got["total"] / max(1, sent["sent"])
        offered = sent["sent"] / sent["seconds"]
        tried.append({"offered": offered, "lost": lost})
        if lost < MAY_LOSE:
            low, best = middle, max(best, offered)
        else:
            high = middle
    if not best:
        raise Failed(f"{tried[-1]['lost']:.0%} were lost even at {tried[-1]['offered']:.0f}/s")
    return {"packets-lossless": Figure(best, {"overload": overload, "tried": tried})}


def round_trips(protocol: str) -> Measure:
    """Round trips of 64 bytes, one at a time."""
    port = ECHO if protocol == "tcp" else UDP_ECHO

    def measure(lab: RunningLab, path: str, seconds: float) -> Figures:
        if protocol == "udp" and lab.subject.lacks_udp():
            raise NotAvailable("it proxies no UDP")
        target = lab.target(path)
        with server(lab.place(target.server), f"{protocol}-echo", port=port, cpus=ONE):
            found = client(
                lab.place(target.source),
                f"{protocol}-rtt",
                seconds,
                address=target.address,
                port=target.port(port),
                size=SMALL,
                cpus=ONE,
            )
        if found["count"] < 100 or found["lost"] > found["count"] / 100:
            raise Failed(f"{found['count']} round trips, {found['lost']} lost: too few")
        return {f"{protocol}-{p}": Figure(found[p] / 1000, found) for p in ("p50", "p99")}

    return measure


def tcp_intact(lab: RunningLab, path: str, seconds: float) -> Figures:
    """The part of a pseudo-random stream that arrives as it was sent: all or nothing."""
    target = lab.target(path)
    with server(lab.place(target.server), "hash-sink", port=HASH):
        found = client(
            lab.place(target.source),
            "hash-send",
            seconds,
            address=target.address,
            port=target.port(HASH),
        )
    return {"tcp-intact": Figure(100.0 if found["match"] else 0.0, found)}


_INTACT_RATE = 5000
"""Datagrams a second of the check, few enough for every subject."""
_INTACT_SIZES = (8, 63, 512, 1400)


def udp_intact(lab: RunningLab, path: str, seconds: float) -> Figures:
    """The part of the datagrams that arrived which say what their number says."""
    total = corrupt = sent_in_all = 0
    for size in _INTACT_SIZES:
        got, sent = _send(
            lab,
            path,
            max(0.2, seconds / len(_INTACT_SIZES)),
            size=size,
            check=1,
            rate=_INTACT_RATE,
        )
        total += got["total"]
        corrupt += got["corrupt"]
        sent_in_all += sent["sent"]
    if not total:
        raise Failed("no datagram arrived")
    detail = {"sent": sent_in_all, "received": total, "corrupt": corrupt}
    return {"udp-intact": Figure(100.0 * (total - corrupt) / total, detail)}
