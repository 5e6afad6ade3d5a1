"""Brings aliases, channel and jobs back to the truth, as a flow."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows.form import NO_CHANGES, resolve
from flows.server.flow_runs import close_silent_runs
from posa_vla.console import also_to
from posa_vla.pipeline.reconciliation import reconcile_workspace
from posa_vla.workspace import Workspace


@flow(name="reconcile")
def reconcile(params_file: str = "params.yaml") -> list[dict[str, Any]]:
    """Looks for what disagrees, repairs what is safe to repair, and reports both.

    Args:
        params_file: Parameter file on the machine that runs the flow.
    """
    with also_to(get_run_logger().info):
        findings = reconcile_workspace(
            Workspace.open(), resolve(None, None, NO_CHANGES, params_file), close_silent_runs
        )
    rows = [finding.model_dump(mode="json") for finding in findings]
    create_table_artifact(rows, key="reconcile", description="What disagreed, and what was done about it")
    return rows
