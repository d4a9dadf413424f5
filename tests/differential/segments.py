"""The next packet of a conversation, made from the one before."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from pylb.wire import icmp, ipv4, sctp, tcp, udp
from tests.differential import associations

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
NATURAL = -1
_REPLIES = {8: 0, 13: 14, 15: 16, 17: 18}


class Header(NamedTuple):
    """What a whole packet says that its answer depends on."""

    src: int
    dst: int
    protocol: int
    body: bytes


def read(raw: bytes) -> Header | None:
    """The header of a packet that is right at least so far; None of any other."""
    if len(raw) < 20 or raw[0] >> 4 != 4:
        return None
    at = (raw[0] & 15) * 4
    total, word = struct.unpack_from(">H", raw, 2)[0], struct.unpack_from(">H", raw, 6)[0]
    if not 20 <= at <= total <= len(raw) or word & 0x3FFF:
        return None
    return Header(*struct.unpack_from(">II", raw, 12), raw[9], raw[at:total])


def follow(
    before: Header,
    reply: bool,
    flags: int,
    seq: int,
    ack: int,
    window: int,
    payload: bytes,
    options: bytes,
) -> bytes | None:
    """The answer to a packet, or with ``reply`` false its sender's next.

    ``flags`` NATURAL are those that a conversation goes on with; ``seq`` and ``ack``
    are added to the numbers that are due.
    """
    src, dst = (before.dst, before.src) if reply else (before.src, before.dst)
    body = before.body
    if before.protocol == tcp.PROTOCOL and len(body) >= 20:
        ports = struct.unpack_from(">HH", body)
        sport, dport = ports[::-1] if reply else ports
        first, acked, offset, said = struct.unpack_from(">IIBB", body, 4)
        data = len(body) - (offset >> 4) * 4
        next_seq = first + max(data, 0) + bool(said & SYN) + bool(said & FIN)
        numbers = (acked or 5000, next_seq) if reply else (next_seq, acked)
        if flags == NATURAL:
            flags = natural(said, payload) if reply else PSH | ACK
        numbers = ((numbers[0] + seq) & 0xFFFFFFFF, (numbers[1] + ack) & 0xFFFFFFFF)
        if flags & (SYN | RST):
            payload = payload[:3]
        return tcp.build(src, dst, sport, dport, *numbers, flags, window, options, payload)
    if before.protocol == udp.PROTOCOL and len(body) >= 8:
        ports = struct.unpack_from(">HH", body)
        sport, dport = ports[::-1] if reply else ports
        return udp.build(src, dst, sport, dport, payload)
    if before.protocol == icmp.PROTOCOL and len(body) >= 8:
        kind = _REPLIES.get(body[0], body[0]) if reply else body[0]
        rest = struct.unpack_from(">I", body, 4)[0]
        return ipv4.build(src, dst, icmp.PROTOCOL, icmp.message(kind, body[1], rest, body[8:]))
    if before.protocol == sctp.PROTOCOL and len(body) >= sctp.HEADER:
        ends = associations.ports(body)[:: -1 if reply else 1]
        odd = 0 if flags == NATURAL else flags * 16 + window % 16 + ((seq ^ ack) & 0xFFF)
        return associations.next_packet((src, dst, *ends), body, odd, payload)
    return ipv4.build(src, dst, before.protocol, body)


def natural(said: int, payload: bytes) -> int:
    """The flags with which a host answers a segment; ``payload`` also decides when to close."""
    if said & SYN and not said & ACK:
        return SYN | ACK
    if said & FIN or len(payload) % 5 == 4:
        return FIN | ACK
    return ACK | (PSH if payload else 0)


def random_options(rng: Random) -> bytes:
    """TCP options, right and wrong ones, padded."""
    made = b""
    for _ in range(rng.randrange(4)):
        made += rng.choice(_OPTIONS)(rng)
    made = made[:40]
    return made + b"\0" * (-len(made) % 4)


def _option(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value) + 2)) + value


def _sack(rng: Random) -> bytes:
    edges = rng.choices((0, 1001, 5000, 70000, 0x80001000), k=rng.randrange(5))
    return _option(5, b"".join(edge.to_bytes(4, "big") for edge in edges))


_OPTIONS: tuple[Callable[[Random], bytes], ...] = (
    lambda rng: _option(2, b"\x05\xb4"),
    lambda rng: _option(3, bytes((rng.choice((0, 3, 7, 14, 15, 255)),))),
    lambda rng: _option(4, b""),
    _sack,
    lambda rng: b"\x01\x01" + _option(8, bytes(8)),
    lambda rng: b"\x01",
    lambda rng: rng.randbytes(rng.randrange(5)),
)
