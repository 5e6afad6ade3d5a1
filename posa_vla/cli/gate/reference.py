"""`posa gate reference`: which policy a target's refreshes are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.json_option import AsJson
from posa_vla.cli.options import Set, WorkspaceFolder, enter_workspace, read_params


def reference(
    model_version: Annotated[str, typer.Argument(help="Of the target's registered model; it was released before.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the promotion log.")],
    key: Annotated[
        Path | None, typer.Option("--key", help="An approver's private key, where the target asks for approvals.")
    ] = None,
    settings: Set = None,
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Name the policy that a refresh must not be worse than (`kind: non-inferior`), where the one before is gone.

    The gate keeps it by itself: it is the last champion that was shown to be superior to the one before. After a
    rollback from it there is none, and refreshes end as "no decision" until a person names one.
    """
    from posa_vla.console import print_json, print_table
    from posa_vla.pipeline.reference_naming import name_reference
    from posa_vla.workspace import Workspace

    params = read_params(enter_workspace(workspace_folder, Path("params.yaml")), None, settings)
    named = name_reference(Workspace.open(), params, model_version, reason, key)
    if as_json:
        print_json(named.model_dump(mode="json"))
        return
    print_table(
        f"posa gate reference: {named.target}",
        [
            ("model version", named.model_version),
            ("bundle", named.bundle),
            ("named by", named.signer or "nobody has to sign at this target"),
            ("entry", f"{named.entry} of the promotion log"),
        ],
    )
