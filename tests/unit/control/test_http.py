"""The control transport: real sockets, real curl, and everything that a client can do wrong."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pylb.control.client import ApiError, AsyncClient, Client, Unreachable
from pylb.control.http import (
    HttpError,
    PortServer,
    Request,
    Response,
    Router,
    Server,
    Stream,
)

DEADLINE = 10.0


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    """Runs a coroutine on the plain loop and on the fast one."""

    def runner(main: Any) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(DEADLINE):
                return await main

        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as loop:
            return loop.run(bounded())

    return runner


async def echo(request: Request) -> Response | Stream:
    match request.path:
        case "/echo":
            body = {"method": request.method, "query": dict(request.query), "body": request.body}
            return Response(200, body)
        case "/text":
            return Response(200, "plain words")
        case "/boom":
            raise RuntimeError("the handler is broken")
        case "/unjsonable":
            return Response(200, object())
        case "/refuse":
            raise HttpError(422, "not applied", ["a: wrong", "b: wrong"])
        case "/count":
            return Stream(count(int(request.query["n"])))
    raise HttpError(404, f"nothing is served at {request.path}")


async def count(n: int) -> AsyncIterator[Any]:
    for i in range(n):
        yield {"i": i}


async def raw(path: Path, data: bytes, *, eof: bool = False) -> bytes:
    """Everything that the server answers to ``data`` until it closes."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    if eof:
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def json_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


async def curl(path: Path, *args: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--unix-socket", str(path), *args, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


def test_the_socket_is_private_whatever_the_umask(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        server = Server(tmp_path / "api.sock", echo)
        before = os.umask(0)
        try:
            await server.start()
        finally:
            os.umask(before)
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
        await server.close()
        assert not server.path.exists()

    run(main())


def test_both_clients_get_post_and_delete(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        server = Server(tmp_path / "api.sock", echo)
        await server.start()
        aclient, client = AsyncClient(server.path), Client(server.path)
        got = await aclient.get("/echo", kind="Pod", none=None, yes=True, space="a b&c")
        assert got == {
            "method": "GET",
            "query": {"kind": "Pod", "yes": "true", "space": "a b&c"},
            "body": None,
        }
        assert await asyncio.to_thread(client.get, "/echo", path="/x", yes=True) == {
            "method": "GET",
            "query": {"path": "/x", "yes": "true"},
            "body": None,
        }
        for post in (aclient.post, lambda *a: asyncio.to_thread(client.post, *a)):
            assert (await post("/echo", {"ü": [1, None]}))["body"] == {"ü": [1, None]}
            assert (await post("/echo"))["body"] is None
        assert (await aclient.delete("/echo"))["method"] == "DELETE"
        assert (await aclient.put("/echo", 1))["method"] == "PUT"
        assert (await asyncio.to_thread(client.delete, "/echo", id=7))["query"] == {"id": "7"}
        assert await aclient.get("/text") == "plain words"
        await server.close()

    run(main())


def test_big_bodies_pass_and_too_big_ones_are_refused(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        server = Server(tmp_path / "api.sock", echo, max_body=1 << 20)
        await server.start()
        client = Client(server.path)
        big = "x" * ((1 << 20) - 2)
        assert (await asyncio.to_thread(client.post, "/echo", big))["body"] == big
        assert (await AsyncClient(server.path).post("/echo", big))["body"] == big
        with pytest.raises(ApiError) as refused:
            await asyncio.to_thread(client.post, "/echo", "x" * (3 << 20))
        assert refused.value.status == 413
        chunked = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        chunk = b"10000\r\n" + b"1" * 0x10000 + b"\r\n"
        answer = await raw(server.path, chunked + chunk * 17 + b"0\r\n\r\n", eof=True)
        assert status_of(answer) == 413
        await server.close()

    run(main())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        (b"GET //[ HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n{x}", 400),
        (b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * (1 << 17), 431),
    ],
)
def test_what_is_not_a_request_gets_an_error(
    run: Any, tmp_path: Path, data: bytes, status: int
) -> None:
    async def main() -> None:
        server = Server(tmp_path / "api.sock", echo)
        await server.start()
        answer = await raw(server.path, data, eof=True)
        assert status_of(answer) == status
        assert "error" in json_of(answer)
        assert (await AsyncClient(server.path).get("/echo"))["method"] == "GET"
        await server.close()

    run(main())


def test_a_client_that_closes_anywhere_harms_nothing(run: Any, tmp_path: Path) -> None:
    request = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nnull"

    async def main() -> None:
        server = Server(tmp_path / "api.sock", echo)
        await server.start()
        for cut in range(len(request)):
            await raw(server.path, request[:cut], eof=True)
        assert (await AsyncClient(server.path).get("/echo"))["method"] == "GET"
        await server.close()

    run(main())


def test_handler_errors(run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = Server(tmp_path / "api.sock", echo)
        await server.start()
        client = AsyncClient(server.path)
        with caplog.at_level(logging.ERROR), pytest.raises(ApiError) as failed:
            await client.get("/boom")
        assert failed.value.status == 500
        assert "the handler is broken" in failed.value.message
        assert "Traceback" in caplog.text
        with pytest.raises(ApiError) as failed:
            await client.get("/unjsonable")
        assert failed.value.status == 500
        with pytest.raises(ApiError) as failed:
            await client.get("/refuse")
        assert (failed.value.status, failed.value.errors) == (422, ["a: wrong", "b: wrong"])
        with pytest.raises(ApiError) as failed:
            await client.get("/nowhere")
        assert (failed.value.status, failed.value.message) == (
            404,
            "nothing is served at /nowhere",
        )
        await server.close()

    run(main())


def test_keep_alive_and_pipelining(run: Any, tmp_path: Path) -> None:
    one = b"GET /echo?n=%d HTTP/1.1\r\nhost: x\r\n\r\n"

    async def main() -> None:
        server = Server(tmp_path / "api.sock", echo)
        await server.start()
        answer = await raw(server.path, b"".join(one % n for n in range(20)), eof=True)
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 20
        assert answer.rindex(b'"n": "19"') > answer.rindex(b'"n": "18"')
        assert (
            await raw(server.path, b"HEAD /echo HTTP/1.1\r\nhost: x\r\n\r\n", eof=True)
        ).endswith(b"\r\n\r\n")
        await server.close()

    run(main())


def test_streams_end_with_their_iterator(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        server = Server(tmp_path / "api.sock", echo)
        await server.start()
        client = Client(server.path)
        values = await asyncio.to_thread(lambda: list(client.stream("/count", n=1000)))
        assert values == [{"i": i} for i in range(1000)]
        with pytest.raises(ApiError):
            await asyncio.to_thread(client.stream, "/nowhere")
        await server.close()

    run(main())


def test_a_stream_is_closed_when_its_client_goes(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        closed = asyncio.Event()

        async def endless() -> AsyncIterator[Any]:
            try:
                yield "first"
                await asyncio.Event().wait()
            finally:
                closed.set()

        async def handler(request: Request) -> Stream:
            return Stream(endless())

        server = Server(tmp_path / "api.sock", handler)
        await server.start()

        def first() -> Any:
            values = Client(server.path).stream("/")
            try:
                return next(values)
            finally:
                values.close()  # type: ignore[attr-defined]

        assert await asyncio.to_thread(first) == "first"
        await closed.wait()
        await server.close()

    run(main())


def test_close_ends_streams_and_lets_handlers_finish(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        entered, release = asyncio.Event(), asyncio.Event()

        async def endless() -> AsyncIterator[Any]:
            yield 1
            await asyncio.Event().wait()

        async def handler(request: Request) -> Response | Stream:
            if request.path == "/stream":
                return Stream(endless())
            entered.set()
            await release.wait()
            return Response(200, "finished")

        server = Server(tmp_path / "api.sock", handler)
        await server.start()

        def follow() -> list[Any]:
            seen = []
            try:
                for value in Client(server.path).stream("/stream"):
                    seen.append(value)
                    started.set()
            except Unreachable:
                seen.append("gone")
            return seen

        loop = asyncio.get_running_loop()

        class Started:
            def __init__(self) -> None:
                self.event = asyncio.Event()

            def set(self) -> None:
                loop.call_soon_threadsafe(self.event.set)

        started = Started()
        following = asyncio.ensure_future(asyncio.to_thread(follow))
        await started.event.wait()
        slow = asyncio.ensure_future(AsyncClient(server.path).get("/slow"))
        await entered.wait()
        closing = asyncio.ensure_future(server.close(grace=DEADLINE))
        assert await following == [1, "gone"]
        assert not server.path.exists()
        release.set()
        assert await slow == "finished"
        await closing

    run(main())


def test_a_dead_socket_is_replaced_and_a_live_one_is_not(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()

    async def main() -> None:
        first, second = Server(path, echo), Server(path, echo)
        await first.start()
        with pytest.raises(OSError, match="already answers") as refused:
            await second.start()
        assert refused.value.errno == errno.EADDRINUSE
        assert (await AsyncClient(path).get("/echo"))["method"] == "GET"
        await first.close()
        path.write_text("not a socket")
        with pytest.raises(OSError, match="not a socket"):
            await second.start()
        assert path.read_text() == "not a socket"

    run(main())


def test_close_leaves_a_successors_socket_alone(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        first, second = Server(tmp_path / "api.sock", echo), Server(tmp_path / "api.sock", echo)
        await first.start()
        first.path.unlink()
        await second.start()
        await first.close()
        assert (await AsyncClient(second.path).get("/echo"))["method"] == "GET"
        await second.close()

    run(main())


def test_paths_longer_than_a_socket_address(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / ("n" * 120)
    folder.mkdir()

    async def main() -> None:
        server = Server(folder / "api.sock", echo)
        await server.start()
        assert (await AsyncClient(server.path).get("/echo"))["method"] == "GET"
        got = await asyncio.to_thread(Client(server.path).get, "/echo")
        assert got["method"] == "GET"
        await server.close()
        assert not server.path.exists()

    run(main())


def test_nobody_there_is_one_sentence(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    want = f"no daemon answers at {path}: is it running?"
    for _ in range(2):
        with pytest.raises(Unreachable, match="is it running") as gone:
            Client(path).get("/healthz")
        assert str(gone.value) == want
        with pytest.raises(Unreachable, match="is it running"):
            Client(path).stream("/events")
        with pytest.raises(Unreachable) as gone:
            run(AsyncClient(path).get("/healthz"))
        assert str(gone.value) == want
        if not path.exists():
            dead = socket.socket(socket.AF_UNIX)
            dead.bind(str(path))
            dead.close()


def test_a_silent_server_times_out(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(Unreachable, match=r"did not answer within 0\.05 s"):
            Client(path, timeout=0.05).get("/")
        with pytest.raises(Unreachable, match=r"did not answer within 0\.05 s"):
            run(AsyncClient(path, timeout=0.05).get("/"))


def test_the_router(run: Any, tmp_path: Path) -> None:
    async def show(request: Request) -> Response:
        return Response(200, dict(request.params))

    router = Router()
    router.add("GET", "/pods/{namespace}/{name}", show)
    router.add("DELETE", "/pods/{namespace}/{name}", show)

    async def main() -> None:
        server = Server(tmp_path / "api.sock", router)
        await server.start()
        client = AsyncClient(server.path)
        assert await client.get("/pods/default/web 1") == {"namespace": "default", "name": "web 1"}
        with pytest.raises(ApiError) as wrong:
            await client.post("/pods/default/web")
        assert wrong.value.status == 405
        assert wrong.value.message == "/pods/default/web takes DELETE, GET, not POST"
        with pytest.raises(ApiError) as unknown:
            await client.get("/pods")
        assert unknown.value.status == 404
        await server.close()

    run(main())


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        server = Server(tmp_path / "api.sock", echo)
        await server.start()
        assert json.loads(await curl(server.path, "http://pylb/echo?a=b"))["query"] == {"a": "b"}
        posted = tmp_path / "body.json"
        posted.write_text(json.dumps(["x" * (2 << 20)]))
        out = await curl(server.path, "-d", f"@{posted}", "http://pylb/echo")
        assert len(json.loads(out)["body"][0]) == 2 << 20
        lines = (await curl(server.path, "-N", "http://pylb/count?n=3")).splitlines()
        assert [json.loads(line) for line in lines] == [{"i": 0}, {"i": 1}, {"i": 2}]
        old = await curl(server.path, "--http1.0", "http://pylb/count?n=3")
        assert old.splitlines() == lines
        await server.close()

    run(main())


def test_a_burst_of_connections_to_a_port_takes_no_more_than_its_share(
    run: Callable[[Awaitable[Any]], Any],
) -> None:
    """Of those that came in one turn of the loop all but one stayed: each ended the same oldest."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        server = PortServer("127.0.0.1", port, echo)
        await server.start()
        loop = asyncio.get_running_loop()
        burst = [socket.create_connection(("127.0.0.1", port)) for _ in range(90)]
        for oldest in burst[: 90 - 32]:
            oldest.setblocking(False)
            assert await loop.sock_recv(oldest, 1) == b""
        for each in burst:
            each.close()
        await server.close(grace=0)

    run(main())
