"""A trained candidate before the gate, as a flow that people start."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.form import NO_CHANGES, Changes, Preset, resolve
from flows.server.events import announce
from flows.server.flow_runs import name_run
from posa_vla.console import also_to
from posa_vla.pipeline.promotion import run_promotion
from posa_vla.workspace import Workspace


@flow(name="promote")
def promote(
    preset: Preset | None = None,
    target: str | None = None,
    changes: Changes = NO_CHANGES,
    params_file: str = "params.yaml",
) -> dict[str, Any]:
    """The trained candidate of some parameters before the gate; registered, and after "promote" released.

    A release that waited for approvals goes out once it has them.

    Args:
        preset: As the retraining had it.
        target: As the retraining had it.
        changes: As the retraining had them.
        params_file: Parameter file on the machine that runs the flow.
    """
    with also_to(get_run_logger().info):
        params = resolve(preset, target, changes, params_file)
        name_run(params)
        result = run_promotion(Workspace.open(), params, announce)
        name_run(params, result.data)
    reasons = "\n".join(f"- {reason}" for reason in result.decision.reasons)
    create_markdown_artifact(
        f"# {result.decision.verdict}\n\n{reasons}\n\nReleased: {result.released()}\n",
        key="promote-verdict",
        description=f"Verdict on model version {result.model_version}: {result.decision.in_words()}",
    )
    return result.model_dump(mode="json")
