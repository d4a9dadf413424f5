"""A small HTTP/1.1 server that the built-in programs share.

h11 is the protocol.  Connections are kept alive, requests on one are answered
in order, and bad ones get 400 and a closed connection.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import h11

BACKLOG = 4096
"""Connections that may wait for accept(2); the kernel caps it at net.core.somaxconn."""

_REASON = {200: b"OK"}

_MAX_BODY = 1 << 20
"""Bytes of a request's body that are kept; the rest is read and dropped."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request: ``client`` is the peer's IP address, ``port`` the one it came to.

    ``target`` is as on the request line; header names are in lower case.
    """

    client: str
    port: int
    method: str
    target: str
    version: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str, default: str = "") -> str:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), default)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; its length and the server's name are added."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain"


Handler = Callable[[Request], Response]


def access_line(request: Request, response: Response, now: float) -> str:
    """nginx's ``combined`` log format; ``now`` is seconds since the epoch."""
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now))
    size = 0 if request.method == "HEAD" else len(response.body)
    return (
        f"{request.client} - - [{when}] "
        f'"{request.method} {_escaped(request.target)} HTTP/{request.version}" '
        f"{response.status} {size} "
        f'"{_escaped(request.header("referer", "-"))}" '
        f'"{_escaped(request.header("user-agent", "-"))}"'
    )


def _escaped(text: str) -> str:
    # nginx writes quotes, backslashes and what is not printable as \xHH.  Mostly there are none.
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\x{ord(c):02X}" for c in text)


def logged(handler: Handler) -> Handler:
    """``handler`` with a line on stdout for each request that it answers."""

    def answer(request: Request) -> Response:
        response = handler(request)
        sys.stdout.write(access_line(request, response, time.time()) + "\n")
        sys.stdout.flush()
        return response

    return answer


class _Connection(asyncio.Protocol):
    def __init__(self, handler: Handler, server: str) -> None:
        self._handler = handler
        self._server = server
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._client = transport.get_extra_info("peername")[0]
        self._port = transport.get_extra_info("sockname")[1]

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        self._http.receive_data(b"")
        self._advance()
        return False

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def _advance(self) -> None:
        while not self._transport.is_closing():
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint)
                return
            if event is h11.NEED_DATA or event is h11.PAUSED:
                if self._http.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
                return
            if isinstance(event, h11.Request):
                self._request = event
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._body += event.data[: _MAX_BODY - len(self._body)]
            elif isinstance(event, h11.EndOfMessage):
                self._answer()
            else:
                self._transport.close()

    def _answer(self) -> None:
        event = self._request
        assert event is not None
        request = Request(
            client=self._client,
            port=self._port,
            method=event.method.decode("ascii"),
            target=event.target.decode("ascii"),
            version=event.http_version.decode("ascii"),
            headers=[(k.decode("ascii"), v.decode("latin-1")) for k, v in event.headers],
            body=bytes(self._body),
        )
        response = self._handler(request)
        head = h11.Response(
            status_code=response.status,
            reason=_REASON.get(response.status, b""),
            headers=[
                ("server", self._server),
                ("content-type", response.content_type),
                ("content-length", str(len(response.body))),
            ],
        )
        body = () if request.method == "HEAD" else (h11.Data(data=response.body),)
        self._send(head, *body, h11.EndOfMessage())
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
        else:
            self._http.start_next_cycle()

    def _refuse(self, status: int) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [("content-length", "0"), ("connection", "close")]
            refusal = h11.Response(status_code=status, headers=headers, reason=b"Bad Request")
            self._send(refusal, h11.EndOfMessage())
        self._transport.close()

    def _send(self, *events: Any) -> None:
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))


def ports(arguments: Sequence[str], protocol: str) -> list[int]:
    """The numbers of the arguments ``NUMBER/PROTOCOL`` that are of ``protocol``."""
    split = (argument.partition("/") for argument in arguments)
    return [int(number) for number, _, kind in split if kind == protocol]


def run(
    handler: Handler,
    server: str,
    arguments: Sequence[str],
    datagram: Callable[[], asyncio.DatagramProtocol] | None = None,
) -> None:
    """Serve the ports of ``arguments`` until SIGTERM or SIGINT.

    TCP ports get ``handler`` and the name ``server``; UDP ports get ``datagram``.
    """

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        for port in ports(arguments, "TCP"):
            await loop.create_server(
                lambda: _Connection(handler, server),
                "0.0.0.0",
                port,
                family=socket.AF_INET,
                backlog=BACKLOG,
            )
        for port in ports(arguments, "UDP") if datagram else ():
            assert datagram is not None
            await loop.create_datagram_endpoint(datagram, ("0.0.0.0", port))
        await ended.wait()

    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())
    sys.stdout.flush()
