"""Clients of the control APIs: one that blocks, for the CLI, and one for asyncio.

Both make one connection for each call.  They fail in two ways:
:class:`Unreachable` when nobody answers, with a sentence fit to print, and
:class:`ApiError` when the answer is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import h11

from pylb.control.unix import address

TIMEOUT = 60.0
"""Seconds that an answer may take, unless the client is told otherwise."""

_READ = 1 << 16


class Unreachable(Exception):
    """Nobody answers on the socket; the message is one sentence for a person."""


class ApiError(Exception):
    """The answer was an error.

    ``status`` is HTTP's; ``errors`` holds one sentence each when there are
    several, and is empty otherwise.
    """

    def __init__(self, status: int, message: str, errors: list[str]) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors


class _Call:
    """One request and its answer, without I/O: bytes to send, bytes received.

    ``status`` is 0 until the answer's head has come; ``done`` turns true at its end.
    """

    def __init__(self, method: str, path: str, query: dict[str, object], body: Any) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self.status = 0
        self.done = False
        self._kind = ""
        self._parts: list[bytes] = []
        payload = b"" if body is None else json.dumps(body).encode()
        headers = [("host", "pylb"), ("connection", "close")]
        if body is not None:
            headers.append(("content-type", "application/json"))
        if body is not None or method in ("POST", "PUT"):
            headers.append(("content-length", str(len(payload))))
        events: list[Any] = [
            h11.Request(method=method, target=_target(path, query), headers=headers),
            h11.EndOfMessage(),
        ]
        if payload:
            events.insert(1, h11.Data(data=payload))
        self.outgoing = b"".join(self._http.send(event) or b"" for event in events)

    def receive(self, data: bytes) -> None:
        """Take in bytes, b"" for the end of them; raises OSError or `h11.ProtocolError`."""
        self._http.receive_data(data)
        while not self.done and (event := self._http.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                self.status = event.status_code
                self._kind = dict(event.headers).get(b"content-type", b"").decode("latin-1")
            elif isinstance(event, h11.Data):
                self._parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.done = True
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("it closed the connection without an answer")

    def taken(self) -> bytes:
        """The body's bytes since the last call."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken

    def result(self) -> Any:
        """The decoded answer; raises `ApiError` when it is an error."""
        payload = self.taken()
        if self.status >= 400:
            raise _error(self.status, payload)
        if self._kind.startswith("application/json"):
            return json.loads(payload)
        return payload.decode(errors="replace")


class Client:
    """Calls the API on the Unix socket ``path``; ``who`` names it in errors.

    Query values are sent as text: None is left out, booleans are true and false.
    """

    def __init__(
        self, path: Path | str, *, who: str = "daemon", timeout: float | None = TIMEOUT
    ) -> None:
        self.path = Path(path)
        self._who = who
        self._timeout = timeout

    def get(self, path: str, /, **query: object) -> Any:
        """The decoded answer to GET; raises `Unreachable` and `ApiError`."""
        return self._call("GET", path, query, None)

    def post(self, path: str, body: Any = None, /, **query: object) -> Any:
        """The decoded answer to POST with ``body`` as JSON; raises likewise."""
        return self._call("POST", path, query, body)

    def put(self, path: str, body: Any = None, /, **query: object) -> Any:
        """The decoded answer to PUT with ``body`` as JSON; raises likewise."""
        return self._call("PUT", path, query, body)

    def delete(self, path: str, /, **query: object) -> Any:
        """The decoded answer to DELETE; raises likewise."""
        return self._call("DELETE", path, query, None)

    def stream(self, path: str, /, **query: object) -> Iterator[Any]:
        """The values of a streamed answer, as they come, however long that takes.

        The request is made at once, so `Unreachable` and `ApiError` come from this
        call; a server that goes away midway ends the iterator with `Unreachable`.
        """
        call = _Call("GET", path, query, None)
        sock = self._connected()
        try:
            self._send(sock, call)
            while not call.status or (call.status >= 400 and not call.done):
                self._receive(sock, call)
            if call.status >= 400:
                call.result()
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return self._values(sock, call)

    def _values(self, sock: socket.socket, call: _Call) -> Iterator[Any]:
        with sock:
            rest = b""
            while True:
                *lines, rest = (rest + call.taken()).split(b"\n")
                for line in lines:
                    yield json.loads(line)
                if call.done:
                    return
                self._receive(sock, call)

    def _call(self, method: str, path: str, query: dict[str, object], body: Any) -> Any:
        call = _Call(method, path, query, body)
        with self._connected() as sock:
            self._send(sock, call)
            while not call.done:
                self._receive(sock, call)
        return call.result()

    def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self._timeout)
            with address(self.path) as name:
                sock.connect(name)
        except OSError as error:
            sock.close()
            raise self._unreachable(error) from error
        return sock

    def _send(self, sock: socket.socket, call: _Call) -> None:
        try:
            # A server that refuses before all is sent closes early: its answer says why.
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(call.outgoing)
        except OSError as error:
            raise self._unreachable(error) from error

    def _receive(self, sock: socket.socket, call: _Call) -> None:
        try:
            call.receive(sock.recv(_READ))
        except (OSError, h11.ProtocolError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(_explain(error, self._who, self.path, self._timeout))


class AsyncClient:
    """`Client` for a running event loop, without streams."""

    def __init__(
        self, path: Path | str, *, who: str = "daemon", timeout: float | None = TIMEOUT
    ) -> None:
        self.path = Path(path)
        self._who = who
        self._timeout = timeout

    async def get(self, path: str, /, **query: object) -> Any:
        """The decoded answer to GET; raises `Unreachable` and `ApiError`."""
        return await self._call("GET", path, query, None)

    async def post(self, path: str, body: Any = None, /, **query: object) -> Any:
        """The decoded answer to POST with ``body`` as JSON; raises likewise."""
        return await self._call("POST", path, query, body)

    async def put(self, path: str, body: Any = None, /, **query: object) -> Any:
        """The decoded answer to PUT with ``body`` as JSON; raises likewise."""
        return await self._call("PUT", path, query, body)

    async def delete(self, path: str, /, **query: object) -> Any:
        """The decoded answer to DELETE; raises likewise."""
        return await self._call("DELETE", path, query, None)

    async def _call(self, method: str, path: str, query: dict[str, object], body: Any) -> Any:
        call = _Call(method, path, query, body)
        try:
            async with asyncio.timeout(self._timeout):
                await self._exchange(call)
        except (OSError, h11.ProtocolError) as error:
            raise Unreachable(_explain(error, self._who, self.path, self._timeout)) from error
        return call.result()

    async def _exchange(self, call: _Call) -> None:
        with address(self.path) as name:
            reader, writer = await asyncio.open_unix_connection(name)
        try:
            writer.write(call.outgoing)
            with contextlib.suppress(BrokenPipeError):
                await writer.drain()
            while not call.done:
                call.receive(await reader.read(_READ))
        finally:
            writer.close()


def _target(path: str, query: dict[str, object]) -> str:
    """A request target: the path percent-encoded, with the query values as text."""
    pairs = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }
    return quote(path) + (f"?{urlencode(pairs)}" if pairs else "")


def _explain(error: Exception, who: str, path: Path, timeout: float | None) -> str:
    """One sentence for a failed connection."""
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)):
        return f"no {who} answers at {path}: is it running?"
    if isinstance(error, PermissionError):
        return f"not allowed to use {path}: run it as root (sudo)"
    if isinstance(error, TimeoutError):
        return f"the {who} at {path} did not answer within {timeout:g} s"
    return f"the {who} at {path} broke off: {error or type(error).__name__}"


def _error(status: int, payload: bytes) -> ApiError:
    try:
        body = json.loads(payload)
        errors = body.get("errors")
        listed = [str(e) for e in errors] if isinstance(errors, list) else []
        return ApiError(status, str(body["error"]), listed)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = payload.decode(errors="replace").strip()
        return ApiError(status, text or f"HTTP status {status}", [])
