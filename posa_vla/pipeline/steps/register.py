"""Put a candidate on record in MLflow, whatever the verdict."""

from __future__ import annotations

from typing import Any

from posa_vla.evidence.record import read_evidence
from posa_vla.pipeline.context import Retraining
from posa_vla.pipeline.steps.decide import decision_path
from posa_vla.pipeline.steps.evaluate import evidence_path
from posa_vla.pipeline.steps.release import _report
from posa_vla.pipeline.summary import success_text
from posa_vla.promotion.champion import (
    promotion_log,
    promotions,
)
from posa_vla.promotion.entries import Verdict
from posa_vla.release.code_state import code_state
from posa_vla.training.storage import all_metrics


def register_candidate(
    retraining: Retraining,
    data: dict[str, Any],
    trained: dict[str, Any],
    evaluated: dict[str, Any],
    decided: dict[str, Any],
) -> dict[str, Any]:
    """Puts the candidate on record: evidence, videos and verdict in the MLflow run, a version of the target's model.

    A verdict other than "promote" is written into the promotion log here; a promotion when it is released.

    Returns:
        `model_version`, `run_id`, `report` (the page, relative to the workspace).
    """
    workspace, target, bundle = retraining.workspace, retraining.params.target, evaluated["bundle"]

    def work(key: str) -> dict[str, Any]:
        from posa_vla.pipeline.report.preset import preset_of
        from posa_vla.promotion.registry import register
        from posa_vla.release.bundle import Bundle

        run, code = retraining.tracked(data), code_state(workspace.settings)
        for step, metrics in all_metrics(workspace.storage, trained["key"]):
            run.log_metrics(step, metrics)
        _log_evidence(retraining, data, evaluated, decided)
        tags = {
            "posa.verdict": decided["verdict"],
            "posa.success": success_text(evaluated["summary"]),
            "posa.data": data["name"],
            "posa.preset": preset_of(retraining.params),
            "posa.decision": decided["decision"],
            "posa.evidence": evaluated["evidence"],
            "posa.data_version": data["version"],
            "posa.commit": code.commit or "unknown",
            "posa.dirty": "unknown" if code.dirty is None else str(code.dirty).lower(),
        }
        version = register(run, target, Bundle(bundle, workspace.bundles / bundle), tags)
        run.set_tags({"posa.bundle": bundle, "posa.model_version": version, "posa.verdict": decided["verdict"]})
        if decided["verdict"] != "promote":
            entry = Verdict(
                key=f"{decided['decision']}:{bundle}",
                kind=decided["verdict"],
                bundle=bundle,
                model_version=version,
                decision=decided["decision"],
                reasons=decided["reasons"],
            )
            with promotions(workspace, "a registration"):
                promotion_log(workspace, target).append(entry)
        # After the verdict is on record: nothing that happens to the report can change it.
        report = _report(retraining, data, evaluated, decided, version, workspace.home / "retrainings" / key)
        return {"model_version": version, "run_id": run.run_id, "report": report}

    inputs = {
        "bundle": bundle,
        "decision": decided["decision"],
        "run": retraining.run_key(data["version"]),
        "mlflow": workspace.named(workspace.mlflow_uri),
    }
    result = retraining.ledger.step(
        "register", inputs, work, sound=lambda output: (workspace.home / output["report"]).is_file()
    )
    return retraining.keep(result)


def _log_evidence(
    retraining: Retraining, data: dict[str, Any], evaluated: dict[str, Any], decided: dict[str, Any]
) -> None:
    workspace, run = retraining.workspace, retraining.tracked(data)
    for name, digest in (("candidate", evaluated["evidence"]), ("champion", evaluated["champion_evidence"])):
        if digest is not None:
            rows = [row.model_dump(mode="json") for row in read_evidence(evidence_path(workspace, digest)).rows]
            run.log_table(
                f"evidence-{name}-{digest[:12]}", {column: [row[column] for row in rows] for column in rows[0]}
            )
            run.log_text(evidence_path(workspace, digest).read_text(), f"records/evidence-{name}.json")
    run.log_text(decision_path(workspace, decided["decision"]).read_text(), "records/decision.json")
    # The one figure that runs are compared by; interval and champion are in the picture beside it, and in the records.
    rate = evaluated["summary"]["success_rate"]
    run.log_figures({} if rate is None else {"evaluation/success_rate": rate})
    for name in ("videos", "overlays"):
        for path in workspace.storage.list(f"{evaluated['reports']}/{name}/"):
            run.log_bytes(workspace.storage.get(path) or b"", f"{name}/{path.rpartition('/')[2]}")
