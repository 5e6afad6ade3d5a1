"""HTTP servers that answer as a test says, and what the doctor finds out about configured servers."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from posa_vla.cli.doctor.finding import Finding
from posa_vla.cli.doctor.servers import examine_servers
from posa_vla.settings import Settings

GOOD = "three-words-and-9"

# Method, path, headers and body of a request; status, headers and body of its answer.
Request = tuple[str, str, Mapping[str, str], bytes]
Answer = tuple[int, Mapping[str, str], bytes]


@contextmanager
def server(answer: Callable[[Request], Answer]) -> Iterator[str]:
    """Answers HTTP on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, said = answer((self.command, self.path, self.headers, body))
            self.send_response_only(status)
            for name, value in {"Date": formatdate(usegmt=True), **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PUT = do_DELETE = respond

        def log_message(self, *_: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        listening.server_close()


def at_paths(**answers: tuple[int, object]) -> Callable[[Request], Answer]:
    """Status and JSON by the path's last part."""

    def answer(request: Request) -> Answer:
        status, said = answers.get(request[1].rpartition("/")[2], (404, "no such page"))
        return status, {}, said if isinstance(said, bytes) else json.dumps(said).encode()

    return answer


@contextmanager
def silence() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def nowhere() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


def look(**settings: str) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine_servers(Settings(**settings))}


def clear_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Takes every server's settings of the user's away."""
    for name in list(os.environ):
        if name.startswith(("POSA_", "PREFECT_", "MLFLOW_", "RAY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
