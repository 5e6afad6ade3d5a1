"""`posa retrain`: the whole loop, from demonstrations to a policy that a robot runs."""

from __future__ import annotations

from pathlib import Path

from posa_vla.cli.options import AsJson, ParamsFile, Preset, Set, require_params


def retrain(
    preset: Preset = None,
    settings: Set = None,
    params_file: ParamsFile = Path("params.yaml"),
    as_json: AsJson = False,
) -> None:
    """Collect, version, train, evaluate, decide, register, release, run on the robot.

    What is done already is reused; after a crash the same command continues. "reject" and "no decision" are successful
    endings too: the model is registered, nothing is released, the robot runs what it ran.
    """
    from flows.form import Changes
    from flows.start import run_retraining
    from posa_vla.console import print_json, print_table
    from posa_vla.pipeline.summary import table_rows
    from posa_vla.workspace import Workspace

    require_params(params_file)
    summary = run_retraining(Workspace.open(), preset, Changes(settings=settings or []), params_file)
    if as_json:
        print_json(summary.model_dump(mode="json"))
    else:
        print_table("posa retrain", table_rows(summary))
