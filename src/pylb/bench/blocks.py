"""What is run as a whole for one subject in one round: a measure on a path, or a curve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pylb.bench import measures, scale
from pylb.bench.catalog import PARTS, PATHS
from pylb.bench.errors import BenchError, Failed
from pylb.bench.labs import Labs
from pylb.bench.results import Key
from pylb.bench.subjects import Subject

Reading = tuple[Key, measures.Figure | Failed]


@dataclass(frozen=True, slots=True)
class Block:
    """``run(labs, subject, seconds)`` gives a figure for some of its ``keys``, or for all.

    ``cost`` is about how long it takes, in seconds, when a sample takes
    ``seconds``.  Blocks with ``warm`` are run once, shortly, before the first
    round; ``suits`` says which subjects it is for.
    """

    part: str
    title: str
    keys: tuple[Key, ...]
    run: Callable[[Labs, Subject, float], Iterator[Reading]]
    cost: Callable[[float], float]
    warm: bool = True
    suits: Callable[[Subject], bool] = lambda subject: True


_START = 0.4
"""Seconds that a measurement takes beyond its sample: programs start, queues empty."""


def _measured(part: str, path: str, measure: measures.Measure, *metrics: str) -> Block:
    def run(labs: Labs, subject: Subject, seconds: float) -> Iterator[Reading]:
        lab = labs.get(subject)
        lab.flush()
        for metric, figure in measure(lab, path, seconds).items():
            yield Key(path, metric), figure

    title = f"{metrics[0]}, {path}"
    keys = tuple(Key(path, metric) for metric in metrics)
    return Block(
        part,
        title,
        keys,
        run,
        lambda seconds: _START + seconds,
        suits=lambda subject: subject.target(path) is not None,
    )


def _lossless(path: str) -> Block:
    block = _measured("packets", path, measures.packets_lossless, "packets-lossless")
    return Block(
        block.part,
        block.title,
        block.keys,
        block.run,
        lambda seconds: 6 * (_START + max(0.25, seconds / 4)),
        suits=block.suits,
    )


def _services(points: tuple[int, ...], last: int) -> Block:
    keys = [Key("cluster", "services", count) for count in points]
    if last:
        keys.append(Key("cluster", "services", last))
        keys += [Key("cluster", name) for name in ("load", "change", "apply", "apply-change")]

    def run(labs: Labs, subject: Subject, seconds: float) -> Iterator[Reading]:
        for metric, x, figure in scale.services(labs, subject, seconds, points, last):
            yield Key("cluster", metric, x), figure

    def cost(seconds: float) -> float:
        return 8 + len(points) * (1 + seconds) + (40 + seconds if last else 0)

    return Block(
        "services", "Services", tuple(keys), run, cost, warm=False, suits=lambda s: s.scaled
    )


def _memory(points: tuple[int, ...]) -> Block:
    def run(labs: Labs, subject: Subject, seconds: float) -> Iterator[Reading]:
        for metric, x, figure in scale.memory(labs, subject, points):
            yield Key("cluster", metric, x), figure

    return Block(
        "memory",
        "memory for flows",
        tuple(Key("cluster", "memory", point) for point in points),
        run,
        lambda seconds: 25.0,
        warm=False,
        suits=lambda s: s.scaled,
    )


def blocks(parts: Sequence[str], *, quick: bool) -> list[Block]:
    """The blocks of these parts, in the order in which a round has them.

    Raises `BenchError` for a part that there is not.
    """
    for part in parts:
        if part not in PARTS:
            raise BenchError(f"part {part!r}: expected some of {', '.join(PARTS)}")
    found = [
        _measured("tcp", "cluster", measures.tcp(1), "tcp", "cpu"),
        _measured("tcp", "cluster", measures.tcp(4), "tcp4"),
        _measured("packets", "cluster", measures.packets(1), "packets"),
        _measured("packets", "cluster", measures.packets(measures.FLOWS), "packets-many"),
        _lossless("cluster"),
        _measured("connections", "cluster", measures.connections, "connections"),
        _measured("latency", "cluster", measures.round_trips("udp"), "udp-p50", "udp-p99"),
        _measured("latency", "cluster", measures.round_trips("tcp"), "tcp-p50", "tcp-p99"),
    ]
    for path in PATHS:
        if path != "cluster":
            found += [
                _measured("paths", path, measures.tcp(1), "tcp", "cpu"),
                _measured("paths", path, measures.packets(1), "packets"),
                _measured("paths", path, measures.connections, "connections"),
            ]
    found += [
        _services(scale.CURVE[:1] + scale.CURVE[-1:], 0)
        if quick
        else _services(scale.CURVE, scale.ALL),
        _memory(scale.POINTS[:1] if quick else scale.POINTS),
        _measured("integrity", "cluster", measures.tcp_intact, "tcp-intact"),
        _measured("integrity", "cluster", measures.udp_intact, "udp-intact"),
    ]
    return [block for block in found if block.part in parts]
