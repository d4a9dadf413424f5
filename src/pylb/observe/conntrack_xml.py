"""Flows and events as ``conntrack -o xml`` prints them.

One element a line; a document opens with `HEADER` before its first flow and ends
with `FOOTER`.  As in the tool, ICMP's type, code and id are not told, and the
flow's id always is.
"""

from __future__ import annotations

import time
from ipaddress import IPv4Address
from xml.sax.saxutils import escape

from pylb.dataplane.base import Event, EventKind, FlowTuple, FlowView
from pylb.observe.conntrack import PLAIN, Style
from pylb.observe.protocols import GRE, WITH_PORTS, name_of

HEADER = '<?xml version="1.0" encoding="utf-8"?>\n<conntrack>'
FOOTER = "</conntrack>"


def flow_element(flow: FlowView, style: Style = PLAIN) -> str:
    """A flow of a list as one ``<flow>``, without a line end."""
    return f"<flow>{_metas(flow, style, None)}</flow>"


def event_element(event: Event, style: Style = PLAIN) -> str:
    """An event as one ``<flow type=...>``.

    With ``style.timestamp`` it tells ``event.at``, nanoseconds since the Unix
    epoch, in local time to the second.
    """
    when = ""
    if style.timestamp:
        t = time.localtime(event.at // 1_000_000_000)
        # struct tm counts Sunday as 0 and the tool adds 1; Python counts Monday as 0.
        weekday = (t.tm_wday + 1) % 7 + 1
        when = (
            f"<when><hour>{t.tm_hour}</hour><min>{t.tm_min}</min><sec>{t.tm_sec}</sec>"
            f"<wday>{weekday}</wday><day>{t.tm_mday}</day><month>{t.tm_mon}</month>"
            f"<year>{t.tm_year}</year></when>"
        )
    body = _metas(event.flow, style, event.kind)
    return f'<flow type="{event.kind.value.lower()}">{body}{when}</flow>'


def _metas(flow: FlowView, style: Style, kind: EventKind | None) -> str:
    counters = style.counters and kind in (None, EventKind.DESTROY)
    parts = []
    for direction, (name, t) in enumerate((("original", flow.original), ("reply", flow.reply))):
        parts.append(f'<meta direction="{name}">{_layers(t)}')
        if counters:
            packets, size = flow.packets[direction], flow.bytes[direction]
            parts.append(f"<counters><packets>{packets}</packets><bytes>{size}</bytes></counters>")
        parts.append("</meta>")
    parts.append('<meta direction="independent">')
    if flow.state:
        parts.append(f"<state>{escape(flow.state)}</state>")
    if flow.timeout or kind is not EventKind.DESTROY:
        parts.append(f"<timeout>{flow.timeout}</timeout>")
    if kind is None or flow.mark:
        parts.append(f"<mark>{flow.mark}</mark>")
    if kind is None:
        parts.append("<use>1</use>")
    parts.append(f"<id>{flow.id & 0xFFFFFFFF}</id>")
    if flow.assured:
        parts.append("<assured/>")
    if not flow.seen_reply:
        parts.append("<unreplied/>")
    parts.append("</meta>")
    return "".join(parts)


def _layers(t: FlowTuple) -> str:
    ports = ""
    if t.protocol in WITH_PORTS:
        ports = f"<sport>{t.sport}</sport><dport>{t.dport}</dport>"
    elif t.protocol == GRE:
        ports = f"<srckey>0x{t.sport:x}</srckey><dstkey>0x{t.dport:x}</dstkey>"
    return (
        '<layer3 protonum="2" protoname="ipv4">'
        f"<src>{IPv4Address(t.src)}</src><dst>{IPv4Address(t.dst)}</dst></layer3>"
        f'<layer4 protonum="{t.protocol}" protoname="{name_of(t.protocol)}">{ports}</layer4>'
    )
