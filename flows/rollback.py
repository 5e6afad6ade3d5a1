"""An earlier release back on a target's robots, as a flow."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.form import NO_CHANGES, resolve
from flows.server.events import announce
from flows.server.flow_runs import call_run
from posa_vla.console import also_to
from posa_vla.pipeline.rollback import roll_back
from posa_vla.workspace import Workspace


@flow(name="rollback")
def rollback(
    reason: str, to: int | None = None, target: str | None = None, params_file: str = "params.yaml"
) -> dict[str, Any]:
    """An earlier release back on a target's robots; they take it at their next update.

    Args:
        reason: Why; it stands in the promotion log.
        to: Number of the release; empty for the newest before the champion's that was not withdrawn.
        target: Deployment target; empty for the parameter file's own choice.
        params_file: Parameter file on the machine that runs the flow.
    """
    with also_to(get_run_logger().info):
        params = resolve(None, target, NO_CHANGES, params_file)
        call_run(f"{params.target}, back to {'the release before' if to is None else f'release {to}'}")
        result = roll_back(Workspace.open(), params, to, reason, announce)
    text = result.pending or f"release {result.release} is on the channel again"
    create_markdown_artifact(
        f"# Rollback\n\n{text}\n\n- {reason}\n", key="rollback", description=f"{params.target}: {text}"
    )
    return result.model_dump(mode="json")
