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
    tune: Annotated[bool, typer.Option("--tune", help="Only try the plan's learning rates.")] = False,
    plan: Annotated[Path | None, typer.Option("--plan", help="Plan file; by default the shipped one.")] = None,
    settings: Set = None,
    params_file: ParamsFile = Path("params.yaml"),
    as_json: AsJson = False,
) -> None:
    """Train with and without anchors, run both on the same unseen scenes, and say how sure the difference is.

    Variants, seeds, scenes and budget are the plan's (posa_vla/evaluation/ablation/plan.yaml). The same command
    continues what was stopped, and nothing that is done is repeated. The result is a table, a plot and an MLflow run.
    """
    from posa_vla.console import print_json, print_table, say
    from posa_vla.errors import BadInput
    from posa_vla.evaluation.ablation.plan import load_plan
    from posa_vla.pipeline.ablation import run_ablation, run_tuning
    from posa_vla.workspace import Workspace

    if full and tune:
        raise BadInput("--tune only tries learning rates, --full runs everything: give one of them")
    params = read_params(params_file, preset, settings)
    if tune:
        tried = run_tuning(Workspace.open(), params, load_plan(plan))
        if as_json:
            print_json({"tuning": [row.model_dump(mode="json") for row in tried]})
        else:
            rows = [(f"{row.variant}, learning rate {row.learning_rate:g}", f"{row.success:.0%}") for row in tried]
            print_table("posa ablate --tune", rows)
        return
    result = run_ablation(Workspace.open(), params, load_plan(plan), full=full)
    if as_json:
        print_json(result.model_dump(mode="json", exclude={"figures"}))
        return
    say(Path(result.table).read_text(encoding="utf-8"))
    rows = [("table", result.table), ("plot", result.plot), ("results", result.results)]
    print_table("posa ablate", [*rows, ("seconds", str(result.seconds))])
