"""Put a candidate on record in MLflow, whatever the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from posa_vla.artifact_places import database_file, lists_version
from posa_vla.console import say
from posa_vla.errors import PosaError
from posa_vla.evidence.offline import offline_path, read_offline
from posa_vla.evidence.record import evidence_path, read_evidence
from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.records import Decided, Evaluated, Registered, Trained
from posa_vla.pipeline.steps.decide import decision_path, read_decision
from posa_vla.promotion.champion import promotion_log, promotions
from posa_vla.promotion.entries import Verdict
from posa_vla.release.code_state import code_state
from posa_vla.training.storage import all_metrics

if TYPE_CHECKING:
    from posa_vla.tracking import TrackedRun


def register(context: StepContext, decided: Decided) -> Registered:
    """Puts the candidate on record: evidence, videos and verdict in the MLflow run, a version of the target's model.

    A verdict other than "promote" is written into the promotion log here; a promotion when it is released.
    """
    workspace, target, evaluated = context.workspace, context.params.target, decided.evaluated
    bundle, data, source = evaluated.candidate.digest, evaluated.candidate.data, evaluated.candidate.source

    def work(key: str) -> Registered:
        from posa_vla.pipeline.report.preset import preset_of
        from posa_vla.promotion import registry
        from posa_vla.release.bundle import Bundle

        run, code = context.tracked(data), code_state(workspace.settings)
        for step, metrics in all_metrics(workspace.storage, source.key) if isinstance(source, Trained) else ():
            run.log_metrics(step, metrics)
        _log_evidence(context, decided)
        tags = {
            "posa.verdict": decided.verdict,
            "posa.success": evaluated.in_words(),
            "posa.data": data.name,
            "posa.preset": preset_of(context.params),
            "posa.decision": decided.decision,
            "posa.evidence": evaluated.evidence or (evaluated.offline.evidence if evaluated.offline else "none"),
            "posa.data_version": data.version,
            "posa.commit": code.commit or "unknown",
            "posa.dirty": "unknown" if code.dirty is None else str(code.dirty).lower(),
            **({registry.START: source.start} if isinstance(source, Trained) and source.start else {}),
        }
        version = registry.register(run, target, Bundle(bundle, workspace.bundles / bundle), tags)
        run.set_tags({"posa.bundle": bundle, "posa.model_version": version, "posa.verdict": decided.verdict})
        if decided.verdict != "promote":
            entry = Verdict(
                key=f"{decided.decision}:{bundle}",
                kind=decided.verdict,
                bundle=bundle,
                model_version=version,
                decision=decided.decision,
                reasons=decided.reasons,
            )
            with promotions(workspace, "a registration"):
                promotion_log(workspace, target).append(entry)
        # After the verdict is on record: nothing that happens to the report can change it.
        report = _report(context, decided, version, workspace.home / "retrainings" / key)
        return Registered(decided=decided, model_version=version, run_id=run.run_id, report=report)

    inputs = {
        "bundle": bundle,
        "decision": decided.decision,
        "run": context.run_key(data.version),
        "mlflow": workspace.named(workspace.mlflow_uri),
    }
    result = context.ledger.step(
        "register",
        inputs,
        Registered,
        work,
        sound=lambda registered: (workspace.home / registered.report).is_file() and _is_on_record(context, registered),
        before={"decided": decided},
    )
    return context.keep(result)


def _is_on_record(context: StepContext, registered: Registered) -> bool:
    """Whether MLflow still has the version; a server that is away is no reason to register again."""
    uri, target = context.workspace.mlflow_uri, context.params.target
    database = database_file(uri)
    try:
        if database is not None:
            there = lists_version(database, target, registered.model_version)
        else:
            from posa_vla.promotion.registry import is_registered

            there = is_registered(uri, target, registered.model_version)
    except PosaError as error:
        say(f"warning: {error}")
        return True
    if not there:
        say(f"version {registered.model_version} of model {target!r} is gone from MLflow: it is registered again")
    return there


def _log_evidence(context: StepContext, decided: Decided) -> None:
    evaluated = decided.evaluated
    workspace, run = context.workspace, context.tracked(evaluated.candidate.data)
    shown = {
        "candidate": evaluated.evidence,
        "champion": evaluated.champion_evidence,
        "reference": evaluated.reference_evidence,
    }
    for name, digest in shown.items():
        if digest is not None:
            rows = [row.model_dump(mode="json") for row in read_evidence(evidence_path(workspace, digest)).rows]
            run.log_table(
                f"evidence-{name}-{digest[:12]}", {column: [row[column] for row in rows] for column in rows[0]}
            )
            run.log_text(evidence_path(workspace, digest).read_text(encoding="utf-8"), f"records/evidence-{name}.json")
    run.log_text(decision_path(workspace, decided.decision).read_text(encoding="utf-8"), "records/decision.json")
    # The one figure that runs are compared by; interval and champion are in the picture beside it, and in the records.
    rate = None if evaluated.summary is None else evaluated.summary.success_rate
    run.log_figures({} if rate is None else {"evaluation/success_rate": rate})
    log_offline(context, run, evaluated)
    for name in ("videos", "overlays") if evaluated.reports is not None else ():
        for path in workspace.storage.list(f"{evaluated.reports}/{name}/"):
            run.log_bytes(workspace.storage.get(path) or b"", f"{name}/{path.rpartition('/')[2]}")


def log_offline(context: StepContext, run: TrackedRun, evaluated: Evaluated) -> None:
    """Logs errors on held-out episodes: figures beside the training's, tables, the record, and the worst as films."""
    from posa_vla.evaluation.offline_films import kept_films

    if evaluated.offline is None:
        return
    path, storage = offline_path(context.workspace, evaluated.offline.evidence), context.workspace.storage
    evidence = read_offline(path)
    figures = evaluated.offline.figures
    named = {"error": figures.policy, "error_hold": figures.hold, "error_nearest": figures.nearest}
    run.log_figures({f"offline/{name}": value for name, value in named.items() if value is not None})
    for name, rows in (("channels", evidence.channels), ("episodes", evidence.episodes)):
        values = [row.model_dump(mode="json") for row in rows]
        if values:
            columns = {column: [row[column] for row in values] for column in values[0]}
            run.log_table(f"offline-{name}-{evidence.digest[:12]}", columns)
    run.log_text(path.read_text(encoding="utf-8"), "records/offline.json")
    for number, film in kept_films(storage, evaluated.offline.reports, evidence).items():
        run.log_bytes(film, f"offline/episode-{number}.mp4")


def _report(context: StepContext, decided: Decided, version: str, folder: Path) -> str:
    """Writes the retraining's page and shows it in MLflow; returns its path below the workspace."""
    from posa_vla.pipeline.report.facts import Origin
    from posa_vla.pipeline.report.gather import gather_facts
    from posa_vla.pipeline.report.publish import publish_report

    workspace, evaluated, data = context.workspace, decided.evaluated, decided.evaluated.candidate.data
    run, code = context.tracked(data), code_state(workspace.settings)
    origin = Origin(
        model_version=version,
        run_id=run.run_id,
        bundle=evaluated.candidate.digest,
        data_version=data.version,
        data_name=data.name,
        commit=code.commit or "unknown",
        dirty=bool(code.dirty),
    )
    facts = gather_facts(workspace, context.params, read_decision(workspace, decided.decision), evaluated, origin)
    return publish_report(run, facts, folder).relative_to(workspace.home).as_posix()
