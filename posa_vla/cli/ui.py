"""`posa ui`: MLflow's and Prefect's web pages on the embedded stores."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from posa_vla.cli.options import AsJson

if TYPE_CHECKING:
    from posa_vla.workspace import Workspace

_HOST = "127.0.0.1"
_START_SECONDS = 180.0


def require_free_port(port: int, flag: str) -> None:
    """Checks a port before anything starts.

    Raises:
        BadInput: Something listens on it.
    """
    from posa_vla.errors import BadInput

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except (OSError, OverflowError) as error:
            raise BadInput(
                f"port {port} on {_HOST} cannot be used ({error}): choose another with {flag} PORT"
            ) from None


def _answers(url: str) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@contextlib.contextmanager
def _child(page: _Page, log: IO[bytes], workspace: Workspace) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group and a folder of its own, ended with everything that it started."""
    from posa_vla.processes import dies_with_parent
    from posa_vla.shell import environment

    child = subprocess.Popen(
        page.command,
        cwd=page.folder,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**environment(workspace.settings), **page.variables},
        start_new_session=True,
        preexec_fn=dies_with_parent(signal.SIGTERM),
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(timeout=15)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@dataclass(frozen=True)
class _Page:
    """One server to start: name, command, extra environment, address, the path that tells it is up, its folder."""

    name: str
    command: list[str]
    variables: dict[str, str]
    url: str
    health: str
    folder: Path | None = None


def _await_start(page: _Page, child: subprocess.Popen[bytes], log: Path) -> None:
    from posa_vla.errors import PosaError

    deadline = time.monotonic() + _START_SECONDS
    while not _answers(page.url + page.health):
        if child.poll() is not None or time.monotonic() > deadline:
            raise PosaError(f"the {page.name} server did not start: see the end of {log}")
        time.sleep(0.2)


def _embedded_pages(workspace: Workspace, mlflow_port: int, prefect_port: int) -> list[_Page]:
    """Pages of the stores below the workspace; a configured server has its own."""
    from posa_vla.artifact_places import database_file, follow_move

    pages = []
    settings = workspace.settings
    if not settings.mlflow_tracking_uri.startswith("http"):
        require_free_port(mlflow_port, "--mlflow-port")
        command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", _HOST, "--port", str(mlflow_port)]
        command += ["--workers", "1", "--backend-store-uri", workspace.mlflow_uri]
        command += ["--default-artifact-root", str(workspace.home / "mlflow" / "artifacts")]
        (workspace.home / "mlflow").mkdir(parents=True, exist_ok=True)
        if (database := database_file(workspace.mlflow_uri)) is not None:
            follow_move(database)  # the server opens it itself
        # A store that a setting names may be relative to the folder that this command was started in.
        folder = None if settings.mlflow_tracking_uri else workspace.home
        pages.append(_Page("mlflow", command, {}, f"http://{_HOST}:{mlflow_port}", "/health", folder))
    if not settings.prefect_api_url:
        require_free_port(prefect_port, "--prefect-port")
        url = f"http://{_HOST}:{prefect_port}"
        command = [sys.executable, "-P", "-m", "prefect", "server", "start"]
        command += ["--host", _HOST, "--port", str(prefect_port)]
        variables = {"PREFECT_UI_API_URL": f"{url}/api"}
        # Prefect reads `.env` and `prefect.toml` of the folder that it is started in.
        pages.append(_Page("prefect", command, variables, url, "/api/health", workspace.home))
    return pages


def _experiment_page(uri: str, server: str) -> str:
    """Where the newest retraining is seen; the server's own address where MLflow cannot be asked."""
    from posa_vla.console import say
    from posa_vla.errors import PosaError
    from posa_vla.tracking import newest_page

    try:
        return newest_page(uri, server)
    except PosaError as error:
        say(f"warning: {error}")
        return server


def ui(
    mlflow_port: Annotated[int, typer.Option("--mlflow-port", help="Port of MLflow.")] = 5000,
    prefect_port: Annotated[int, typer.Option("--prefect-port", help="Port of Prefect.")] = 4200,
    as_json: AsJson = False,
) -> None:
    """Start MLflow's and Prefect's pages on this machine alone, and print their addresses; Ctrl-C ends them."""
    from flows.server.prefect_server import announce_server, withdraw_server
    from posa_vla.console import print_json, say
    from posa_vla.workspace import Workspace

    workspace = Workspace.open()
    settings = workspace.settings
    urls = {
        "mlflow": settings.mlflow_page or settings.mlflow_tracking_uri,
        "prefect": settings.prefect_api_url.removesuffix("/api"),
    }
    pages = _embedded_pages(workspace, mlflow_port, prefect_port)
    urls |= {page.name: page.url for page in pages}
    logs = workspace.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        children = []
        for page in pages:
            log = stack.enter_context((logs / f"{page.name}-ui.log").open("wb"))
            children.append(stack.enter_context(_child(page, log, workspace)))
        if pages:
            say(f"starting {' and '.join(page.name for page in pages)} (half a minute)")
        for page, child in zip(pages, children, strict=True):
            _await_start(page, child, logs / f"{page.name}-ui.log")
        urls["mlflow"] = _experiment_page(settings.mlflow_tracking_uri or urls["mlflow"], urls["mlflow"])
        if not settings.prefect_api_url:
            announce_server(workspace.home, urls["prefect"])
            stack.callback(withdraw_server, workspace.home)
        if as_json:
            print_json(urls)
        say(f"MLflow   {urls['mlflow']}\nPrefect  {urls['prefect']}" + ("\nCtrl-C ends both" if pages else ""))
        with contextlib.suppress(KeyboardInterrupt):
            while children and all(child.poll() is None for child in children):
                time.sleep(0.5)
