"""A small web server whose page says its hostname, with nginx's access log on stdout.

``python -m pylb.lab.programs.nginx 80/TCP``
"""

from __future__ import annotations

import html
import socket
import sys

from pylb.lab.programs.web import Request, Response, logged, run

SERVER = "nginx (pylb)"


def page(hostname: str) -> bytes:
    """The page that every path answers with."""
    name = html.escape(hostname)
    return (
        "<!DOCTYPE html>\n<html>\n<head><title>Welcome to nginx!</title></head>\n"
        f"<body>\n<h1>Welcome to nginx!</h1>\n<p>This is {name}.</p>\n</body>\n</html>\n"
    ).encode()


def main(arguments: list[str]) -> None:
    """Serve until signalled."""
    body = page(socket.gethostname())

    def answer(request: Request) -> Response:
        return Response(body, content_type="text/html")

    run(logged(answer), SERVER, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
