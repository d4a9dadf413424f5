"""The C core again, in Python: the same results, written to be read.

Nothing in the packet path uses these; the tests hold the C core against them.
"""

from __future__ import annotations

import struct

_MASK = 0xFFFFFFFFFFFFFFFF

# The key that the RSS specification publishes with its verification vectors.
_RSS_KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)


def ones_sum(data: bytes, initial: int = 0) -> int:
    """RFC 1071: add the 16-bit words, carries going around."""
    total = initial
    for i in range(0, len(data), 2):
        total += int.from_bytes(data[i : i + 2].ljust(2, b"\0"), "big")
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes, initial: int = 0) -> int:
    """The complement of the sum."""
    return ones_sum(data, initial) ^ 0xFFFF


def update16(check: int, old: int, new: int) -> int:
    """RFC 1624 equation 3: HC' = ~(~HC + ~m + m')."""
    total = (check ^ 0xFFFF) + (old ^ 0xFFFF) + new
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def update32(check: int, old: int, new: int) -> int:
    """Two 16-bit words in turn."""
    return update16(update16(check, old >> 16, new >> 16), old & 0xFFFF, new & 0xFFFF)


def pseudo_sum(src: int, dst: int, protocol: int, length: int) -> int:
    """The pseudo-header laid out as RFC 9293 section 3.1 draws it, and summed."""
    return ones_sum(struct.pack(">IIBBH", src, dst, 0, protocol, length))


def crc32c(data: bytes, initial: int = 0) -> int:
    """Bit by bit, the lowest first; the polynomial's bits are in the same order."""
    crc = initial ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def crc32c_update(crc: int, old: int, new: int, length: int) -> int:
    """A CRC is linear: it changes by that of the difference, less that of as many zeros."""
    difference = (old ^ new).to_bytes(4, "big").ljust(length, b"\0")
    return crc ^ crc32c(difference) ^ crc32c(bytes(length))


def siphash(key: bytes, data: bytes) -> int:
    """SipHash-2-4: two rounds for each 8 bytes, four at the end."""
    k0, k1 = (int.from_bytes(key[i : i + 8], "little") for i in (0, 8))
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    tail = len(data) % 8
    padded = data + bytes(7 - tail) + bytes([len(data) & 0xFF])
    for i in range(0, len(padded), 8):
        word = int.from_bytes(padded[i : i + 8], "little")
        v[3] ^= word
        _sip_rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xFF
    _sip_rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _rotl(x: int, bits: int) -> int:
    return (x << bits | x >> (64 - bits)) & _MASK


def _sip_rounds(v: list[int], rounds: int) -> None:
    for _ in range(rounds):
        v[0] = (v[0] + v[1]) & _MASK
        v[2] = (v[2] + v[3]) & _MASK
        v[1] = _rotl(v[1], 13) ^ v[0]
        v[3] = _rotl(v[3], 16) ^ v[2]
        v[0] = _rotl(v[0], 32)
        v[2] = (v[2] + v[1]) & _MASK
        v[0] = (v[0] + v[3]) & _MASK
        v[1] = _rotl(v[1], 17) ^ v[2]
        v[3] = _rotl(v[3], 21) ^ v[0]
        v[2] = _rotl(v[2], 32)


def toeplitz(src: int, dst: int, sport: int, dport: int) -> int:
    """XOR of the key's 32-bit windows at the positions of the input's set bits."""
    return _toeplitz(src << 64 | dst << 32 | sport << 16 | dport, 96)


def toeplitz_addresses(src: int, dst: int) -> int:
    """The same over the addresses alone."""
    return _toeplitz(src << 32 | dst, 64)


def _toeplitz(value: int, bits: int) -> int:
    key = int.from_bytes(_RSS_KEY, "big")
    key_bits = len(_RSS_KEY) * 8
    result = 0
    for i in range(bits):
        if value >> (bits - 1 - i) & 1:
            result ^= key >> (key_bits - 32 - i) & 0xFFFFFFFF
    return result
