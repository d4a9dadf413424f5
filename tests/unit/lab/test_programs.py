"""The built-in programs: what they answer, and that they survive what they are sent."""

from __future__ import annotations

import asyncio
import re
from types import ModuleType

import pytest

from pylb.lab.programs import echoserver, nginx, web
from pylb.lab.programs.web import Handler, Request, Response


def _request(**fields: object) -> Request:
    given: dict[str, object] = {
        "client": "10.244.1.5",
        "port": 8080,
        "method": "GET",
        "target": "/",
        "version": "1.1",
        "headers": [("host", "10.96.0.10"), ("user-agent", "curl/8"), ("accept", "*/*")],
        "body": b"",
        **fields,
    }
    return Request(**given)  # type: ignore[arg-type]


def test_echoserver_says_what_the_tutorial_shows() -> None:
    assert echoserver.text(_request(), "web-1") == (
        "CLIENT VALUES:\n"
        "client_address=10.244.1.5\n"
        "command=GET\n"
        "real path=/\n"
        "query=nil\n"
        "request_version=1.1\n"
        "request_uri=http://10.96.0.10:8080/\n"
        "\n"
        "SERVER VALUES:\n"
        "server_version=pylb: echoserver\n"
        "hostname=web-1\n"
        "\n"
        "HEADERS RECEIVED:\n"
        "accept=*/*\n"
        "host=10.96.0.10\n"
        "user-agent=curl/8\n"
        "BODY:\n"
        "-no body in request-"
    )


def test_echoserver_tells_query_and_body_and_leaves_the_host_its_name() -> None:
    headers = [("host", "web.example:80")]
    request = _request(method="POST", target="/a?b=c", headers=headers, body=b"x\xff")
    text = echoserver.text(request, "web-1")
    assert "command=POST\n" in text
    assert "query=b=c\n" in text
    assert "request_uri=http://web.example:8080/a?b=c\n" in text
    assert text.endswith("BODY:\nx\ufffd")


def test_echoserver_bears_a_target_that_is_no_url() -> None:
    assert "real path=//[\n" in echoserver.text(_request(target="//["), "web-1")


def test_nginx_page_says_the_hostname() -> None:
    assert b"This is web-1.\n".rstrip() in nginx.page("web-1")
    assert b"<script>" not in nginx.page("<script>")


def test_both_log_in_nginx_s_combined_format() -> None:
    line = web.access_line(_request(), Response(b"12345"), 0.0)
    assert line == (
        '10.244.1.5 - - [01/Jan/1970:00:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8"'
    )


@pytest.mark.parametrize("program", [echoserver, nginx])
def test_each_request_is_a_line_at_once(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[Handler] = []
    monkeypatch.setattr(program, "run", lambda handler, *rest: served.append(handler))
    program.main(["80/TCP"])
    bodies = [served[0](_request(target=target)).body for target in ("/a", "/b?c=d")]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split('"')[1:3] for line in lines] == [
        ["GET /a HTTP/1.1", f" 200 {len(bodies[0])} "],
        ["GET /b?c=d HTTP/1.1", f" 200 {len(bodies[1])} "],
    ]
    assert all(line.startswith("10.244.1.5 - - [") for line in lines)


def test_nginx_escapes_what_would_forge_a_line() -> None:
    headers = [("user-agent", 'a"b\\c\xe9')]
    line = web.access_line(_request(headers=headers), Response(b""), 0.0)
    assert line.endswith('"a\\x22b\\x5Cc\\xE9"')


def test_ports_are_sorted_out_by_protocol() -> None:
    arguments = ["80/TCP", "53/UDP", "8080/TCP"]
    assert web.ports(arguments, "TCP") == [80, 8080]
    assert web.ports(arguments, "UDP") == [53]


async def _talk(*pieces: bytes, finish: bool = True) -> bytes:
    """Send bytes to a server in pieces and give all that it sends until it closes.

    An empty piece waits for the head of an answer.
    """
    loop = asyncio.get_running_loop()

    def answer(request: Request) -> Response:
        return Response(f"{request.method} {request.target} {len(request.body)};".encode())

    server = await loop.create_server(lambda: web._Connection(answer, "test"), "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        data = b""
        for piece in pieces:
            if piece:
                writer.write(piece)
                await writer.drain()
            else:
                data += await reader.readuntil(b"\r\n\r\n")
        if finish:
            writer.write_eof()
        async with asyncio.timeout(10):
            data += await reader.read()
        writer.close()
        await writer.wait_closed()
        return data


def _bodies(data: bytes) -> list[bytes]:
    return re.findall(rb"[A-Z]+ /\S* \d+;", data)


def test_requests_on_one_connection_are_answered_in_order() -> None:
    data = asyncio.run(_talk(*[b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(5)]))
    assert _bodies(data) == [b"GET /%d 0;" % n for n in range(5)]


def test_requests_in_one_piece_and_byte_by_byte_are_the_same() -> None:
    post = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz"
    text = post + b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"
    whole = asyncio.run(_talk(text))
    split = asyncio.run(_talk(*[text[i : i + 1] for i in range(len(text))]))
    assert _bodies(whole) == _bodies(split) == [b"POST /a 3;", b"GET /b 0;"]


def test_http_1_0_and_connection_close_end_the_connection() -> None:
    for text in (
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ):
        assert _bodies(asyncio.run(_talk(text, finish=False))) == [b"GET / 0;"]


def test_head_has_a_length_and_no_body() -> None:
    data = asyncio.run(_talk(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert b"content-length: 9\r\n" in data.lower()
    assert data.endswith(b"\r\n\r\n")


def test_what_is_not_http_gets_400_and_the_end() -> None:
    data = asyncio.run(_talk(b"hello\r\n\r\n", finish=False))
    assert data.startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_client_that_waits_for_100_is_told_to_go_on() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    data = asyncio.run(_talk(head, b"", b"ab"))
    assert data.startswith(b"HTTP/1.1 100 ")
    assert _bodies(data) == [b"POST / 2;"]
