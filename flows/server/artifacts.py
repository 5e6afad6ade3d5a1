"""What a retraining shows on Prefect's page: its steps, the verdict, the way to its MLflow run, a picture."""

from __future__ import annotations

import base64

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from posa_vla.dataset.validation.report import read_report
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.pipeline.records import Registered
from posa_vla.pipeline.report.page import ARTIFACTS, REPORT
from posa_vla.pipeline.summary import RetrainingSummary, step_rows, verdict_markdown
from posa_vla.workspace import Workspace


def show_retraining(workspace: Workspace, summary: RetrainingSummary, registered: Registered) -> None:
    """Leaves a run's artifacts.

    Args:
        workspace: Where the retraining worked.
        summary: What it did.
        registered: The candidate on record.
    """
    create_table_artifact(
        step_rows(summary), key="retrain-steps", description="Each step: done in this run or reused, and its seconds"
    )
    report = str(workspace.home / registered.report)
    create_markdown_artifact(
        verdict_markdown(summary, report), key="retrain-verdict", description=f"Verdict: {summary.decision.in_words()}"
    )
    run = run_page(workspace, registered.run_id)
    if run is not None:
        about = "MLflow run: metrics, videos and records"
        create_link_artifact(run, "Metrics, videos and records in MLflow", key="retrain-mlflow", description=about)
    page = run_page(workspace, registered.run_id, f"{ARTIFACTS}/{REPORT}")
    if page is not None:
        about = "Report: verdict, numbers against the champion, worst episodes, what changed"
        create_link_artifact(page, "Report of this retraining", key="retrain-report", description=about)
    reports = registered.decided.evaluated.reports
    pictures = [] if reports is None else workspace.storage.list(f"{reports}/overlays/")
    data = workspace.storage.get(pictures[0]) if pictures else None
    if data is not None:
        # In the address itself: the page's reader has no key of the storage.
        picture = "data:image/png;base64," + base64.b64encode(data).decode()
        create_image_artifact(picture, key="retrain-attention", description="Attention over a rollout, both channels")


def show_data(workspace: Workspace, data: DataVersion) -> None:
    """Leaves what validation found of a data version, rule by rule.

    Args:
        workspace: Where it was made.
        data: The data version.
    """
    path = workspace.reports / data.version / "report.json"
    if not path.is_file():
        return
    report = read_report(path)
    worst = {finding.rule: finding.severity for finding in report.findings}
    rows = [{"rule": rule, "severity": worst[rule], "findings": count} for rule, count in report.rules.items()]
    description = (
        f"Validation of {data.name}: {report.episodes} episodes, {report.frames} frames, "
        f"{len(report.quarantined)} quarantined. The whole report is in the MLflow run, data/report.html"
    )
    create_table_artifact(rows, key="data-validation", description=description)


def run_page(workspace: Workspace, run_id: str, artifact: str = "") -> str | None:
    """Address of the page of a run, or of one of its artifacts; None without an MLflow server, or where it has none."""
    uri = workspace.settings.mlflow_tracking_uri
    if not uri.startswith("http"):
        return None
    from posa_vla import tracking

    return tracking.run_address(uri, run_id, artifact, server=workspace.settings.mlflow_page or uri)
