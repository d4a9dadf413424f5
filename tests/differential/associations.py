"""SCTP packets of random conversations: every end has the same tag, but for odd ones."""

from __future__ import annotations

import struct
from random import Random

from pylb.wire import sctp

TAG = 0x5C7B0001
_ANSWERS = {
    sctp.INIT: sctp.INIT_ACK,
    sctp.INIT_ACK: sctp.COOKIE_ECHO,
    sctp.COOKIE_ECHO: sctp.COOKIE_ACK,
    sctp.HEARTBEAT: sctp.HEARTBEAT_ACK,
    sctp.SHUTDOWN: sctp.SHUTDOWN_ACK,
    sctp.SHUTDOWN_ACK: sctp.SHUTDOWN_COMPLETE,
}
_GOES_ON = (sctp.DATA, sctp.SACK, sctp.HEARTBEAT, sctp.SHUTDOWN, sctp.DATA)
_KINDS = (*range(15), 192, 255)


def random_association(
    rng: Random, ends: tuple[int, int, int, int], payload: bytes, ttl: int
) -> bytes:
    """A packet between (source, destination, source port, destination port)."""
    if rng.random() < 0.7:
        return sctp.build(*ends, 0, sctp.init(TAG), ttl)
    chunks = b"".join(
        _chunk(rng.choice(_KINDS), rng.randrange(2), payload)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))
    )
    made = chunks + rng.choice((b"", b"", b"", b"", bytes(3), bytes(4), b"\0\0\0\1"))
    return sctp.build(*ends, rng.choice((0, TAG, TAG, 7)), made, ttl)


def next_packet(ends: tuple[int, int, int, int], body: bytes, odd: int, payload: bytes) -> bytes:
    """What follows on the packet with this SCTP ``body``; ``odd`` is 0 for what should.

    ``ends`` are those of the packet to be made.
    """
    before = body[sctp.HEADER] if len(body) > sctp.HEADER else sctp.DATA
    kind = _ANSWERS.get(before, _GOES_ON[len(payload) % len(_GOES_ON)])
    tag = 0 if kind == sctp.INIT else TAG
    flags = 0
    if odd:
        kind, tag = _KINDS[odd % len(_KINDS)], (TAG, TAG, 0, 7)[odd // 32 % 4]
        flags = odd // 128 % 2
    made = _chunk(kind, flags, payload)
    alone = (sctp.INIT, sctp.INIT_ACK, sctp.SHUTDOWN_COMPLETE)
    if len(payload) % 3 == 1 and kind not in alone:
        made += _chunk(sctp.DATA, 0, payload[:9])
    return sctp.build(*ends, tag, made)


def ports(body: bytes) -> tuple[int, int]:
    """Source and destination port of an SCTP ``body``."""
    sport, dport = struct.unpack_from(">HH", body)
    return sport, dport


def _chunk(kind: int, flags: int, payload: bytes) -> bytes:
    if kind in (sctp.INIT, sctp.INIT_ACK):
        return sctp.init(TAG, ack=kind == sctp.INIT_ACK)
    return sctp.chunk(kind, flags, payload[:1400])
