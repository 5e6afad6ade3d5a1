"""`posa rollback`: put an earlier release back on a target's robots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.options import AsJson, ParamsFile, Preset, Set, read_params


def rollback(
    reason: Annotated[str, typer.Option("--reason", help="Why; the promotion log keeps it.")],
    to: Annotated[
        int | None,
        typer.Option("--to", min=1, help="Number of a release; by default the newest before that was not withdrawn."),
    ] = None,
    preset: Preset = None,
    settings: Set = None,
    params_file: ParamsFile = Path("params.yaml"),
    as_json: AsJson = False,
) -> None:
    """Publish an earlier release again, signed as a rollback; robots take it at their next update.

    A target that asks for approvals asks for them here too: `posa approve`, then the same command again. The same
    command also goes on where one was cut off, to the release that was decided first.
    """
    from flows.server.events import announce
    from posa_vla.console import print_json, print_table
    from posa_vla.pipeline.rollback import roll_back
    from posa_vla.workspace import Workspace

    result = roll_back(Workspace.open(), read_params(params_file, preset, settings), to, reason, announce)
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    print_table(
        "posa rollback",
        [
            ("released", result.pending or f"release {result.release} again"),
            ("bundle", result.bundle),
            ("model version", result.model_version),
        ],
    )
