"""The server of the page on which a person clicks: on this machine alone, and for who knows the token."""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from posa_vla.console import say
from posa_vla.errors import BadInput, PosaError
from posa_vla.pipeline.clicking.filmed import Filmed
from posa_vla.pipeline.clicking.page import clicking_page
from posa_vla.pipeline.clicking.session import Action, Clicking
from posa_vla.pipeline.clicking.task import Task
from posa_vla.schema import parse_json

_LONGEST_REQUEST = 4096
# Seconds: a connection that says nothing for so long is closed.
_PATIENCE = 30
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def serve(filmed: Filmed, tasks: Sequence[Task], accepted: Callable[[Task], None], *, port: int = 0) -> None:
    """Shows the page until every task is accepted or left out.

    Args:
        filmed: The pictures.
        tasks: In the order in which they are done.
        accepted: Called with each task whose result a person took.
        port: Of the page; a free one if 0.

    Raises:
        BadInput: The port is taken.
    """
    clicking = Clicking(filmed, tasks, accepted)
    token = secrets.token_urlsafe(24)
    try:
        server = _Server(clicking, token, port)
    except OSError as error:
        raise BadInput(f"port {port} of 127.0.0.1 cannot be had ({error.strerror}): name another with --port") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        say(f"open this page in a browser on this machine: http://127.0.0.1:{server.server_port}/{token}/")
        say(
            f"(from another machine first: ssh -L {server.server_port}:127.0.0.1:{server.server_port} THIS_MACHINE; "
            "Ctrl-C ends, and the same command goes on)"
        )
        while not clicking.over.wait(0.5):
            pass
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, clicking: Clicking, token: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.clicking, self.token = clicking, token

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE

    def do_GET(self) -> None:
        rest = self._allowed()
        if rest is None:
            return
        clicking = self.server.clicking
        if rest == "":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", clicking_page().encode())
        elif rest == "state":
            self._document(clicking.state)
        elif rest.startswith("picture/"):
            try:
                step, episode, frame = (int(part) for part in rest.removeprefix("picture/").split("/"))
                self._answer(HTTPStatus.OK, "image/jpeg", clicking.picture(step, (episode, frame)))
            except (ValueError, PosaError) as error:
                self._refuse(HTTPStatus.NOT_FOUND, str(error))
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        rest = self._allowed()
        if rest is None:
            return
        # No page of another origin can send JSON without asking, and it is not allowed to.
        kind, length = self.headers.get("Content-Type", ""), self.headers.get("Content-Length", "")
        if rest != "do" or kind != "application/json" or not length.isdigit() or int(length) > _LONGEST_REQUEST:
            self.close_connection = True
            self._refuse(HTTPStatus.BAD_REQUEST, "expected a short JSON document")
            return
        body = self.rfile.read(int(length))
        clicking = self.server.clicking
        self._document(lambda: clicking.do(parse_json(Action, body, "the page's request")))
        clicking.end_if_over()

    def _allowed(self) -> str | None:
        """The path behind the token; None where the request was refused.

        The Host header is checked as well: a name that somebody else's DNS points at this machine is none of ours.
        """
        port = self.server.server_port
        hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        origin = self.headers.get("Origin")
        path = urlsplit(self.path).path
        token, _, rest = path.removeprefix("/").partition("/")
        sound = self.headers.get("Host") in hosts and origin in (None, *(f"http://{host}" for host in hosts))
        if not sound or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self.close_connection = True
            self._refuse(HTTPStatus.FORBIDDEN, "open the address that the command printed")
            return None
        return rest

    def _document(self, made: Callable[[], dict[str, Any]]) -> None:
        try:
            self._answer(HTTPStatus.OK, "application/json", json.dumps(made(), allow_nan=False).encode())
        except PosaError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", (text + "\n").encode())

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: the address holds the token."""
