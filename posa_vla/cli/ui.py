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
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from posa_vla.cli.options import AsJson

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
def _child(command: list[str], log: IO[bytes], variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, ended with everything that it started."""
    child = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **variables}, start_new_session=True
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


def _await_start(name: str, url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    from posa_vla.errors import PosaError

    deadline = time.monotonic() + _START_SECONDS
    while not _answers(url):
        if child.poll() is not None or time.monotonic() > deadline:
            raise PosaError(f"the {name} server did not start: see the end of {log}")
        time.sleep(0.2)


def ui(
    mlflow_port: Annotated[int, typer.Option("--mlflow-port", help="Port of MLflow.")] = 5000,
    prefect_port: Annotated[int, typer.Option("--prefect-port", help="Port of Prefect.")] = 4200,
    as_json: AsJson = False,
) -> None:
    """Start both web pages on this machine alone, print their addresses, end them on Ctrl-C."""
    from flows.prefect_server import announce_server, withdraw_server
    from posa_vla.console import print_json, say
    from posa_vla.workspace import Workspace

    require_free_port(mlflow_port, "--mlflow-port")
    require_free_port(prefect_port, "--prefect-port")
    workspace = Workspace.open()
    urls = {"mlflow": f"http://{_HOST}:{mlflow_port}", "prefect": f"http://{_HOST}:{prefect_port}"}
    logs = workspace.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    (workspace.home / "mlflow").mkdir(parents=True, exist_ok=True)
    place = ["--host", _HOST]
    mlflow = [sys.executable, "-m", "mlflow", "server", *place, "--port", str(mlflow_port), "--workers", "1"]
    mlflow += ["--backend-store-uri", workspace.mlflow_uri]
    mlflow += ["--default-artifact-root", str(workspace.home / "mlflow" / "artifacts")]
    prefect = [sys.executable, "-m", "prefect", "server", "start", *place, "--port", str(prefect_port)]
    prefect_variables = {"PREFECT_UI_API_URL": f"{urls['prefect']}/api"}
    say("starting MLflow and Prefect (half a minute)")
    # A termination from outside ends the children just as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with contextlib.ExitStack() as stack:
        children: list[subprocess.Popen[bytes]] = []
        commands: list[tuple[str, list[str], dict[str, str], str]] = [
            ("mlflow", mlflow, {}, "/health"),
            ("prefect", prefect, prefect_variables, "/api/health"),
        ]
        for name, command, variables, _ in commands:
            log = stack.enter_context((logs / f"{name}-ui.log").open("wb"))
            children.append(stack.enter_context(_child(command, log, variables)))
        for (name, _, _, health), child in zip(commands, children, strict=True):
            _await_start(name, urls[name] + health, child, logs / f"{name}-ui.log")
        announce_server(workspace.home, urls["prefect"])
        stack.callback(withdraw_server, workspace.home)
        document: dict[str, Any] = dict(urls)
        if as_json:
            print_json(document)
        say(f"MLflow   {urls['mlflow']}\nPrefect  {urls['prefect']}\nCtrl-C ends both")
        while all(child.poll() is None for child in children):
            time.sleep(0.5)
