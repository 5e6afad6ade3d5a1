"""`posa reproduce`: a registered model made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.options import AsJson, ParamsFile, WorkspaceFolder, enter_workspace, read_params


def reproduce(
    version: Annotated[
        str, typer.Argument(help="Model version, as MLflow numbers it; MODEL/VERSION for another model.")
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder for parameters and training.")],
    fetch_only: Annotated[bool, typer.Option("--fetch-only", help="Only fetch data and parameters.")] = False,
    params_file: ParamsFile = Path("params.yaml"),
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a registered model's data, parameters and code, train it again, and say how far apart the weights are."""
    from posa_vla.console import print_json, print_table
    from posa_vla.pipeline.reproduction import reproduce as make_again
    from posa_vla.workspace import Workspace

    params_file = enter_workspace(workspace_folder, params_file)
    model, _, number = version.rpartition("/")
    model = model or read_params(params_file, None, None).target
    done = make_again(Workspace.open(), model, number, out, fetch_only=fetch_only).document()
    if as_json:
        print_json(done)
    else:
        print_table("reproduced", [(name, str(value)) for name, value in done.items()])
