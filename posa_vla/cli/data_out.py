"""`posa data export`, `show`: episodes for other tools, and for people's eyes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posa_vla.cli.options import AsJson, WorkspaceFolder, enter_workspace, read_params


def _report(workspace_folder: Path | None) -> dict[str, Any]:
    """What validation says of the workspace's store, by the workspace's parameters."""
    from posa_vla.dataset.validate import validate
    from posa_vla.workspace import Workspace

    params = read_params(enter_workspace(workspace_folder, Path("params.yaml")), None, None)
    workspace = Workspace.open()
    share = params.prepare.validation_fraction
    return validate(workspace.store, params.validation, validation_fraction=share, cache=workspace.validated)


def export(
    out: Annotated[Path, typer.Argument(help="New folder of the dataset.")],
    batch: Annotated[list[str] | None, typer.Option("--batch", help="First digits of a batch; repeatable.")] = None,
    embodiment: Annotated[str, typer.Option("--embodiment", help="Whose episodes, where there are several.")] = "",
    failures: Annotated[bool, typer.Option("--failures", help="Take episodes whose task was not done, too.")] = False,
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write the sound episodes as one LeRobot dataset v3.0; what is quarantined is left out."""
    from posa_vla.console import print_json, print_table
    from posa_vla.dataset.export import export as export_store
    from posa_vla.episodes.store import EpisodeStore
    from posa_vla.workspace import Workspace

    report = _report(workspace_folder)
    store = EpisodeStore(Workspace.open().store)
    done = export_store(store, report, out, batches=batch, embodiment=embodiment, failures=failures)
    if as_json:
        print_json(done)
    else:
        print_table("exported", [(name, str(value)) for name, value in done.items()])


def show(
    episode: Annotated[str, typer.Argument(help="First digits of an episode's digest, or BATCH/NUMBER.")],
    out: Annotated[Path, typer.Option("--out", help="The page (HTML).")] = Path("episode.html"),
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make a page of an episode: frames, anchors, state, action, gripper events, findings."""
    from posa_vla.console import print_json, say
    from posa_vla.dataset.show import page_of
    from posa_vla.episodes.store import EpisodeStore
    from posa_vla.files import write_text
    from posa_vla.workspace import Workspace

    report = _report(workspace_folder)
    reader, record = EpisodeStore(Workspace.open().store).find(episode)
    place = (reader.folder.name, record.number)
    findings = [f for f in report["findings"] if (f["batch"], f["episode"]) == place]
    title = f"Episode {record.extra.digest[:12]} ({place[0][:12]}/{record.number})"
    write_text(out, page_of(reader.episode(record), reader.embodiment, title, findings))
    if as_json:
        print_json({"episode": record.extra.digest, "page": str(out.resolve()), "findings": findings})
    else:
        say(f"{out} written: open it in a browser")
