"""A trained candidate before the gate, as a flow that people start."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.form import NO_CHANGES, Changes, Preset, resolve
from flows.server.events import announce
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
        result = run_promotion(Workspace.open(), resolve(preset, target, changes, params_file), announce)
    reasons = "\n".join(f"- {reason}" for reason in result["decision"]["reasons"])
    released = result["pending"] or (f"release {result['release']}" if result["release"] else "nothing was released")
    create_markdown_artifact(f"# {result['decision']['verdict']}\n\n{reasons}\n\n{released}\n", key="promote-verdict")
    return result
