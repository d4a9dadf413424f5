"""SipHash-2-4, which keys every choice, and Toeplitz, which spreads flows; in C.

`pylb.wire.pure` has the same functions in Python.
"""

from __future__ import annotations

from pylb import _core

_lib = _core.lib


def siphash(key: bytes, data: bytes) -> int:
    """SipHash-2-4 (Aumasson and Bernstein, 2012) under a 16-byte key; 64 bits."""
    if len(key) != 16:
        raise ValueError(f"SipHash key: expected 16 bytes, got {len(key)}")
    return int(_lib.pylb_siphash(key, data, len(data)))


def toeplitz(src: int, dst: int, sport: int, dport: int) -> int:
    """The RSS hash of an IPv4 flow under the specification's default key; 32 bits."""
    return int(_lib.pylb_toeplitz(src, dst, sport, dport))


def toeplitz_addresses(src: int, dst: int) -> int:
    """The RSS hash of two addresses, for protocols without ports; 32 bits."""
    return int(_lib.pylb_toeplitz_addresses(src, dst))
