"""A small web server whose page says its hostname, with nginx's access log on stdout.

``python -m pylb.lab.programs.nginx 80/TCP``
"""

from __future__ import annotations

import html
import socket
import sys
import time

from pylb.lab.programs.web import Request, Response, run

SERVER = "nginx (pylb)"


def page(hostname: str) -> bytes:
    """The page that every path answers with."""
    name = html.escape(hostname)
    return (
        "<!DOCTYPE html>\n<html>\n<head><title>Welcome to nginx!</title></head>\n"
        f"<body>\n<h1>Welcome to nginx!</h1>\n<p>This is {name}.</p>\n</body>\n</html>\n"
    ).encode()


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
    # nginx writes quotes, backslashes and what is not printable as \xHH.
    return "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\x{ord(c):02X}" for c in text)


def main(arguments: list[str]) -> None:
    """Serve until signalled."""
    body = page(socket.gethostname())

    def answer(request: Request) -> Response:
        response = Response(body, content_type="text/html")
        sys.stdout.write(access_line(request, response, time.time()) + "\n")
        sys.stdout.flush()
        return response

    run(answer, SERVER, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
