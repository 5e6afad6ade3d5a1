"""Flows that people start from Prefect's page besides the retraining; each calls one plain function."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows import retention as retention_steps
from flows.changes import NO_CHANGES, Changes, Preset, resolve
from flows.promotion import run_promotion
from flows.reconcile import reconcile_workspace
from flows.rollback import roll_back
from posa_vla.console import also_to
from posa_vla.workspace import Workspace

Output = dict[str, Any]


@flow(name="promote")
def promote(
    preset: Preset | None = None,
    target: str | None = None,
    changes: Changes = NO_CHANGES,
    params_file: str = "params.yaml",
) -> Output:
    """The trained candidate of some parameters before the gate; registered, and after "promote" released.

    A release that waited for approvals goes out once it has them.

    Args:
        preset: As the retraining had it.
        target: As the retraining had it.
        changes: As the retraining had them.
        params_file: Parameter file on the machine that runs the flow.
    """
    with also_to(get_run_logger().info):
        result = run_promotion(Workspace.open(), resolve(preset, target, changes, params_file))
    reasons = "\n".join(f"- {reason}" for reason in result["decision"]["reasons"])
    released = result["pending"] or (f"release {result['release']}" if result["release"] else "nothing was released")
    create_markdown_artifact(f"# {result['decision']['verdict']}\n\n{reasons}\n\n{released}\n", key="promote-verdict")
    return result


@flow(name="rollback")
def rollback(reason: str, to: int | None = None, target: str | None = None, params_file: str = "params.yaml") -> Output:
    """An earlier release back on a target's robots; they take it at their next update.

    Args:
        reason: Why; it stands in the promotion log.
        to: Number of the release; empty for the one before the champion's.
        target: Deployment target; empty for the parameter file's own choice.
        params_file: Parameter file on the machine that runs the flow.
    """
    with also_to(get_run_logger().info):
        result = roll_back(Workspace.open(), resolve(None, target, NO_CHANGES, params_file), to, reason)
    text = result["pending"] or f"release {result['release']} is on the channel again"
    create_markdown_artifact(f"# Rollback\n\n{text}\n\n- {reason}\n", key="rollback")
    return result


@flow(name="reconcile")
def reconcile(params_file: str = "params.yaml") -> list[Output]:
    """Looks for what disagrees, repairs what is safe to repair, and reports both.

    Args:
        params_file: Parameter file on the machine that runs the flow.
    """
    with also_to(get_run_logger().info):
        findings = reconcile_workspace(Workspace.open(), resolve(None, None, NO_CHANGES, params_file))
    rows = [finding.model_dump(mode="json") for finding in findings]
    create_table_artifact(rows, key="reconcile", description="What disagreed, and what was done about it")
    return rows


@flow(name="clean-up")
def clean_up(dry_run: bool = True, params_file: str = "params.yaml") -> list[Output]:
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
