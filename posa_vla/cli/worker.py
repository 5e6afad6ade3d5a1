"""`posa worker`: carry out the flow runs that a Prefect server hands out."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer


def worker(
    pool: Annotated[str, typer.Option("--pool", help="Work pool of the Prefect server.")] = "platform",
    name: Annotated[str | None, typer.Option("--name", help="Name of this worker; by default the host's.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Flow runs at the same time.")] = 2,
    health_port: Annotated[
        int | None, typer.Option("--health-port", help="Answer GET /health on this port of 127.0.0.1.")
    ] = None,
) -> None:
    """Start a worker, in this folder: its flow runs take params.yaml from here. Ctrl-C ends it.

    It is Prefect's own process worker with the settings of this workspace; `prefect.yaml` says what it carries out.
    """
    from posa_vla.cli.ui import require_free_port
    from posa_vla.errors import BadInput
    from posa_vla.settings import Settings

    if not Settings().prefect_api_url:
        raise BadInput("a worker needs a Prefect server: set POSA_PREFECT_API_URL, for example to http://HOST:4200/api")
    os.environ["POSA_APP"] = os.environ.get("POSA_APP") or os.getcwd()
    command = [sys.executable, "-P", "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    command += ["--limit", str(limit), "--install-policy", "never"]
    if health_port is not None:
        require_free_port(health_port, "--health-port")
        os.environ["PREFECT_WORKER_WEBSERVER_HOST"] = os.environ.get("PREFECT_WORKER_WEBSERVER_HOST") or "127.0.0.1"
        os.environ["PREFECT_WORKER_WEBSERVER_PORT"] = str(health_port)
        command.append("--with-healthcheck")
    os.execv(sys.executable, [*command, *(["--name", name] if name else [])])
