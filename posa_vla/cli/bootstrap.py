"""`posa bootstrap`: make what the servers of a stack need before the first run; again changes nothing."""

from __future__ import annotations

import typer

from posa_vla.cli.options import AsJson

app = typer.Typer(help="Create what servers need; a second call changes nothing.", no_args_is_help=True)


@app.command()
def stores(as_json: AsJson = False) -> None:
    """Databases, buckets, the publisher's keys, and what robots trust.

    Reads POSTGRES_URL, PREFECT_DB_PASSWORD, MLFLOW_DB_PASSWORD, POSA_BUCKETS, POSA_TRUST; what is not set is left out.
    """
    from flows.server.bootstrap import ensure_stores
    from posa_vla.workspace import Workspace

    _show(ensure_stores(Workspace.open()), as_json)


@app.command()
def prefect(as_json: AsJson = False) -> None:
    """Work pools, the block for results, deployments and automations on the Prefect server."""
    from flows.server.bootstrap import ensure_prefect
    from posa_vla.workspace import Workspace

    _show(ensure_prefect(Workspace.open()), as_json)


def _show(made: dict[str, list[str]], as_json: bool) -> None:
    from posa_vla.console import print_json, print_table

    if as_json:
        print_json(made)
    else:
        print_table("posa bootstrap", [(name, ", ".join(values) or "none") for name, values in made.items()])
