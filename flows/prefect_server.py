"""Which Prefect server a flow talks to: the configured one, the one that `posa ui` keeps running, or its own."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

from posa_vla.files import write_json


def server_file(home: Path) -> Path:
    """Where a running local server leaves its address."""
    return home / "prefect" / "local-server.json"


def announce_server(home: Path, url: str) -> None:
    """Leaves the address of a server on the embedded store for later flows."""
    write_json(server_file(home), {"schema_version": 1, "url": url, "pid": os.getpid()})


def withdraw_server(home: Path) -> None:
    """Takes the address back."""
    server_file(home).unlink(missing_ok=True)


def healthy(url: str, timeout: float = 2.0) -> bool:
    """Whether a Prefect server answers at `url`."""
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=timeout) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def choose_server(home: Path) -> None:
    """Points Prefect at the local server that is up, if one is; call it before Prefect is imported.

    Two servers on one SQLite store would lock each other out, so a flow starts its own only where none runs.
    """
    if os.environ.get("PREFECT_API_URL"):
        return
    try:
        record = json.loads(server_file(home).read_bytes())
        url = str(record["url"])
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return
    if healthy(url):
        os.environ["PREFECT_API_URL"] = f"{url}/api"
