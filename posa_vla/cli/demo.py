"""`posa demo`: show what the gate is for."""

from __future__ import annotations

from pathlib import Path

import typer

from posa_vla.cli.options import AsJson, ParamsFile, Set, read_params

app = typer.Typer(help="Show a safeguard of the loop at work.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Show a safeguard of the loop at work."""


@app.command()
def reject(
    preset: str = typer.Option("demo", "--preset", help="Preset of the retraining that was run."),
    settings: Set = None,
    params_file: ParamsFile = Path("params.yaml"),
    as_json: AsJson = False,
) -> None:
    """Put an untrained candidate before the same gate: it is refused, and the robot keeps its champion."""
    from posa_vla.console import print_json, print_table
    from posa_vla.pipeline.rejection import run_reject
    from posa_vla.workspace import Workspace

    result = run_reject(Workspace.open(), read_params(params_file, preset, settings), f"--preset {preset}")
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    robot = result.robot.release
    print_table(
        "posa demo reject",
        [
            ("candidate", f"untrained, bundle {result.bundle[:12]}"),
            ("success", result.evaluation.in_words()),
            ("verdict", result.decision.in_words()),
            ("robot", f"unchanged: release {robot}" if robot else "unchanged: runs nothing yet"),
        ],
    )
