"""Evaluate a candidate against the champion on scenes that neither was trained on, and decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posa_vla.code_digest import code_digest
from posa_vla.evidence.record import Evidence, read_evidence, write_evidence
from posa_vla.pipeline.context import Retraining
from posa_vla.promotion.champion import champion_bundle, settle
from posa_vla.release.bundle import Bundle
from posa_vla.workspace import Workspace

# The code that decides how an episode goes, given the policy's files.
EVALUATION_CODE = "posa_vla.evaluation"


def evidence_path(workspace: Workspace, digest: str) -> Path:
    """Where an evidence record lies, by its digest."""
    return workspace.evidence / f"{digest}.json"


def run_policy(retraining: Retraining, bundle: str, seeds: list[int], folder: str) -> Evidence:
    """Runs a bundle on scenes, as a job, and keeps its evidence; `folder` is the evaluation's own in the storage."""
    from posa_vla.evaluation.submit import evaluate_as_job
    from posa_vla.evidence.suite import Suite

    workspace = retraining.workspace
    sealed = Bundle(bundle, workspace.bundles / bundle)
    suite = Suite.of(retraining.params, seeds)
    evidence = evaluate_as_job(retraining.jobs(), workspace.storage, sealed, suite, folder)
    write_evidence(evidence_path(workspace, evidence.digest), evidence)
    return evidence


def evaluate_candidate(retraining: Retraining, candidate: dict[str, Any]) -> dict[str, Any]:
    """Runs the candidate, and the champion of this moment on the same scenes.

    The champion is pinned in the output, so that a second call judges against the same one; where another became
    champion since, the evaluation is done anew.

    Returns:
        `bundle`, `evidence`, `champion` and `champion_evidence` (digests, the latter two null for the first
        candidate), `summary`, `reports` (folder of videos and overlays in the storage).
    """
    from posa_vla.evidence.summary import summary
    from posa_vla.seeds import scene_seeds

    workspace, target = retraining.workspace, retraining.params.target
    bundle = candidate["digest"]
    settle(workspace, target)

    def work(key: str) -> dict[str, Any]:
        champion = champion_bundle(workspace, target)
        seeds = scene_seeds(bundle, retraining.params.evaluate.episodes)
        folder = f"evaluations/{key}"
        evidence = run_policy(retraining, bundle, seeds, f"{folder}/{bundle}")
        rival = None
        if champion is not None and champion != bundle:
            rival = run_policy(retraining, champion, seeds, f"{folder}/{champion}")
        return {
            "bundle": bundle,
            "evidence": evidence.digest,
            "champion": None if rival is None else champion,
            "champion_evidence": None if rival is None else rival.digest,
            "summary": summary(evidence),
            "reports": f"{folder}/{bundle}",
        }

    def sound(output: dict[str, Any]) -> bool:
        digests = [digest for digest in (output["evidence"], output["champion_evidence"]) if digest is not None]
        unchanged = champion_bundle(workspace, target) in (output["champion"], bundle)
        return unchanged and all(_settled(evidence_path(workspace, digest)) for digest in digests)

    inputs = {
        "bundle": bundle,
        "target": target,
        "embodiment": retraining.embodiment_key(),
        "task": retraining.target.task,
        "evaluate": retraining.params.evaluate.model_dump(mode="json"),
        "image_size": retraining.params.collect.image_size,
        "code": code_digest(EVALUATION_CODE),
    }
    return retraining.keep(retraining.ledger.step("evaluate", inputs, work, sound=sound))


def _settled(path: Path) -> bool:
    """Whether evidence is there and running its scenes again would add nothing: a crash of ours proves nothing."""
    return path.is_file() and all(row.return_code != "crashed" for row in read_evidence(path).rows)
