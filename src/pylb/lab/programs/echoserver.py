"""The echoserver of the Kubernetes source-IP tutorial: says what it saw of the client.

``python -m pylb.lab.programs.echoserver 8080/TCP 9000/UDP``.  A datagram is
answered with the same text, the datagram itself as the body.  HTTP requests, and
not datagrams, of which there may be very many, are logged on stdout as nginx does.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import cast
from urllib.parse import urlsplit

from pylb.lab.programs.web import Request, Response, logged, run

SERVER = "echoserver"


def text(request: Request, hostname: str) -> str:
    """The answer to a request, in the words of the image echoserver:1.4."""
    path, query = _split(request.target)
    host = request.header("host").rpartition("@")[2]
    name = host.rsplit(":", 1)[0] if ":" in host else host
    headers = "".join(f"{name}={value}\n" for name, value in sorted(request.headers))
    body = request.body.decode(errors="replace") or "-no body in request-"
    return (
        "CLIENT VALUES:\n"
        f"client_address={request.client}\n"
        f"command={request.method}\n"
        f"real path={path}\n"
        f"query={query or 'nil'}\n"
        f"request_version={request.version}\n"
        f"request_uri=http://{name}:{request.port}{request.target}\n"
        "\n"
        "SERVER VALUES:\n"
        f"server_version=pylb: {SERVER}\n"
        f"hostname={hostname}\n"
        "\n"
        f"HEADERS RECEIVED:\n{headers}"
        f"BODY:\n{body}"
    )


def _split(target: str) -> tuple[str, str]:
    try:
        parts = urlsplit(target)
    except ValueError:
        return target, ""
    return parts.path + (f"?{parts.query}" if parts.query else ""), parts.query


def datagram_text(client: str, hostname: str, data: bytes) -> str:
    """The answer to a datagram."""
    return (
        "CLIENT VALUES:\n"
        f"client_address={client}\n"
        "\n"
        "SERVER VALUES:\n"
        f"server_version=pylb: {SERVER}\n"
        f"hostname={hostname}\n"
        "\n"
        f"BODY:\n{data.decode(errors='replace')}"
    )


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(datagram_text(addr[0], self._hostname, data).encode(), addr)


def main(arguments: list[str]) -> None:
    """Serve until signalled."""
    hostname = socket.gethostname()

    def answer(request: Request) -> Response:
        return Response(text(request, hostname).encode())

    run(logged(answer), SERVER, arguments, lambda: _Datagrams(hostname))


if __name__ == "__main__":
    main(sys.argv[1:])
