"""Which ports count as listening, by the kernel's own answer and by /proc."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pylb.lab import readiness
from pylb.lab.readiness import Listeners
from pylb.policy.model import Container, ContainerPort, Protocol


class _Here(Listeners):
    """Looks in this process's own namespace, so that no privilege is needed."""

    def _open(self) -> socket.socket:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, readiness._NETLINK_SOCK_DIAG)


@pytest.fixture(params=["sock_diag", "proc"])
def listeners(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Here]:
    here = _Here("")
    if request.param == "proc":

        def absent(self: Listeners, protocol: Protocol, family: int) -> Iterator[int]:
            raise FileNotFoundError(2, "no such module")

        monkeypatch.setattr(Listeners, "_dump", absent)
    yield here
    here.close()


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _listen(
    stack: ExitStack, address: str, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET
) -> int:
    sock = stack.enter_context(socket.socket(family, kind))
    sock.bind((address, 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return int(sock.getsockname()[1])


def test_ports_of_both_protocols_on_every_address(listeners: _Here, sockets: ExitStack) -> None:
    tcp = _listen(sockets, "0.0.0.0")
    udp = _listen(sockets, "0.0.0.0", socket.SOCK_DGRAM)
    both = {(Protocol.TCP, tcp), (Protocol.UDP, udp)}
    assert listeners.all_of(both, os.getpid())
    sockets.close()
    assert not listeners.all_of(both, os.getpid())


def test_a_dual_stack_listener_counts(listeners: _Here, sockets: ExitStack) -> None:
    port = _listen(sockets, "::", family=socket.AF_INET6)
    assert listeners.all_of({(Protocol.TCP, port)}, os.getpid())


def test_a_loopback_listener_does_not(listeners: _Here, sockets: ExitStack) -> None:
    port = _listen(sockets, "127.0.0.1")
    assert not listeners.all_of({(Protocol.TCP, port)}, os.getpid())


def test_a_bound_port_that_does_not_listen_does_not(listeners: _Here, sockets: ExitStack) -> None:
    sock = sockets.enter_context(socket.socket())
    sock.bind(("0.0.0.0", 0))
    assert not listeners.all_of({(Protocol.TCP, sock.getsockname()[1])}, os.getpid())


def test_many_listeners_come_in_several_messages(listeners: _Here, sockets: ExitStack) -> None:
    ports = {(Protocol.TCP, _listen(sockets, "0.0.0.0")) for _ in range(600)}
    assert listeners.all_of(ports, os.getpid())


def test_declared_ports_are_those_of_all_containers_that_can_be_seen() -> None:
    containers = [
        Container("a", ports=(ContainerPort(80), ContainerPort(53, Protocol.UDP))),
        Container("b", ports=(ContainerPort(132, Protocol.SCTP),)),
    ]
    assert readiness.declared(containers) == {(Protocol.TCP, 80), (Protocol.UDP, 53)}
