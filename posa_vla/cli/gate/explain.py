"""`posa gate explain`: why a model version was promoted, or was not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.json_option import AsJson
from posa_vla.cli.options import Set, WorkspaceFolder, enter_workspace, read_params


def explain(
    model_version: Annotated[str, typer.Argument(help="Of the target's registered model.")],
    settings: Set = None,
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Print the verdict on a model version: each criterion with its numbers, the evidence, and what came of it."""
    from posa_vla.console import print_json, print_table
    from posa_vla.pipeline.explained_verdict import explain_verdict
    from posa_vla.workspace import Workspace

    params = read_params(enter_workspace(workspace_folder, Path("params.yaml")), None, settings)
    found = explain_verdict(Workspace.open(), params.target, model_version)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    print_table(f"posa gate explain: {found.target}, model version {found.model_version}", found.rows())
