"""What a retraining shows on Prefect's page: its steps, the verdict, the way to its MLflow run, a picture."""

from __future__ import annotations

import base64
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from posa_vla.dataset.validation.report import read_report
from posa_vla.pipeline.summary import step_rows, verdict_markdown
from posa_vla.workspace import Workspace


def show_retraining(workspace: Workspace, summary: dict[str, Any], run_id: str, reports: str) -> None:
    """Leaves a run's artifacts.

    Args:
        workspace: Where the retraining worked.
        summary: See pipeline/summary.py.
        run_id: Of its MLflow run.
        reports: Folder of the evaluation's pictures in the storage.
    """
    create_table_artifact(step_rows(summary), key="retrain-steps", description="Steps of this retraining")
    create_markdown_artifact(verdict_markdown(summary), key="retrain-verdict")
    page = run_page(workspace, run_id)
    if page is not None:
        create_link_artifact(page, "Metrics, videos and records in MLflow", key="retrain-mlflow")
    pictures = workspace.storage.list(f"{reports}/overlays/")
    data = workspace.storage.get(pictures[0]) if pictures else None
    if data is not None:
        # In the address itself: the page's reader has no key of the storage.
        picture = "data:image/png;base64," + base64.b64encode(data).decode()
        create_image_artifact(picture, key="retrain-attention", description="Attention over a rollout, both channels")


def show_data(workspace: Workspace, data: dict[str, Any]) -> None:
    """Leaves what validation found of a data version, rule by rule.

    Args:
        workspace: Where it was made.
        data: Output of `version_data`.
    """
    path = workspace.reports / data["version"] / "report.json"
    if not path.is_file():
        return
    report = read_report(path)
    worst = {finding.rule: finding.severity for finding in report.findings}
    rows = [{"rule": rule, "severity": worst[rule], "findings": count} for rule, count in report.rules.items()]
    description = (
        f"Validation of {data['name']}: {report.episodes} episodes, {report.frames} frames, "
        f"{len(report.quarantined)} quarantined. The whole report is in the MLflow run, data/report.html"
    )
    create_table_artifact(rows, key="data-validation", description=description)


def run_page(workspace: Workspace, run_id: str) -> str | None:
    """Address of a run's page; None without an MLflow server."""
    uri = workspace.settings.mlflow_tracking_uri
    if not uri.startswith("http"):
        return None
    from posa_vla import tracking

    experiment = tracking.connect(uri).get_run(run_id).info.experiment_id
    return tracking.page_address(str(experiment), run_id, server=workspace.settings.mlflow_page or uri)
