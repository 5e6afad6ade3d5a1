"""Evaluate a candidate against the champion on scenes that neither was trained on."""

from __future__ import annotations

from pathlib import Path

from posa_vla.code_digest import code_digest
from posa_vla.evidence.record import Evidence, evidence_path, read_evidence, write_evidence
from posa_vla.evidence.suite import Suite
from posa_vla.evidence.summary import Summary
from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.records import Evaluated
from posa_vla.pipeline.steps.judged import judged_with
from posa_vla.policy.execution import Execution
from posa_vla.promotion.champion import champion_bundle, settle
from posa_vla.release.bundle import Bundle
from posa_vla.schema import Closed
from posa_vla.seeds import scene_seeds

# The code that decides how an episode goes, given the policy's files.
EVALUATION_CODE = "posa_vla.evaluation"


def run_policy(
    context: StepContext, bundle: str, seeds: list[int], folder: str, way: Execution | None = None
) -> Evidence:
    """Runs a bundle on scenes, as a job, and keeps its evidence.

    Args:
        context: Whose target and conditions.
        bundle: Digest.
        seeds: Scenes.
        folder: Of this evaluation in the storage.
        way: How the policy is run; as the parameters say if None. The step limit is always theirs.
    """
    from posa_vla.evaluation.submit import evaluate_as_job

    workspace = context.workspace
    sealed = Bundle(bundle, workspace.bundles / bundle)
    suite = Suite.of(context.params, seeds)
    suite = suite if way is None else suite.run_as(way)
    evidence = evaluate_as_job(context.jobs(), workspace.storage, sealed, suite, folder)
    write_evidence(evidence_path(workspace, evidence.digest), evidence)
    return evidence


def evaluate(context: StepContext, replayed: Evaluated) -> Evaluated:
    """Runs the candidate in simulation, and the champion of this moment on the same scenes.

    Each is run as it was made for, and as robots run it: the champion as it was judged before it became one, whatever
    the candidate is made for.

    The champion is pinned in the record, so that a second call judges against the same one; where another became
    champion since, the evaluation is done anew.
    """
    workspace, target, bundle = context.workspace, context.params.target, replayed.candidate.digest
    before: dict[str, Closed] = {"candidate": replayed.candidate}
    before |= {"offline": replayed.offline} if replayed.offline is not None else {}
    settle(workspace, target)

    def work(key: str) -> Evaluated:
        champion = champion_bundle(workspace, target)
        seeds = scene_seeds(bundle, context.params.evaluate.episodes)
        folder = f"evaluations/{key}"
        evidence = run_policy(context, bundle, seeds, f"{folder}/{bundle}", judged_with(workspace, target, bundle))
        rival = None
        if champion is not None and champion != bundle:
            way = judged_with(workspace, target, champion)
            rival = run_policy(context, champion, seeds, f"{folder}/{champion}", way)
        return replayed.model_copy(
            update={
                "evidence": evidence.digest,
                "champion": None if rival is None else champion,
                "champion_evidence": None if rival is None else rival.digest,
                "summary": Summary.of(evidence),
                "reports": f"{folder}/{bundle}",
            }
        )

    def sound(evaluated: Evaluated) -> bool:
        digests = [d for d in (evaluated.evidence, evaluated.champion_evidence) if d is not None]
        unchanged = champion_bundle(workspace, target) in (evaluated.champion, bundle)
        return unchanged and all(_settled(evidence_path(workspace, digest)) for digest in digests)

    inputs = {
        "bundle": bundle,
        "target": target,
        "embodiment": context.embodiment_key(),
        "task": context.target.task,
        "evaluate": context.params.evaluate.model_dump(mode="json"),
        "image_size": context.params.collect.image_size,
        "code": code_digest(EVALUATION_CODE),
    }
    result = context.ledger.step("evaluate", inputs, Evaluated, work, sound=sound, before=before)
    return context.keep(result)


def _settled(path: Path) -> bool:
    """Whether evidence is there and running its scenes again would add nothing: a crash of ours proves nothing."""
    return path.is_file() and all(row.return_code != "crashed" for row in read_evidence(path).rows)
