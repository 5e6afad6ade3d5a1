"""Old trainings, evaluations and bundles that nothing needs are removed, as a flow."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows.form import NO_CHANGES, resolve
from posa_vla.console import also_to
from posa_vla.pipeline import retention as retention_steps
from posa_vla.workspace import Workspace


@flow(name="clean-up")
def clean_up(dry_run: bool = True, params_file: str = "params.yaml") -> list[dict[str, Any]]:
    """Removes trainings, evaluations and bundles that are old and that nothing needs.

    Args:
        dry_run: Only shows what would go.
        params_file: Parameter file on the machine that runs the flow; its `retention` says how old.
    """
    with also_to(get_run_logger().info):
        retention = resolve(None, None, NO_CHANGES, params_file).retention
        items = retention_steps.clean_up(Workspace.open(), retention, dry_run=dry_run)
    rows = [item.model_dump(mode="json") for item in items]
    create_table_artifact(rows, key="clean-up", description="What would go" if dry_run else "What went")
    return rows
