"""`posa ablate`: whether anchors work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.options import AsJson, ParamsFile, Set, read_params


def ablate(
    preset: Annotated[str, typer.Option("--preset", help="Preset that every variant starts from.")] = "small",
    full: Annotated[
        bool, typer.Option("--full", help="Run all variants, conditions and numbers of demonstrations; takes hours.")
    ] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Only try the plan's learning rates and executions, and say what did best.")
    ] = False,
    plan: Annotated[Path | None, typer.Option("--plan", help="Plan file; by default the shipped one.")] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results", help="Folder to write rows, table and plot into; rows that are there are gone on from."
        ),
    ] = None,
    settings: Set = None,
    params_file: ParamsFile = Path("params.yaml"),
    as_json: AsJson = False,
) -> None:
    """Train with and without anchors, run both on the same unseen scenes, and say how sure the difference is.

    Variants, seeds, scenes and budget are the plan's (posa_vla/evaluation/ablation/plan.yaml). The same command
    continues what was stopped, and nothing that is done is repeated. The result is a table, a plot and an MLflow run.

    With --results the rows of every training lie in that folder, one file each. Another machine that has the folder
    goes on from them; rows of another plan, other parameters or other code are refused.
    """
    from posa_vla.console import print_json, print_table, say
    from posa_vla.errors import BadInput
    from posa_vla.evaluation.ablation.plan import load_plan
    from posa_vla.pipeline.ablation import run_ablation
    from posa_vla.pipeline.ablation_tuning import run_tuning
    from posa_vla.workspace import Workspace
    from posa_vla.yaml_file import yaml_text

    if full and tune:
        raise BadInput("--tune only tries learning rates and executions, --full runs everything: give one of them")
    if results is not None and tune:
        raise BadInput("--tune gives no rows, and --results is the folder of rows: leave --results out")
    params = read_params(params_file, preset, settings)
    if tune:
        tuned = run_tuning(Workspace.open(), params, load_plan(plan))
        chosen = tuned.model_dump(mode="json", exclude={"tried"})
        if as_json:
            print_json({"tried": [row.model_dump(mode="json") for row in tuned.tried], **chosen})
            return
        tried = [(row.name, f"{row.success:.0%}, {row.steps:.1f} steps") for row in tuned.tried]
        print_table("posa ablate --tune", tried)
        say(f"What did best, for `tuning` of the plan:\n{yaml_text(chosen)}")
        return
    folder = None if results is None else results.resolve()
    result = run_ablation(Workspace.open(), params, load_plan(plan), full=full, folder=folder)
    if as_json:
        print_json(result.model_dump(mode="json", exclude={"figures"}))
        return
    say(Path(result.table).read_text(encoding="utf-8"))
    rows = [("table", result.table), ("plot", result.plot), ("results", result.results)]
    print_table("posa ablate", [*rows, ("seconds", str(result.seconds))])
