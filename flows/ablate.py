"""Whether anchors work: the trainings and rollouts of a plan, one after the other, each done once and reused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_image_artifact, create_markdown_artifact

from flows.form import NO_CHANGES, Changes, Preset, resolve
from flows.server.flow_runs import name_run
from posa_vla.console import also_to
from posa_vla.evaluation.ablation.plan import load_plan
from posa_vla.pipeline.ablation import run_ablation
from posa_vla.workspace import Workspace


@flow(name="ablate")
def ablate(
    preset: Preset = "small",
    full: bool = False,
    target: str | None = None,
    changes: Changes = NO_CHANGES,
    params_file: str = "params.yaml",
) -> dict[str, Any]:
    """The policy with and without anchors on the same unseen scenes; a long run, and what is done is never repeated.

    Args:
        preset: What every variant starts from.
        full: All variants, conditions and numbers of demonstrations (hours) instead of the quick comparison.
        target: Deployment target, whose embodiment and task are used; empty for the parameter file's own choice.
        changes: Single parameters that shall differ in every variant.
        params_file: Parameter file on the machine that runs the flow.
    """
    import base64

    with also_to(get_run_logger().info):
        params, plan = resolve(preset, target, changes, params_file), load_plan()
        name_run(params, f"plan {plan.name}", "full" if full else "quick")
        result = run_ablation(Workspace.open(), params, plan, full=full)
    about = f"Plan {plan.name}: success and steps of each variant on the same unseen scenes"
    create_markdown_artifact(Path(result.table).read_text(encoding="utf-8"), key="ablation", description=about)
    picture = base64.b64encode(Path(result.plot).read_bytes()).decode()
    create_image_artifact(f"data:image/png;base64,{picture}", key="ablation-plot", description="Success and steps")
    return result.model_dump(mode="json")
