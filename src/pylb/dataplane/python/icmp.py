"""ICMP errors: those that pass through a translated flow, and those made here.

An error quotes the packet that it is about as that packet was on the wire where
the error arose, that is, translated.  Whoever sent the packet knows it by its
untranslated form, so both the outer addresses and the quotation are put back
(RFC 5508 section 4; Linux ``nf_nat_proto.c``, nf_nat_icmp_reply_translation).
"""

from __future__ import annotations

import struct

from pylb.dataplane.base import FlowTuple
from pylb.dataplane.python.conntrack import REPLY, Flow, Table
from pylb.dataplane.python.packet import (
    TCP,
    UNREACHABLE,
    Malformed,
    Parsed,
    invert,
    parse_quoted,
)
from pylb.wire import checksum, icmp, tcp

PORT_UNREACHABLE = 3


def related_flow(table: Table, error: Parsed, now: int) -> tuple[Flow, int, Parsed] | None:
    """The flow that an error belongs to: (flow, direction that the error travels in, quotation).

    None when it quotes nothing that is tracked.
    """
    try:
        quoted = parse_quoted(memoryview(error.data)[error.l4 + 8 :])
    except Malformed:
        return None
    found = table.lookup(invert(quoted.tuple), now)
    return (found[0], found[1], quoted) if found else None


def translate_error(error: Parsed, flow: Flow, direction: int, quoted: Parsed) -> None:
    """Rewrite an error that travels in ``direction`` of ``flow``, quotation and all.

    The outer source changes only if the flow's own packets' source does in that
    direction; a router's address is kept behind plain masquerade.
    """
    own = flow.reply if direction == REPLY else flow.original
    target = flow.rewrite_reply if direction == REPLY else flow.rewrite_original
    if target is None:
        return
    before = flow.original if direction == REPLY else flow.reply
    quoted.rewrite(before)
    data, at = error.data, error.l4 + 8
    data[at : at + len(quoted.data)] = quoted.data
    struct.pack_into(">H", data, error.l4 + 2, 0)
    check = checksum.checksum(memoryview(data)[error.l4 :])
    struct.pack_into(">H", data, error.l4 + 2, check)
    source = target.src if target.src != own.src else error.src
    error.rewrite(FlowTuple(source, target.dst, error.protocol, error.sport, error.dport))


def rejection(packet: Parsed, source: int) -> bytes | None:
    """What a closed port answers: a TCP reset, or port unreachable from ``source``.

    None where nothing may be sent: in answer to a reset or an ICMP error (RFC 1122
    section 3.2.2).
    """
    whole = bytes(packet.data)
    if packet.protocol == TCP:
        return tcp.reset_for(whole)
    if packet.is_icmp_error:
        return None
    return icmp.error(UNREACHABLE, PORT_UNREACHABLE, 0, whole, source, packet.src)
