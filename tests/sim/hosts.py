"""A machine's own network stack: TCP, UDP and ICMP endpoints on top of packets.

Pods, nodes' processes and outside machines all have one.  A host whose ``silent``
is true answers nothing by itself: a test then scripts its packets.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from pylb.wire import icmp, tcp, udp
from tests.sim.clock import Clock
from tests.sim.packets import (
    ECHO,
    ECHO_REPLY,
    ICMP,
    RST,
    SYN,
    TCP,
    UDP,
    Decoded,
    Quoted,
    Reassembly,
    decode,
    fragments,
    quad,
    quoted,
)
from tests.sim.tcp import Connection, Ends, State

Serve = Callable[[Connection], None]
"""Called with each new connection of a listener."""

_UNREACHABLE, _PORT = 3, 3


class Datagram(NamedTuple):
    """A datagram that came: from where, to which of our ports, and what."""

    source: int
    source_port: int
    port: int
    data: bytes


class Error(NamedTuple):
    """An ICMP error that came: who says so, what, and about which packet of ours."""

    source: int
    kind: int
    code: int
    rest: int
    about: Quoted


class Pong(NamedTuple):
    """An echo reply that came."""

    source: int
    ident: int
    seq: int
    data: bytes


class Host:
    """The stack of one machine.

    ``source_for`` picks the address that a connection to (address, port) is from;
    ``send`` takes what the stack emits.  What came is kept in ``inbox`` (every
    packet), ``datagrams``, ``errors`` and ``pongs``.
    """

    def __init__(
        self,
        name: str,
        addresses: tuple[int, ...],
        clock: Clock,
        rng: Random,
        send: Callable[[bytes], None],
        mtu: int = 1500,
    ) -> None:
        self.name, self.addresses, self.mtu = name, addresses, mtu
        self.silent = False
        self.inbox: list[Decoded] = []
        self.datagrams: list[Datagram] = []
        self.errors: list[Error] = []
        self.pongs: list[Pong] = []
        self.accepted: list[Connection] = []
        self._clock, self._rng, self._out = clock, rng, send
        self._connections: dict[Ends, Connection] = {}
        self._listeners: dict[int, Serve] = {}
        self._udp: dict[int, Callable[[Datagram], bytes | None]] = {}
        self._reassembly = Reassembly()
        self._next_port = 32768

    @property
    def address(self) -> int:
        """The machine's first address."""
        return self.addresses[0]

    def source_for(self, address: int, port: int) -> int:
        """The address that a packet to (address, port) is from."""
        return self.address

    def __repr__(self) -> str:
        return f"<{self.name} {quad(self.address)}>"

    # What a test asks for

    def listen(self, port: int, serve: Serve) -> None:
        self._listeners[port] = serve

    def listen_udp(self, port: int, answer: Callable[[Datagram], bytes | None]) -> None:
        self._udp[port] = answer

    def connect(self, address: int, port: int, sport: int = 0) -> Connection:
        """Open a connection; it is established once the clock has run."""
        source = self.source_for(address, port)
        ends = Ends(source, sport or self.free_port(), address, port)
        connection = self._new(ends)
        connection.open()
        return connection

    def send_udp(self, address: int, port: int, data: bytes, sport: int) -> None:
        source = self.source_for(address, port)
        self.send(udp.build(source, address, sport, port, data, ident=self._ident()))

    def ping(self, address: int, ident: int = 7, seq: int = 1, ttl: int = 64) -> None:
        source = self.source_for(address, 0)
        self.send(icmp.echo(source, address, ident, seq, b"ping" * 4, ttl=ttl))

    def send(self, packet: bytes) -> None:
        """Emit a packet, in fragments where it is larger than the MTU."""
        for piece in fragments(packet, self.mtu):
            self._out(piece)

    def _ident(self) -> int:
        # Unlike any other machine's: behind one SNAT address, two machines' fragments with one
        # identification would be mixed up, which RFC 6864 leaves to chance.
        return self._clock.number() & 0xFFFF

    def free_port(self) -> int:
        self._next_port += 1
        return self._next_port

    # What the network does

    def receive(self, raw: bytes) -> None:
        packet = decode(raw)
        assert packet.dst in self.addresses, f"{self.name} was handed {packet}"
        if packet.is_fragment:
            whole = self._reassembly.add(packet)
            if whole is None:
                return
            packet = decode(whole)
        self.inbox.append(packet)
        if self.silent:
            return
        if packet.protocol == TCP:
            self._tcp(packet)
        elif packet.protocol == UDP:
            self._datagram(packet)
        elif packet.is_error:
            self._error(packet)
        elif packet.protocol == ICMP and packet.kind == ECHO:
            answer = icmp.echo(
                packet.dst, packet.src, packet.ident, packet.seq, packet.data, reply=True
            )
            self.send(answer)
        elif packet.protocol == ICMP and packet.kind == ECHO_REPLY:
            self.pongs.append(Pong(packet.src, packet.ident, packet.seq, packet.data))

    def _tcp(self, packet: Decoded) -> None:
        ends = Ends(packet.dst, packet.dport, packet.src, packet.sport)
        connection = self._connections.get(ends)
        is_syn = packet.flags & 0x17 == SYN
        if connection is not None and is_syn:
            over = connection.state is State.CLOSED or connection.finished
            connection = None if over else connection
        if connection is not None and connection.state is not State.CLOSED:
            connection.segment(packet)
            return
        serve = self._listeners.get(packet.dport)
        if is_syn and serve is not None:
            connection = self._new(ends)
            self.accepted.append(connection)
            serve(connection)
            connection.accept(packet)
        elif not packet.flags & RST:
            reset = tcp.reset_for(packet.raw)
            assert reset is not None
            self.send(reset)

    def _new(self, ends: Ends) -> Connection:
        first = self._rng.choice((self._rng.getrandbits(32), 0xFFFFFFFF - self._rng.randrange(99)))
        scale = self._rng.choice((None, 0, 3, 7))
        connection = Connection(self._clock, ends, first, scale, self.send)
        self._connections[ends] = connection
        return connection

    def _datagram(self, packet: Decoded) -> None:
        datagram = Datagram(packet.src, packet.sport, packet.dport, packet.data)
        self.datagrams.append(datagram)
        answer = self._udp.get(packet.dport)
        if answer is not None:
            data = answer(datagram)
            if data is not None:
                self.send(
                    udp.build(
                        packet.dst,
                        packet.src,
                        packet.dport,
                        packet.sport,
                        data,
                        ident=self._ident(),
                    )
                )
        elif packet.dport < 32768:
            # Ports above are those that tests send from; they are read, never closed.
            self.send(icmp.error(_UNREACHABLE, _PORT, 0, packet.raw, packet.dst, packet.src))

    def _error(self, packet: Decoded) -> None:
        rest = packet.ident << 16 | packet.seq
        self.errors.append(Error(packet.src, packet.kind, packet.code, rest, quoted(packet)))


def echo(connection: Connection) -> None:
    """A server that sends back what it gets and closes when the client does."""
    connection.on_data = lambda c, data: c.write(data)
    connection.on_eof = lambda c: c.close()


def shout(datagram: Datagram) -> bytes:
    """A UDP server that answers in capitals."""
    return datagram.data.upper()
