"""The page's server: for this machine alone, and for who knows the token."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image

from posa_vla.console import also_to
from posa_vla.dataset.calibration.clicks_file import ClicksKept
from posa_vla.errors import BadInput
from posa_vla.pipeline.clicking.filmed import Filmed
from posa_vla.pipeline.clicking.server import serve
from posa_vla.pipeline.clicking.task import Task


class Served:
    """The address that was said, and requests to it."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, {"Host": f"127.0.0.1:{self.port}", **named})
        answer = connection.getresponse()
        got = answer.status, answer.read(), dict(answer.getheaders())
        connection.close()
        return got

    def do(self, **action: object) -> tuple[int, bytes, dict[str, str]]:
        return self.ask("POST", f"/{self.token}/do", json.dumps(action), Content_Type="application/json")


@pytest.fixture
def served(filmed: Filmed, tmp_path: Path) -> Iterator[Served]:
    task = Task(filmed, "head", "tip", False, ClicksKept(tmp_path / "c.json", "dataset", []))
    said: list[str] = []
    with also_to(said.append):
        thread = Thread(target=serve, args=(filmed, [task], lambda _: None))
        thread.start()
        deadline = time.monotonic() + 30
        while not any("http://" in line for line in said):
            assert time.monotonic() < deadline, "no address was said"
            time.sleep(0.01)
    address = re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", " ".join(said))
    assert address is not None
    made = Served(int(address[1]), address[2])
    yield made
    with suppress(OSError):  # it may have ended
        made.do(step=0, do="leave")
    thread.join(30)
    assert not thread.is_alive()


def test_the_page_its_state_and_pictures_are_there_and_load_nothing_from_elsewhere(served: Served) -> None:
    status, page, headers = served.ask("GET", f"/{served.token}/")
    assert status == 200
    assert b"default-src 'none'" in page
    assert not re.search(rb"(?:src|href)=[\"']?(?:https?:)?//", page)
    assert headers["Cache-Control"] == "no-store"
    status, state, _ = served.ask("GET", f"/{served.token}/state")
    assert status == 200
    episode, frame = json.loads(state)["frames"][0]["frame"]
    status, picture, headers = served.ask("GET", f"/{served.token}/picture/0/{episode}/{frame}")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(picture)).size == (160, 120)
    assert served.ask("GET", f"/{served.token}/picture/0/99/0")[0] == 404
    assert served.ask("GET", f"/{served.token}/../pyproject.toml")[0] == 404


def test_without_the_token_or_under_another_name_nothing_is_shown(served: Served) -> None:
    right = f"/{served.token}/state"
    wrong = served.token[:-1] + ("y" if served.token.endswith("x") else "x")
    for path, headers in (
        ("/", {}),
        ("/state", {}),
        (f"/{wrong}/state", {}),
        (right, {"Host": "evil.example"}),
        (right, {"Host": f"evil.example:{served.port}"}),
        (right, {"Origin": "http://evil.example"}),
    ):
        status, body, _ = served.ask("GET", path, **headers)
        assert status == 403, (path, headers)
        assert b"frames" not in body
    assert served.ask("GET", right, Host=f"localhost:{served.port}")[0] == 200


def test_only_short_json_of_the_page_s_kind_is_taken(served: Served) -> None:
    path, action = f"/{served.token}/do", json.dumps({"step": 0, "do": "leave"})
    assert served.ask("POST", path, action, Content_Type="text/plain")[0] == 400
    assert served.ask("POST", path, action + " " * 5000, Content_Type="application/json")[0] == 400
    assert served.do(step=0, do="format the disk")[0] == 409
    status, body, _ = served.do(step=7, do="leave")
    assert status == 409
    assert b"load it anew" in body


def test_it_listens_on_loopback_alone_and_ends_with_the_last_task(served: Served, filmed: Filmed) -> None:
    # Who listens on every address answers on this one, too.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", served.port), timeout=10)
    with pytest.raises(BadInput, match="name another with --port"):
        serve(filmed, [], lambda _: None, port=served.port)
    status, body, _ = served.do(step=0, do="leave")
    assert status == 200
    assert json.loads(body)["phase"] == "done"
