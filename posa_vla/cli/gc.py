"""`posa gc`: remove what nobody needs any more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.options import AsJson, ParamsFile, Preset, Set, read_params


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    sole_owner: Annotated[
        bool, typer.Option("--sole-owner", help="I know that nobody else uses the DVC remote: clean it up too.")
    ] = False,
    preset: Preset = None,
    settings: Set = None,
    params_file: ParamsFile = Path("params.yaml"),
    as_json: AsJson = False,
) -> None:
    """Remove what is old and needed by nothing: trainings, evaluations, bundles, prepared data, objects of DVC.

    `retention` says how old. Whatever a registered model, a data version, a release, a record that waits for approval
    or a running flow needs stays, and so do episodes, evidence and logs. A DVC remote that another repository has
    used, or a copy of this one, stays as it is.
    """
    from posa_vla.console import print_json, print_table
    from posa_vla.pipeline.retention import clean_up
    from posa_vla.workspace import Workspace

    retention = read_params(params_file, preset, settings).retention
    items = clean_up(Workspace.open(), retention, dry_run=dry_run, sole_owner=sole_owner)
    if as_json:
        print_json({"dry_run": dry_run, "items": [item.model_dump(mode="json") for item in items]})
        return
    rows = [
        (f"{item.store}/{item.name[:12]}", f"{item.size / 1e6:.1f} MB, {item.age:.0f} days: {item.kept or 'goes'}")
        for item in items
    ]
    gone = [item for item in items if not item.kept]
    word = "would go" if dry_run else "went"
    rows.append((word, f"{len(gone)} of {len(items)}, {sum(item.size for item in gone) / 1e6:.1f} MB"))
    print_table("posa gc", rows)
