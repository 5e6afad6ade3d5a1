"""Evaluate a registered model in simulation once more, on other scenes, without deciding anything."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows.form import NO_CHANGES, resolve
from flows.server.flow_runs import call_run
from posa_vla.console import also_to
from posa_vla.pipeline.evaluation import run_evaluation
from posa_vla.workspace import Workspace


@flow(name="evaluate-sim")
def evaluate_sim(
    model_version: int | None = None,
    episodes: int = Field(default=50, ge=1, le=10_000),
    seed: int = Field(default=1, ge=0),
    target: str | None = None,
    params_file: str = "params.yaml",
) -> dict[str, Any]:
    """A registered model in simulation, on scenes of its own; nothing is decided or released.

    Args:
        model_version: Number of the target's registered model; empty for the champion.
        episodes: Scenes.
        seed: 0 for the scenes that the gate judged it on, any other number for others.
        target: Deployment target; empty for the parameter file's own choice.
        params_file: Parameter file on the machine that runs the flow.
    """
    params = resolve(None, target, NO_CHANGES, params_file)
    model = "champion" if model_version is None else f"model version {model_version}"
    call_run(f"{params.target}, {model}, {episodes} scenes, seed {seed}")
    with also_to(get_run_logger().info):
        result = run_evaluation(Workspace.open(), params, model_version, episodes, seed)
    call_run(f"{params.target}, model version {result.model_version}, {episodes} scenes, seed {seed}")
    rows = "\n".join(f"| {name} | {value} |" for name, value in result.summary)
    words = f"Model version {result.model_version}: {result.summary.in_words()}"
    create_markdown_artifact(
        f"# {words}\n\n| figure | value |\n|---|---|\n{rows}\n\nEvidence `{result.evidence}`\n",
        key="evaluate-sim",
        description=words,
    )
    return result.model_dump(mode="json")
