"""`posa init`: a workspace of one's own, without a clone of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posa_vla.cli.options import AsJson, enter_workspace

if TYPE_CHECKING:
    from posa_vla.pipeline.starting import Started


def init(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="LeRobot dataset to learn from: a folder, or s3://BUCKET/PREFIX."),
    ] = None,
    arm: Annotated[str, typer.Option("--arm", help="Shipped arm that its robot is, as for `posa data ingest`.")] = "",
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help="FEATURE=PART, as for `posa data ingest`; repeatable.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Calibration file, as for `posa data ingest`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write params.yaml into a new folder, where every other command then works.

    With --dataset, the recordings are taken in, and the target, the robot's declaration and parameters fit them.
    """
    from posa_vla.console import print_json, say
    from posa_vla.errors import BadInput
    from posa_vla.workspace_template import write_template

    target = folder / "params.yaml"
    if target.exists():
        raise BadInput(f"{target} exists already: choose another folder")
    if dataset is not None:
        from flows.server.events import announce
        from posa_vla.episodes.foreign.mapping import parse_map
        from posa_vla.pipeline.ingestion import Dataset
        from posa_vla.pipeline.starting import start_with
        from posa_vla.workspace import Workspace

        enter_workspace(folder, Path("params.yaml"), may_be_new=True)
        source = Dataset(dataset, folder, parse_map(mapping or []), arm=arm, calibration=calibration)
        _say(start_with(Workspace.open(), folder, source, announce), as_json)
        return
    if arm or mapping or calibration is not None:
        raise BadInput("--arm, --map and --calibration say something of a dataset: name it with --dataset PATH")
    write_template(folder)
    if as_json:
        print_json({"folder": str(folder.resolve()), "params": str(target.resolve())})
    else:
        say(f"{target} written. Next: cd {folder} && posa retrain --preset demo")


def _say(started: Started, as_json: bool) -> None:
    from posa_vla.console import print_json, print_table, say

    if as_json:
        print_json(started.model_dump(mode="json"))
        return
    chosen = [(choice.key, f"{choice.value}: {choice.reason}") for choice in started.choices]
    taken = f"{started.ingestion.accepted} taken in, {started.ingestion.quarantined} quarantined"
    print_table(
        "posa init",
        [
            ("target", started.target),
            ("robot", started.declaration),
            ("episodes", taken),
            ("preset", f"{started.preset}: {started.why}"),
            *chosen,
            ("training", started.training or "nothing to learn from yet"),
        ],
    )
    for missing in started.missing:
        say(missing.in_words())
    say(f"{started.params} written. Next: {started.next}")
