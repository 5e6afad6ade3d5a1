"""Which Prefect server a flow talks to: the configured one, the one that `posa ui` keeps running, or its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from posa_vla.errors import BadInput, PosaError
from posa_vla.files import read_json, write_json
from posa_vla.processes import dies_with_parent, free_port
from posa_vla.settings import Settings
from posa_vla.shell import environment

_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Server:
    """A server that flows talk to.

    Attributes:
        ready: Waits until it answers.
        embedded: Whether it keeps this workspace's flow runs and no others.
    """

    ready: Callable[[], None]
    embedded: bool


def _server_file(home: Path) -> Path:
    return home / "prefect" / "local-server.json"


def announce_server(home: Path, url: str) -> None:
    """Leaves the address of a server on the embedded store for later flows."""
    write_json(_server_file(home), {"schema_version": 1, "url": url, "pid": os.getpid()})


def withdraw_server(home: Path) -> None:
    """Takes the address back."""
    _server_file(home).unlink(missing_ok=True)


def healthy(url: str) -> bool:
    """Whether a Prefect server answers at `url`."""
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def running_server(home: Path) -> str | None:
    """Address of the local server that is up, or None."""
    if not _server_file(home).exists():
        return None
    url = str(read_json(_server_file(home)).get("url", ""))
    return url if url and healthy(url) else None


def _send_logs() -> None:
    """Prefect's last lines of log, which it would send at the interpreter's end and retry there for a minute."""
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()


def refuse_settings_of_folder() -> None:
    """Stops where a file of the working folder sets something for Prefect, as that of another project does.

    Raises:
        BadInput: `.env`, `prefect.toml` or `pyproject.toml` there does.
    """
    from prefect.settings import get_current_settings

    known = {name.upper() for name in os.environ} | {"PREFECT_SERVER_EPHEMERAL_ENABLED"}  # Prefect's own profile's
    theirs = [name for name in get_current_settings().to_environment_variables(exclude_unset=True) if name not in known]
    files = [name for name in (".env", "prefect.toml", "pyproject.toml") if Path(name).is_file()]
    if theirs and files:  # what a profile below PREFECT_HOME sets was put there for this workspace
        raise BadInput(
            f"{' or '.join(files)} in {Path.cwd()} sets {', '.join(theirs)} for Prefect, which would decide how this "
            "run is carried out: take it out there, or start the command in a folder of its own (`posa init DIR`)"
        )


@contextlib.contextmanager
def prefect_server(home: Path, settings: Settings, variables: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Points Prefect at a server; enter it before Prefect is imported.

    Prefect's own ephemeral server survives a killed flow and then holds the SQLite store against the next one, and it
    starts only when the flow is called. This one dies with its flow and starts while the flow is being imported.

    Args:
        home: The workspace's folder.
        settings: Of the workspace; may name a server.
        variables: Of a server that is started here, besides those that all our processes get.

    Raises:
        PosaError: The server did not start; the message names its log.
    """
    if settings.prefect_api_url:
        yield Server(lambda: None, embedded=False)
        return
    url = running_server(home)
    if url is not None:
        os.environ["PREFECT_API_URL"] = f"{url}/api"
        try:
            yield Server(lambda: None, embedded=True)
        finally:
            del os.environ["PREFECT_API_URL"]
        return
    log_path = home / "logs" / "prefect-server.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    # Its own folder to work in: Prefect reads `.env` and `prefect.toml` of the one that it is started in.
    folder = home / "prefect"
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-P", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**environment(settings), "PREFECT_UI_ENABLED": "0", **(variables or {})},
            start_new_session=True,  # Ctrl-C is for the flow, which then ends the server
            preexec_fn=dies_with_parent(signal.SIGKILL),
        )
    os.environ["PREFECT_API_URL"] = f"{url}/api"

    def ready() -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not healthy(url):
            if child.poll() is not None or time.monotonic() > deadline:
                raise PosaError(f"Prefect's server did not start: see {log_path}")
            time.sleep(0.1)

    try:
        yield Server(ready, embedded=True)
    finally:
        _send_logs()
        del os.environ["PREFECT_API_URL"]
        child.terminate()
        try:
            child.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
