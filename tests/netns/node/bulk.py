"""Much data there and back: every byte that returns is the one that was sent.

The client sends what a seed gives and compares hashes with what the server echoes, so
both directions are busy at once.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

from tests.netns.node.world import Namespace, Popen, World

PATIENCE = 60.0
"""Seconds that a transfer of some ten megabytes may take on a busy machine."""


def serve(here: World, where: Namespace, port: int) -> None:
    """Echo TCP streams and UDP datagrams."""
    here.start_server(where, _ECHO, str(port))


def start(here: World, where: Namespace, address: str, port: int, megabytes: int) -> Popen:
    """Begin to send a TCP stream; its end is `finished`."""
    words = (address, str(port), str(megabytes << 20))
    return here.start(where, _STREAM, *words, stdout=-1, stderr=-1)


def finished(process: Popen, patience: float = PATIENCE) -> None:
    """Wait until a stream has come back; fails unless it is what was sent."""
    out, errors = process.communicate(timeout=patience)
    assert process.returncode == 0, f"{out}{errors}"


def stream(here: World, where: Namespace, address: str, port: int, megabytes: int = 16) -> None:
    """Send a TCP stream to an echo server and compare what comes back."""
    finished(start(here, where, address, port, megabytes))


def datagrams(here: World, where: Namespace, address: str, port: int, largest: int = 1400) -> None:
    """The same with UDP: runs of equal datagrams, in one send and one by one, and odd sizes.

    They must also come back in their order.  A round that loses some is tried again.
    """
    process = here.start(where, _DATAGRAMS, address, str(port), str(largest), stdout=-1, stderr=-1)
    finished(process)


_SIOCETHTOOL = 0x8946
_GTXCSUM, _STXCSUM, _GTSO = 0x16, 0x17, 0x1E


def _ethtool(device: str, command: int, value: int = 0) -> int:
    """One of ethtool's older requests, in the namespace of the calling thread."""
    data = ctypes.create_string_buffer(struct.pack("II", command, value))
    request = struct.pack("16sP16x", device.encode(), ctypes.addressof(data))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
    return int(struct.unpack("II", data.raw[:8])[1])


def leave_nothing_to_the_card(space: Namespace, device: str) -> None:
    """Have ``device`` make checksums, and cut super-packets, before it sends.

    A veth pair carries a VXLAN packet of the kernel's to another namespace with the
    inner checksum still to be made, which a network card would do, and uncut.  No
    program that receives it can tell.
    """
    space.call(lambda: _ethtool(device, _STXCSUM, 0))


def offloads(space: Namespace, device: str) -> tuple[bool, bool]:
    """Whether the kernel leaves checksums, and the cutting of TCP, to ``device``."""
    return (
        bool(space.call(lambda: _ethtool(device, _GTXCSUM))),
        bool(space.call(lambda: _ethtool(device, _GTSO))),
    )


_ECHO = """
import os, socket, sys, threading
port, ready = int(sys.argv[1]), int(sys.argv[2])
tcp = socket.create_server(("0.0.0.0", port))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", port))
os.write(ready, b"r")
os.close(ready)

def datagrams():
    while True:
        data, who = udp.recvfrom(65536)
        udp.sendto(data, who)

def stream(sock):
    with sock:
        while data := sock.recv(1 << 18):
            sock.sendall(data)

threading.Thread(target=datagrams, daemon=True).start()
while True:
    sock, _ = tcp.accept()
    threading.Thread(target=stream, args=(sock,), daemon=True).start()
"""

_STREAM = """
import hashlib, random, socket, sys, threading
address, port, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sock = socket.create_connection((address, port), timeout=15)
sent, came = hashlib.sha256(), hashlib.sha256()
draw = random.Random(total)

def send():
    left = total
    while left:
        # Small writes too, that segments be of every size.
        block = draw.randbytes(min(left, draw.choice((1, 100, 1460, 5000, 65536, 1 << 18))))
        sent.update(block)
        sock.sendall(block)
        left -= len(block)
    sock.shutdown(socket.SHUT_WR)

sender = threading.Thread(target=send, daemon=True)
sender.start()
count = 0
while data := sock.recv(1 << 18):
    came.update(data)
    count += len(data)
sender.join()
if (count, came.digest()) != (total, sent.digest()):
    sys.exit(f"sent {total} bytes, {sent.hexdigest()}; {count} came, {came.hexdigest()}")
"""

_DATAGRAMS = """
import socket, sys
address, port, largest = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
UDP_SEGMENT, TRIES = 103, 5
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((address, port))

def made(size, number, tried, what):
    label = bytes([what, tried, number])
    return (label * (size // 3 + 1))[:size]

def attempt(what, sizes, segment, tried):
    sent = [made(size, number, tried, what) for number, size in enumerate(sizes)]
    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
    if segment:
        sock.send(b"".join(sent))
    else:
        for data in sent:
            sock.send(data)
    sock.settimeout(2)
    came = []
    while len(came) < len(sent):
        try:
            data = sock.recv(65536)
        except TimeoutError:
            print(f"round {what}: {len(came)} of {len(sent)} came", file=sys.stderr)
            return False
        if data[:2] == sent[0][:2]:
            came.append(data)
    if came != sent:
        sys.exit(f"round {what}: they came as {[len(data) for data in came]}")
    return True

rounds = [
    ([64] * 50, 0), ([largest] * 20, 0), ([3, 100, 100, 99, 100, 7, 1200, 1201, 1201, 500], 0),
    ([64] * 60, 64), ([largest] * 30 + [77], largest), ([1001] * 40, 1001),
    ([largest - 1, largest], 0), ([3] * 50, 0),
]
for what, (sizes, segment) in enumerate(rounds):
    if not any(attempt(what, sizes, segment, tried) for tried in range(TRIES)):
        sys.exit(f"round {what}: some were lost each of {TRIES} times")
"""
