"""The Internet checksum (RFC 1071), SCTP's CRC32c, and their incremental updates, in C.

`pylb.wire.pure` has the same functions in Python, to read and to test against.
"""

from __future__ import annotations

from pylb import _core

Buffer = bytes | bytearray | memoryview

_lib = _core.lib
_from_buffer = _core.ffi.from_buffer


def ones_sum(data: Buffer, initial: int = 0) -> int:
    """One's-complement sum of ``data``, folded to 16 bits, not complemented.

    ``initial`` is a sum to start from, below 2**32.  An odd last byte is padded
    with zero on its right.
    """
    return int(_lib.pylb_ones_sum(_from_buffer(data), len(data), initial))


def checksum(data: Buffer, initial: int = 0) -> int:
    """The checksum of ``data``: 0 when a correct checksum is part of it."""
    return int(_lib.pylb_ones_sum(_from_buffer(data), len(data), initial)) ^ 0xFFFF


def update16(check: int, old: int, new: int) -> int:
    """The checksum after a 16-bit word changed from ``old`` to ``new`` (RFC 1624 eqn. 3)."""
    return int(_lib.pylb_check_update16(check, old, new))


def update32(check: int, old: int, new: int) -> int:
    """The same for a 32-bit word that lies on a 16-bit boundary of the data."""
    return int(_lib.pylb_check_update32(check, old, new))


def pseudo_sum(src: int, dst: int, protocol: int, length: int) -> int:
    """The sum of an IPv4 pseudo-header (RFC 9293 section 3.1), folded, not complemented.

    ``length`` is the transport header's and payload's bytes, at most 65535.
    """
    return int(_lib.pylb_pseudo_sum(src, dst, protocol, length))


def udp_check(check: int) -> int:
    """A checksum as UDP writes it: 0 means "none" there, so 0 becomes 0xFFFF (RFC 768)."""
    return check or 0xFFFF


def crc32c(data: Buffer, initial: int = 0) -> int:
    """The CRC32c of ``data`` (RFC 9260 appendix A); SCTP writes its lowest byte first.

    ``initial`` is the CRC of what comes before ``data``.
    """
    return int(_lib.pylb_crc32c(_from_buffer(data), len(data), initial))


def crc32c_update(crc: int, old: int, new: int, length: int) -> int:
    """The CRC after a 32-bit word changed from ``old`` to ``new``; a wrong CRC stays as wrong.

    ``length`` is the bytes that the CRC covers from the word's first on, 4 to 65535.
    """
    return int(_lib.pylb_crc32c_update(crc, old, new, length))
