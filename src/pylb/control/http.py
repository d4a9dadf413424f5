"""HTTP/1.1 with JSON: the server side of every control API, on a Unix socket or a port.

h11 is the protocol; this module adds the socket, the loop and the errors:

- The socket has mode 0600 from the moment it has a name, so the file system is
  the whole access control.
- A :class:`Response` is one JSON value (or text); a :class:`Stream` is one JSON
  value a line (application/x-ndjson), chunked, until the iterator ends or the
  client goes.
- Whatever a client or a handler does wrong is answered with a status and
  ``{"error": "one sentence"}`` and never ends the server.

``curl --unix-socket PATH http://pylb/healthz`` works.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http.client import responses
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from pylb.control.unix import listen, unlink_own

log = logging.getLogger(__name__)

MAX_BODY = 64 << 20
"""The largest request body, bytes."""

_READ = 1 << 16
_LINGER = 2.0
"""Seconds that a client with a refused request has to finish sending."""
_MOST, _PATIENCE = 32, 10.0
"""Connections to a port, and seconds that each may last."""
_JSON = "application/json"
_NDJSON = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose body has been read and decoded.

    ``path`` is percent-decoded, without the query; of a repeated query name the
    last value counts.  ``body`` is the decoded JSON, None when there was no body.
    ``params`` holds what a :class:`Router` pattern's ``{name}`` matched.  ``headers``
    are by their names in lower case, the last of several.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer: a `str` body is sent as text, anything else as JSON."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer without an end of its own: each value becomes one line of JSON.

    The iterator is closed (``aclose``) when the client goes or the server stops.
    """

    values: AsyncIterator[Any]


class HttpError(Exception):
    """What a handler raises to answer with an error.

    ``errors`` is for an answer with more than one sentence, such as the problems
    of a manifest.
    """

    def __init__(self, status: int, message: str, errors: list[str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors

    def response(self) -> Response:
        """The answer: ``{"error": ...}``, with ``"errors"`` when there are any."""
        body: dict[str, Any] = {"error": self.message}
        if self.errors is not None:
            body["errors"] = self.errors
        return Response(self.status, body)


Handler = Callable[[Request], Awaitable[Response | Stream]]


class Router:
    """Finds the handler of a method and path; itself a handler.

    A pattern is a path whose segments may be ``{name}``, which matches any one
    segment.  An unknown path is 404; a known one with another method is 405 and
    names the methods that there are.
    """

    def __init__(self) -> None:
        self._routes: dict[tuple[str, ...], dict[str, Handler]] = {}

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        """Serve ``method`` on ``pattern`` with ``handler``; the last one added wins."""
        self._routes.setdefault(_segments(pattern), {})[method.upper()] = handler

    async def __call__(self, request: Request) -> Response | Stream:
        """Call the handler that the request names; raises `HttpError` if none does."""
        allowed: set[str] = set()
        for pattern, methods in self._routes.items():
            params = _match(pattern, _segments(request.path))
            if params is None:
                continue
            if request.method in methods:
                return await methods[request.method](replace(request, params=params))
            allowed.update(methods)
        if allowed:
            listed = ", ".join(sorted(allowed))
            body = {"error": f"{request.path} takes {listed}, not {request.method}"}
            return Response(405, body, {"allow": listed})
        raise HttpError(404, f"nothing is served at {request.path}")


def _segments(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/"))


def _match(pattern: tuple[str, ...], path: tuple[str, ...]) -> dict[str, str] | None:
    if len(pattern) != len(path):
        return None
    params = {}
    for want, have in zip(pattern, path, strict=True):
        if want.startswith("{") and want.endswith("}"):
            params[want[1:-1]] = have
        elif want != have:
            return None
    return params


class _Serving:
    """Serves ``handler`` to whoever connects; where, a subclass says.

    Of more than ``most`` connections the oldest ends, and each within ``patience``
    seconds: None where whoever may connect is trusted.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        max_body: int = MAX_BODY,
        most: int | None = None,
        patience: float | None = None,
    ) -> None:
        self._handler = handler
        self._max_body = max_body
        self._most = most
        self._patience = patience
        self._server: asyncio.Server | None = None
        # The oldest first.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._closing = False

    async def close(self, grace: float = 2.0) -> None:
        """Stop listening and end every connection.

        Handlers that are at work get ``grace`` seconds to finish their answers;
        streams and idle connections end at once.
        """
        self._closing = True
        if self._server is not None:
            self._server.close()
        mine = asyncio.current_task()
        for task in self._tasks.keys() - self._answering - {mine}:
            task.cancel()
        rest = self._tasks.keys() - {mine}
        if rest:
            _, late = await asyncio.wait(rest, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = None
        if self._most is not None:
            # Those that were ended are here until the loop comes to them.
            for oldest in islice(self._tasks, max(0, len(self._tasks) - self._most)):
                oldest.cancel()
        try:
            async with asyncio.timeout(self._patience):
                await self._converse(_Exchange(reader, writer, self._max_body), task)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # the client went, or its connection was ended: nobody is left to tell
        except Exception:
            log.exception("a control connection failed")
        finally:
            self._tasks.pop(task, None)
            self._answering.discard(task)
            writer.close()

    async def _converse(self, exchange: _Exchange, task: asyncio.Task[None]) -> None:
        """Answer requests until one side wants the connection closed."""
        while not self._closing:
            try:
                request = await exchange.request()
            except HttpError as error:
                await exchange.refuse(error)
                return
            if request is None:
                return
            self._answering.add(task)
            answer = await self._call(request)
            if isinstance(answer, Stream):
                self._answering.discard(task)
                await exchange.stream(answer)
                return
            await exchange.respond(answer, last=self._closing)
            self._answering.discard(task)
            if not exchange.next_cycle():
                return

    async def _call(self, request: Request) -> _Encoded | Stream:
        try:
            answer = await self._handler(request)
            return answer if isinstance(answer, Stream) else _encoded(answer)
        except HttpError as error:
            return _encoded(error.response())
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            return _encoded(Response(500, {"error": f"{type(error).__name__}: {error}"}))


class Server(_Serving):
    """Serves ``handler`` on the Unix socket ``path``."""

    def __init__(self, path: Path, handler: Handler, *, max_body: int = MAX_BODY) -> None:
        super().__init__(handler, max_body=max_body)
        self.path = Path(path)
        self._inode = 0

    async def start(self) -> None:
        """Listen.  Replaces the socket of a dead process.

        Raises OSError (EADDRINUSE) when a live process answers there or the path
        is something other than a socket.
        """
        sock = listen(self.path)
        self._inode = self.path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._connected, sock=sock)

    async def close(self, grace: float = 2.0) -> None:
        """Stop listening, remove the socket and end every connection; see `_Serving.close`."""
        unlink_own(self.path, self._inode)
        await super().close(grace)


class PortServer(_Serving):
    """Serves ``handler`` on a TCP port of an IPv4 address of this network namespace."""

    def __init__(self, address: str, port: int, handler: Handler) -> None:
        # Anybody may connect here, and has nothing to send: the daemon's descriptors are few.
        super().__init__(handler, max_body=1 << 16, most=_MOST, patience=_PATIENCE)
        self.address = address
        self.port = port

    async def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._connected, self.address, self.port)


@dataclass(frozen=True, slots=True)
class _Encoded:
    status: int
    headers: Mapping[str, str]
    payload: bytes


def _encoded(response: Response) -> _Encoded:
    if isinstance(response.body, str):
        kind, payload = "text/plain; charset=utf-8", response.body.encode()
    else:
        kind, payload = _JSON, json.dumps(response.body).encode() + b"\n"
    headers = {"content-type": kind, "content-length": str(len(payload)), **response.headers}
    return _Encoded(response.status, headers, payload)


class _Exchange:
    """One connection's bytes on one side, requests and answers on the other."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_body: int
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._max_body = max_body
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 16)
        self._head = False

    async def _event(self) -> Any:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise HttpError(error.error_status_hint, f"not HTTP/1.1: {error}") from None
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await self._send(go_on)
            self._http.receive_data(await self._reader.read(_READ))

    async def request(self) -> Request | None:
        """The next request, None when the client has closed; raises `HttpError`."""
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        method = event.method.decode("ascii")
        self._head = method == "HEAD"
        if method == "CONNECT":
            raise HttpError(405, "this is no proxy")
        try:
            target = urlsplit(event.target.decode("ascii"))
        except ValueError as error:
            raise HttpError(400, f"not a request target: {error}") from None
        body = await self._body(event)
        return Request(
            method=method,
            path=unquote(target.path),
            query=dict(parse_qsl(target.query, keep_blank_values=True)),
            body=body,
            headers={k.decode("ascii"): v.decode("latin-1") for k, v in event.headers},
        )

    async def _body(self, request: h11.Request) -> Any:
        too_big = HttpError(413, f"the body is larger than {self._max_body} bytes")
        for name, value in request.headers:
            if name == b"content-length" and int(value) > self._max_body:
                raise too_big
        parts: list[bytes] = []
        size = 0
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise ConnectionResetError("the client closed within a body")
            size += len(event.data)
            if size > self._max_body:
                raise too_big
            parts.append(bytes(event.data))
        if not size:
            return None
        try:
            return json.loads(b"".join(parts))
        except (ValueError, RecursionError) as error:
            raise HttpError(400, f"the body is not JSON: {error}") from None

    async def respond(self, answer: _Encoded, *, last: bool = False) -> None:
        """Send a whole answer; ``last`` announces that the connection ends with it."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = dict(answer.headers)
        if last:
            headers["connection"] = "close"
        await self._send(
            _head(answer.status, list(headers.items())),
            *(() if self._head else (h11.Data(data=answer.payload),)),
            h11.EndOfMessage(),
        )

    async def refuse(self, error: HttpError) -> None:
        """Answer what could not be read, and let the client finish sending first.

        Closing with bytes unread would reset the connection under the answer.
        """
        await self.respond(_encoded(error.response()), last=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                await self._gone()

    async def stream(self, stream: Stream) -> None:
        """Send values as they come, until they end or the client goes."""
        gone = asyncio.ensure_future(self._gone())
        values = aiter(stream.values)
        following: asyncio.Future[Any] | None = None
        try:
            headers = [("content-type", _NDJSON), ("connection", "close")]
            if self._http.their_http_version != b"1.0":
                headers.append(("transfer-encoding", "chunked"))
            await self._send(_head(200, headers))
            while True:
                following = asyncio.ensure_future(_next(values))
                await asyncio.wait({following, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    return
                value = following.result()
                if value is _END:
                    break
                await self._send(h11.Data(data=json.dumps(value).encode() + b"\n"))
            await self._send(h11.EndOfMessage())
        finally:
            for task in (gone, following):
                if task is not None and not task.done():
                    task.cancel()
                    await asyncio.wait({task})
            if (close := getattr(values, "aclose", None)) is not None:
                await close()

    async def _gone(self) -> None:
        """Return when the client has closed its side."""
        try:
            while await self._reader.read(_READ):
                pass
        except ConnectionError:
            return

    def next_cycle(self) -> bool:
        """Get ready for another request; False when the connection is to end."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    async def _send(self, *events: Any) -> None:
        for event in events:
            self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()


_END = object()


def _head(status: int, headers: list[tuple[str, str]]) -> h11.Response:
    reason = responses.get(status, "").encode()
    return h11.Response(status_code=status, reason=reason, headers=headers)


async def _next(values: AsyncIterator[Any]) -> Any:
    return await anext(values, _END)
