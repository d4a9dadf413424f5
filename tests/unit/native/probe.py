"""What the tests see of the C offloads: cases out, answers in (see offload_probe.h).

The C side is built when tests ask for it, twice: as an extension module, and as a program
under the sanitizers, where every packet lies in a block of exactly its own size.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cffi import FFI

from pylb.wire.virtio_net import SIZE, Header, decode, encode

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
NAMES = ("gro", "offload", "sends", "packet", "checksum", "crc32c", "hash")
SOURCES = [
    *(CSRC / f"{name}.c" for name in NAMES),
    HERE / "offload_probe.c",
]
SANITIZERS = "address,undefined"
_ROOM = 32 << 20

GRO, READ, SENDS, SUM, TOEPLITZ, CUT = range(6)
COMPLETE, VERIFIED, PARTIAL = range(3)
PACKET_OK = 0xFFFFFFFF

RUNS, SLICES, LONGEST_RUN = 512, 1024, 64
"""As in csrc/gro.h; a test holds them against it."""

Ask = Callable[[bytes], bytes]


class Malformed(Exception):
    """The C side could not make out a case, or its answer did not fit."""


def build_module(folder: Path) -> Ask:
    """The C side inside this process."""
    ffi = FFI()
    ffi.cdef("size_t probe(const uint8_t *in, size_t len, uint8_t *out, size_t room);")
    ffi.set_source(
        "offload_probe",
        '#include "offload_probe.h"',
        sources=[str(path) for path in SOURCES],
        include_dirs=[str(CSRC), str(HERE)],
        extra_compile_args=["-std=c11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"],
    )
    path = ffi.compile(tmpdir=str(folder))
    spec = importlib.util.spec_from_file_location("offload_probe", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = module.ffi.new("uint8_t[]", _ROOM)

    def ask(case: bytes) -> bytes:
        return bytes(module.ffi.buffer(out, module.lib.probe(case, len(case), out, _ROOM)))

    return ask


class Program:
    """The C side as a process; what the sanitizers say when it dies is the failure."""

    def __init__(self, folder: Path) -> None:
        program = folder / "probe"
        self._errors = (folder / "errors").open("w+")
        flags = ["-std=c11", "-O1", "-g", f"-fsanitize={SANITIZERS}"]
        command = [*("gcc", *flags, "-fno-sanitize-recover=all", f"-I{CSRC}", f"-I{HERE}")]
        sources = [str(path) for path in (*SOURCES, HERE / "probe_main.c")]
        subprocess.run([*command, *sources, "-o", str(program)], check=True)
        self._process = subprocess.Popen(
            [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )

    def __call__(self, case: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(len(case).to_bytes(4, "little") + case)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._died(case)
        length = self._process.stdout.read(4)
        answer = self._process.stdout.read(int.from_bytes(length, "little"))
        if len(length) < 4:
            self._died(case)
        return answer

    def _died(self, case: bytes) -> None:
        self._process.wait()
        self._errors.seek(0)
        raise AssertionError(f"case {case[:200].hex()}:\n{self._errors.read()}")

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        self._errors.close()


class Reader:
    """Reads an answer from its beginning."""

    def __init__(self, answer: bytes) -> None:
        if not answer:
            raise Malformed
        self._answer = answer
        self._at = 0

    def bytes(self, count: int) -> bytes:
        taken = self._answer[self._at : self._at + count]
        assert len(taken) == count, "the answer is cut off"
        self._at += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.bytes(count), "little")

    @property
    def left(self) -> bool:
        return self._at < len(self._answer)


class Given(NamedTuple):
    """A packet and, if the TUN has one, the virtio-net header before it."""

    data: bytes
    header: Header | None = None


class Held(NamedTuple):
    """A packet or super-packet as the C side holds it."""

    csum: int
    segments: int
    gso_size: int
    header: Header
    """What the TUN would be told."""
    whole: bytes
    cut: list[bytes]
    """The packets that it stands for; of a packet that is no super-packet, none."""

    @property
    def packets(self) -> list[bytes]:
        return self.cut if self.gso_size else [self.whole]


def _packets(reader: Reader) -> list[bytes]:
    found = []
    while reader.number(1):
        found.append(reader.bytes(reader.number(4)))
    return found


def _held(reader: Reader) -> Held:
    csum, segments, gso_size = (reader.number(size) for size in (1, 2, 2))
    header = decode(reader.bytes(SIZE))
    whole = reader.bytes(reader.number(4))
    return Held(csum, segments, gso_size, header, whole, _packets(reader))


def _packed(*fields: tuple[int, int]) -> bytes:
    """Numbers and the bytes of each."""
    return b"".join(number.to_bytes(size, "little") for number, size in fields)


def gro(
    ask: Ask, packets: Iterable[Given], tcp: bool = True, udp: bool = True, collide: bool = False
) -> list[list[Held]]:
    """The batches that GRO makes of ``packets``; what cannot be parsed is left out.

    With ``collide`` all flows have the same hash.
    """
    given = list(packets)
    case = [_packed((GRO, 1), (tcp, 1), (udp, 1), (collide, 1), (len(given), 2))]
    for data, header in given:
        case.append(_packed((header is not None, 1)))
        case.append(encode(header or Header()) + _packed((len(data), 4)) + data)
    reader = Reader(ask(b"".join(case)))

    def batches() -> Iterator[list[Held]]:
        while reader.left:
            yield [_held(reader) for _ in range(reader.number(2))]

    return list(batches())


class Refusal(NamedTuple):
    """A packet that is dropped, and why (enum pylb_drop), by the parser or by its offloads."""

    parsed: bool
    reason: int


def read(ask: Ask, data: bytes, header: bytes) -> Held | Refusal:
    """What becomes of a packet that the TUN gave with these 10 bytes before it."""
    reader = Reader(ask(_packed((READ, 1)) + header + _packed((len(data), 4)) + data))
    for parsed in (False, True):
        reason = reader.number(4)
        if reason != PACKET_OK:
            assert not reader.left
            return Refusal(parsed, reason)
    return _held(reader)


def cut(ask: Ask, data: bytes, gso_size: int, here: int, pieces: list[int]) -> list[bytes]:
    """The segments of a super-packet of which ``here`` bytes lie together, then ``pieces``."""
    case = _packed((CUT, 1), (gso_size, 2), (len(data), 4)) + data
    case += _packed((len(pieces), 1), (here, 4), *((piece, 4) for piece in pieces))
    return _packets(Reader(ask(case)))


class Datagram(NamedTuple):
    """A datagram for a peer, in the parts that it lies in."""

    peer: int
    sender: int
    parts: tuple[bytes, ...]


class Sent(NamedTuple):
    """Datagrams that left together."""

    peer: int
    sender: int
    size: int
    segments: int
    length: int
    buffers: int
    data: bytes


def sends(ask: Ask, datagrams: list[Datagram], most: int) -> list[Sent]:
    """The sends that become of ``datagrams`` when ``most`` may be in one."""
    case = [_packed((SENDS, 1), (most, 1), (len(datagrams), 2))]
    for peer, sender, parts in datagrams:
        case.append(_packed((peer, 4), (sender, 1), (len(parts), 1)))
        case.extend(_packed((len(part), 2)) + part for part in parts)
    reader = Reader(ask(b"".join(case)))
    made = []
    while reader.number(1):
        peer, sender, size, segments, length, buffers = (reader.number(4) for _ in range(6))
        data = reader.bytes(length)
        made.append(Sent(peer, sender, size, segments, length, buffers, data))
    assert not reader.left, "there are other bytes than the send says"
    return made


def ones_sum(ask: Ask, data: bytes, offset: int, initial: int) -> int:
    """`pylb_ones_sum` of ``data`` lying ``offset`` bytes behind an aligned address."""
    return Reader(ask(_packed((SUM, 1), (offset, 1), (initial, 4)) + data)).number(2)


def toeplitz(ask: Ask, src: int, dst: int, sport: int, dport: int) -> tuple[int, int]:
    """The Toeplitz hash with ports, and without."""
    reader = Reader(ask(_packed((TOEPLITZ, 1), (src, 4), (dst, 4), (sport, 2), (dport, 2))))
    return reader.number(4), reader.number(4)


def need_sanitizers(folder: Path, kinds: str) -> None:
    """Skip where gcc cannot link a program under sanitizers; under CI that is a failure.

    ``kinds`` as -fsanitize has them.
    """
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    command = ["gcc", f"-fsanitize={kinds}", str(source), "-o", str(folder / "empty")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.returncode:
        return
    lacking = f"needs gcc with -fsanitize={kinds}: {done.stderr}"
    if os.environ.get("CI"):
        pytest.fail(lacking, pytrace=False)
    pytest.skip(lacking)
