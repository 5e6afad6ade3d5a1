"""`posa data versions`, `diff`, `checkout`, `verify`: the history of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posa_vla.cli.options import AsJson, WorkspaceFolder, enter_workspace

VersionName = Annotated[str, typer.Argument(help="data-v<number>, the first digits of a version's digest, or latest.")]


def versions(workspace_folder: WorkspaceFolder = None, as_json: AsJson = False) -> None:
    """List the data versions, oldest first."""
    from posa_vla.console import print_json, print_table
    from posa_vla.dataset.versions.history import list_versions
    from posa_vla.workspace import Workspace

    enter_workspace(workspace_folder, Path("params.yaml"))
    rows = [version.summary() for version in list_versions(Workspace.open())]
    if as_json:
        print_json({"versions": rows})
        return
    text = (
        "{version:.12} of {when:.10}: {embodiment}, {stored} episodes, {prepared} prepared, {quarantined} quarantined"
    )
    print_table("data versions", [(row["name"], text.format(**row)) for row in rows] or [("none", "")])


def diff(
    first: VersionName, second: VersionName, workspace_folder: WorkspaceFolder = None, as_json: AsJson = False
) -> None:
    """Show which episodes came and went between two versions, and how the statistics moved."""
    from posa_vla.console import print_json, print_table
    from posa_vla.dataset.versions.diff import diff_versions
    from posa_vla.workspace import Workspace

    enter_workspace(workspace_folder, Path("params.yaml"))
    found = diff_versions(Workspace.open(), first, second)
    if as_json:
        print_json(found.document())
        return
    rows = [(name, str(len(getattr(found, name)))) for name in ("came", "went", "quarantined", "released")]
    for vector, moved in found.moved.items():
        shift = max(moved.mean_shift, key=abs)
        rows.append((f"{vector}: largest shift of a mean", f"{shift:+.3f} standard deviations"))
    rows += [(name, f"{old} -> {new}") for name, (old, new) in found.params.items()]
    print_table(f"{found.before} to {found.after}", rows)


def checkout(name: VersionName, workspace_folder: WorkspaceFolder = None, as_json: AsJson = False) -> None:
    """Bring back a version: episode store and prepared data exactly as they were."""
    from posa_vla.console import print_json, print_table
    from posa_vla.dataset.versions.checkout import checkout as check_out
    from posa_vla.workspace import Workspace

    enter_workspace(workspace_folder, Path("params.yaml"))
    workspace = Workspace.open()
    with workspace.lock("posa data checkout"), workspace.lock("posa data checkout", "data.lock", wait=60):
        done = check_out(workspace, name)
    if as_json:
        print_json(done)
    else:
        print_table("checked out", [(key, _short(value)) for key, value in done.items()])


def _short(value: Any) -> str:
    return str(len(value)) if isinstance(value, list) else str(value)


def verify(
    name: Annotated[str, typer.Argument(help="A version; by default the one that the store is at.")] = "",
    repair: Annotated[
        bool, typer.Option("--repair", help="Replace damaged objects of the remote by the cache's, and vice versa.")
    ] = False,
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Read every byte of a version, here and on the remote, and compare it with the history; exit 1 if one differs."""
    from posa_vla.console import print_json, print_table
    from posa_vla.dataset.versions.verify import require_sound
    from posa_vla.dataset.versions.verify import verify as verify_data
    from posa_vla.workspace import Workspace

    enter_workspace(workspace_folder, Path("params.yaml"))
    workspace = Workspace.open()
    with workspace.lock("posa data verify", "data.lock", wait=60):
        report = verify_data(workspace, name, repair=repair)
    if as_json:
        print_json(report)
    else:
        rows = [(key, _short(report[key])) for key in ("name", "version", "files", "objects", "repaired")]
        print_table("verified", rows + [(p["file"], f"{p['problem']}: {p['remedy']}") for p in report["problems"]])
    require_sound(report)
