"""`posa explain`: where a policy looks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.options import AsJson, WorkspaceFolder, enter_workspace, read_params


def explain(
    episode: Annotated[str, typer.Argument(help="First digits of an episode's digest, or BATCH/NUMBER.")],
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Folder that `posa train` printed, or a bundle.")
    ] = None,
    model_version: Annotated[
        str | None, typer.Option("--model-version", help="Number of a version of the target's registered model.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the video and the sheet.")] = Path("explained"),
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show all anchor channels and the action head's attention over every frame of a recorded episode.

    A policy without anchors has no such channels, which is said.
    """
    from posa_vla.console import print_json, print_table
    from posa_vla.errors import BadInput
    from posa_vla.pipeline.explanation import explain_episode_of
    from posa_vla.workspace import Workspace

    params = read_params(enter_workspace(workspace_folder, Path("params.yaml")), None, None)
    if (policy is None) == (model_version is None):
        raise BadInput("whose attention? Give --policy FOLDER or --model-version N, one of them")
    result = explain_episode_of(Workspace.open(), params, episode, out, policy=policy, model_version=model_version)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_table("posa explain", [(name, str(value)) for name, value in result])
