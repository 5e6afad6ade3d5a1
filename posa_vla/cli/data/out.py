"""`posa data export`, `show`: episodes for other tools, and for people's eyes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posa_vla.cli.options import AsJson, WorkspaceFolder, enter_workspace, read_params

if TYPE_CHECKING:
    from posa_vla.dataset.validation.report import ValidationReport
    from posa_vla.episodes.embodiment import Embodiment
    from posa_vla.episodes.store.episode_store import EpisodeStore


@dataclass(frozen=True)
class _Judged:
    """The workspace's store, what is declared of its robots, what validation says of it, and how wide labels are."""

    store: EpisodeStore
    declared: dict[str, Embodiment]
    report: ValidationReport
    widths: tuple[float, float]


def _judge(workspace_folder: Path | None) -> _Judged:
    from posa_vla.dataset.validation.validate import validate
    from posa_vla.episodes.store.declared import declared_embodiments
    from posa_vla.episodes.store.episode_store import EpisodeStore
    from posa_vla.workspace import Workspace

    place = enter_workspace(workspace_folder, Path("params.yaml"))
    params, workspace = read_params(place, None, None), Workspace.open()
    store = EpisodeStore(workspace.store)
    declared = declared_embodiments(store, params, place.parent)
    share = params.prepare.validation_fraction
    report = validate(
        store.root, params.validation, declared=declared, validation_fraction=share, cache=workspace.validated
    )
    return _Judged(store, declared, report, (params.prepare.sigma_task, params.prepare.sigma_end))


def export(
    out: Annotated[Path, typer.Argument(help="New folder of the dataset.")],
    batch: Annotated[list[str] | None, typer.Option("--batch", help="First digits of a batch; repeatable.")] = None,
    embodiment: Annotated[
        str, typer.Option("--embodiment", help="Id of an embodiment, if the store holds several.")
    ] = "",
    failures: Annotated[bool, typer.Option("--failures", help="Also take episodes whose task was not done.")] = False,
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write the sound episodes as one LeRobot dataset v3.0; what is quarantined is left out."""
    from posa_vla.console import print_json, print_table
    from posa_vla.dataset.exchange.export import export as export_store
    from posa_vla.dataset.versions.history import first_versions, list_versions
    from posa_vla.workspace import Workspace

    judged = _judge(workspace_folder)
    done = export_store(
        judged.store,
        judged.report,
        out,
        batches=batch,
        embodiment=embodiment,
        failures=failures,
        declared=judged.declared,
        since=first_versions(list_versions(Workspace.open())),
    )
    if as_json:
        print_json(done)
    else:
        print_table("exported", [(name, str(value)) for name, value in done.items()])


def show(
    episode: Annotated[
        str, typer.Argument(help="First digits of an episode's digest, or BATCH/NUMBER; all at a glance without it.")
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", help="The page (HTML); episode.html or episodes.html.")] = None,
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make a page of an episode: frames, anchors, state, action, gripper events, findings; or a sheet of all."""
    from posa_vla.console import print_json, say
    from posa_vla.dataset.validation.contact_sheet import contact_sheet
    from posa_vla.dataset.validation.episode_page import page_of
    from posa_vla.episodes.store.declared import judged_by
    from posa_vla.files import write_text

    judged = _judge(workspace_folder)
    if not episode:
        out, findings = out or Path("episodes.html"), judged.report.findings
        replaced = judged.store.replaced()
        chosen = [
            (reader, record)
            for _, reader in judged.store.readers()
            for record in reader.records
            if record.extra.digest not in replaced
        ]
        write_text(out, contact_sheet(chosen, judged.declared, findings, judged.widths))
        named: dict[str, object] = {"episodes": len(chosen)}
    else:
        out = out or Path("episode.html")
        reader, record = judged.store.find(episode)
        place = (reader.folder.name, record.number)
        findings = [f for f in judged.report.findings if (f.batch, f.episode) == place]
        title = f"Episode {record.extra.digest[:12]} ({place[0][:12]}/{record.number})"
        embodiment = judged_by(reader.embodiment, judged.declared)
        write_text(out, page_of(reader.episode(record), embodiment, title, findings, judged.widths))
        named = {"episode": record.extra.digest}
    if as_json:
        print_json({**named, "page": str(out.resolve()), "findings": [f.model_dump(mode="json") for f in findings]})
    else:
        say(f"{out} written: open it in a browser")
