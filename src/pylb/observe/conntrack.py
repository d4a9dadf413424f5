"""Flows and events in the words of conntrack-tools 1.4.7.

Lines are what ``conntrack -L`` and ``conntrack -E`` print, to the byte, so that
whatever parses those parses ours; tests/kernel_facts holds them against the tool
over the real kernel.  Counters are left out unless asked for, as with the
kernel's default ``nf_conntrack_acct=0``.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from pylb.dataplane.base import Event, EventKind, FlowTuple, FlowView
from pylb.observe.protocols import GRE, ICMP, WITH_PORTS, name_of

VERSION = "v1.4.7"
"""The release of conntrack-tools whose formats these are."""


@dataclass(frozen=True, slots=True)
class Style:
    """What a line shows beyond the least: conntrack's ``-o extended,id,timestamp``.

    ``timestamp`` is about events only.  ``counters`` shows packets and bytes as
    the tool does while ``nf_conntrack_acct`` is 1: in lists and in DESTROY events.
    """

    extended: bool = False
    id: bool = False
    timestamp: bool = False
    counters: bool = False


PLAIN = Style()


def flow_line(flow: FlowView, style: Style = PLAIN) -> str:
    """A flow as ``conntrack -L`` prints it, without a line end."""
    return " ".join(_words(flow, style, None))


def event_line(event: Event, style: Style = PLAIN) -> str:
    """An event as ``conntrack -E`` prints it, without a line end.

    With ``style.timestamp`` the line begins with ``event.at``, which then must be
    nanoseconds since the Unix epoch.
    """
    when = ""
    if style.timestamp:
        seconds, rest = divmod(event.at, 1_000_000_000)
        when = f"[{seconds}.{rest // 1000:06}]\t"
    tag = f"[{event.kind.value}]"
    return f"{when}{tag:>9} " + " ".join(_words(event.flow, style, event.kind))


def count_line(count: int, what: str) -> str:
    """The tool's closing line: ``what`` is "flow entries have been shown" and the like."""
    return f"conntrack {VERSION} (conntrack-tools): {count} {what}."


def _words(flow: FlowView, style: Style, kind: EventKind | None) -> list[str]:
    protocol = flow.original.protocol
    words = [f"{'ipv4':<8} 2"] if style.extended else []
    words.append(f"{name_of(protocol):<8} {protocol}")
    # The kernel leaves a timeout of 0 out of DESTROY: a flow that ran out has none.
    if flow.timeout or kind is not EventKind.DESTROY:
        words.append(str(flow.timeout))
    if flow.state:
        words.append(flow.state)
    counters = style.counters and kind in (None, EventKind.DESTROY)
    words += _tuple_words(flow.original)
    if counters:
        words += _counter_words(flow, 0)
    if not flow.seen_reply:
        words.append("[UNREPLIED]")
    words += _tuple_words(flow.reply)
    if counters:
        words += _counter_words(flow, 1)
    if flow.assured:
        words.append("[ASSURED]")
    # A list tells mark and use always, an event only a mark that is set.
    if kind is None or flow.mark:
        words.append(f"mark={flow.mark}")
    if kind is None:
        words.append("use=1")
    if style.id:
        words.append(f"id={flow.id & 0xFFFFFFFF}")
    return words


def _tuple_words(t: FlowTuple) -> list[str]:
    words = [f"src={IPv4Address(t.src)}", f"dst={IPv4Address(t.dst)}"]
    if t.protocol in WITH_PORTS:
        words += [f"sport={t.sport}", f"dport={t.dport}"]
    elif t.protocol == ICMP:
        words += [f"type={t.dport >> 8}", f"code={t.dport & 0xFF}", f"id={t.sport}"]
    elif t.protocol == GRE:
        words += [f"srckey=0x{t.sport:x}", f"dstkey=0x{t.dport:x}"]
    return words


def _counter_words(flow: FlowView, direction: int) -> list[str]:
    return [f"packets={flow.packets[direction]}", f"bytes={flow.bytes[direction]}"]
