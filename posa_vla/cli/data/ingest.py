"""`posa data ingest`, `quarantine`, `release`, `remove`: what comes in, and what is kept out of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from posa_vla.cli.options import AsJson, ParamsFile, Preset, Set, WorkspaceFolder, enter_workspace, read_params


def ingest(
    dataset: Annotated[
        str, typer.Argument(help="LeRobot dataset v2.0, v2.1 or v3.0: a folder, or s3://BUCKET/PREFIX.")
    ],
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="FEATURE=state|action|end_effector|gripper|<camera role>, or state=FEATURE,FEATURE; repeatable.",
        ),
    ] = None,
    embodiment: Annotated[
        str, typer.Option("--embodiment", help="Name or file; by default a file is written from the dataset.")
    ] = "",
    arm: Annotated[
        str, typer.Option("--arm", help="Shipped arm that the robot is, as so101: its joints say where the gripper is.")
    ] = "",
    calibration: Annotated[Path | None, typer.Option("--calibration", help="Calibration file (docs/data.md).")] = None,
    origin: Annotated[
        Literal["teleop", "deployment", "sim"], typer.Option("--origin", help="Where its episodes come from.")
    ] = "teleop",
    workspace_folder: WorkspaceFolder = None,
    params_file: ParamsFile = Path("params.yaml"),
    preset: Preset = None,
    settings: Set = None,
    as_json: AsJson = False,
) -> None:
    """Take a dataset in: sound episodes, the same one once; judge them; make a data version."""
    from flows.server.events import announce
    from posa_vla.console import print_json, print_table
    from posa_vla.episodes.foreign.mapping import parse_map
    from posa_vla.pipeline.ingestion import Dataset, ingest_dataset
    from posa_vla.workspace import Workspace
    from posa_vla.workspace_template import write_template

    place = enter_workspace(workspace_folder, params_file, may_be_new=True)
    if workspace_folder is not None and not place.exists() and not params_file.is_absolute():
        write_template(workspace_folder)
    params = read_params(place, preset, settings)
    source = Dataset(dataset, place.parent, parse_map(mapping or []), embodiment, calibration, origin, arm)
    result = ingest_dataset(Workspace.open(), params, source, announce)
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    rows = [
        (name, str(getattr(result, name)))
        for name in ("accepted", "quarantined", "new", "superseded", "data_version", "name", "folder")
    ]
    if result.labelled is not None:
        rows.append(("frames with a task label", f"{result.labelled:.0%}"))
    found = [(f"{f.severity}: {f.rule}", f.value) for f in result.findings if f.severity != "info"]
    print_table("ingested", [*rows, *found[:20]])


def quarantine(workspace_folder: WorkspaceFolder = None, as_json: AsJson = False) -> None:
    """List the episodes that are kept out of training, and why."""
    from posa_vla.console import print_json, print_table
    from posa_vla.dataset.validation.decisions import quarantined_episodes
    from posa_vla.workspace import Workspace

    place = enter_workspace(workspace_folder, Path("params.yaml"))
    rows = quarantined_episodes(Workspace.open(), read_params(place, None, None), place.parent)
    if as_json:
        print_json({"quarantined": [row.model_dump(mode="json") for row in rows]})
    else:
        text = [(row.episode[:16], "; ".join(f.value for f in row.findings)) for row in rows]
        print_table("quarantined", text or [("none", "")])


def release(
    episode: Annotated[str, typer.Argument(help="First digits of the episode's digest (posa data quarantine).")],
    reason: Annotated[str, typer.Option("--reason", help="Why training may use it; the reason stays on record.")],
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Let a quarantined episode into training, with a reason that stays on record."""
    from posa_vla.console import print_json, say
    from posa_vla.dataset.validation.decisions import release_episode
    from posa_vla.workspace import Workspace

    place = enter_workspace(workspace_folder, Path("params.yaml"))
    released = release_episode(Workspace.open(), read_params(place, None, None), place.parent, episode, reason)
    if as_json:
        print_json(released.model_dump(mode="json"))
    else:
        say(f"episode {released.episode[:12]} is released from {', '.join(released.rules)}: `posa data version` next")


def remove(
    name: Annotated[
        str, typer.Argument(help="First digits of a batch (posa data list), or of an unreadable episode's key.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why it is taken out; the reason stays on record.")],
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Take a batch out of the store, or an unreadable episode off the list; it is kept, and versions keep theirs."""
    from posa_vla.console import print_json, say
    from posa_vla.dataset.validation.decisions import remove_from_store
    from posa_vla.workspace import Workspace

    enter_workspace(workspace_folder, Path("params.yaml"))
    done = remove_from_store(Workspace.open(), name, reason)
    if as_json:
        print_json(done)
    else:
        say(f"{done['removed'][:12]} counts no more, and lies in {done['folder']}: `posa data version` next")
