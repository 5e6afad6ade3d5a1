"""Evaluate a candidate against the champion on scenes that neither was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from posa_vla.code_digest import code_digest
from posa_vla.console import say
from posa_vla.errors import PosaError
from posa_vla.evidence.record import Evidence, evidence_path, read_evidence, write_evidence
from posa_vla.evidence.suite import Suite
from posa_vla.evidence.summary import Summary
from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.records import Evaluated
from posa_vla.pipeline.steps.decide import held_against
from posa_vla.pipeline.steps.judged import judged_with
from posa_vla.policy.execution import Execution
from posa_vla.promotion.champion import champion_bundle, settle
from posa_vla.promotion.gate import Decision
from posa_vla.promotion.lifetime_gate import refreshes
from posa_vla.promotion.standing import standing_of, who_names
from posa_vla.promotion.tries import seen_of
from posa_vla.release.bundle import Bundle
from posa_vla.release.bundle_store import bundle_at_hand
from posa_vla.schema import Closed
from posa_vla.seeds import scene_seeds

# The code that decides how an episode goes, given the policy's files.
EVALUATION_CODE = "posa_vla.evaluation"
# Scenes before the first look; each later look is at twice as many, because each takes a job of its own.
_FIRST_LOOK = 25


def run_policy(
    context: StepContext,
    bundle: str,
    seeds: list[int],
    folder: str,
    way: Execution | None = None,
    place: Path | None = None,
) -> Evidence:
    """Runs a bundle on scenes, as a job, and keeps its evidence.

    Args:
        context: Whose target and conditions.
        bundle: Digest.
        seeds: Scenes.
        folder: Of this evaluation in the storage.
        way: How the policy is run; as the parameters say if None. The step limit is always theirs.
        place: Where the bundle lies; in this workspace or its storage if None.
    """
    from posa_vla.evaluation.submit import evaluate_as_job

    workspace = context.workspace
    sealed = Bundle(bundle, bundle_at_hand(workspace, bundle) if place is None else place)
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
    champion since, the evaluation is done anew. A gate with criteria is looked at in between, and no more scenes are
    run once its verdict is clear. For such a gate the reference runs too where it is not the champion; a refresh that
    has none to be held against is not run at all.
    """
    workspace, target, bundle = context.workspace, context.params.target, replayed.candidate.digest
    criteria = context.target.gate.criteria is not None
    before: dict[str, Closed] = {"candidate": replayed.candidate}
    before |= {"offline": replayed.offline} if replayed.offline is not None else {}
    settle(workspace, target)

    def work(key: str) -> Evaluated:
        champion = champion_bundle(workspace, target)
        seeds, folder = scene_seeds(bundle, context.params.evaluate.episodes), f"evaluations/{key}"
        reference = _reference(context) if criteria and champion not in (None, bundle) else None
        if refreshes(context.target.gate) and champion not in (None, bundle) and reference is None:
            return replayed.model_copy(update={"champion": champion})

        def run(digest: str, count: int) -> Evidence:
            way = judged_with(workspace, target, digest, bundle_at_hand(workspace, digest))
            return run_policy(context, digest, seeds[:count], f"{folder}/{digest}", way)

        def seen(count: int) -> Evaluated:
            evidence = run(bundle, count)
            rival = None if champion in (None, bundle) else run(str(champion), count)
            third = None if reference in (None, champion, bundle) else run(str(reference), count)
            return replayed.model_copy(
                update={
                    "evidence": evidence.digest,
                    "champion": None if rival is None else champion,
                    "champion_evidence": None if rival is None else rival.digest,
                    "reference": reference,
                    "reference_evidence": None if third is None else third.digest,
                    "summary": Summary.of(evidence),
                    "reports": f"{folder}/{bundle}",
                }
            )

        return _until_clear(context, bundle, seen, len(seeds))

    def sound(evaluated: Evaluated) -> bool:
        seen = (evaluated.evidence, evaluated.champion_evidence, evaluated.reference_evidence)
        digests = [digest for digest in seen if digest is not None]
        unchanged = champion_bundle(workspace, target) in (evaluated.champion, bundle)
        if criteria and evaluated.champion is not None:
            # A promotion of this very candidate moves it: what it was judged by stays.
            moved = champion_bundle(workspace, target) != bundle and evaluated.reference != _reference(context)
            unchanged = unchanged and not moved
        there = unchanged and all(is_settled(evidence_path(workspace, digest)) for digest in digests)
        stopped = criteria and evaluated.evidence is not None
        return there and (_all_run(context, evaluated) or (stopped and _is_clear(context, evaluated)))

    inputs = {
        "bundle": bundle,
        "target": target,
        "embodiment": context.embodiment_key(),
        "task": context.target.task,
        "evaluate": context.params.evaluate.model_dump(mode="json"),
        "image_size": context.params.collect.image_size,
        "code": code_digest(EVALUATION_CODE),
        **({"reference": True} if criteria else {}),
    }
    result = context.ledger.step("evaluate", inputs, Evaluated, work, sound=sound, before=before)
    return context.keep(result)


def looks(scenes: int, at_least: int = 0) -> Iterator[int]:
    """Scenes at each look at an evaluation under way: `scenes` at the last one."""
    count = max(at_least, _FIRST_LOOK)
    while count < scenes:
        yield count
        count *= 2
    yield scenes


def _until_clear(context: StepContext, bundle: str, seen: Callable[[int], Evaluated], scenes: int) -> Evaluated:
    """Runs more and more scenes until the gate's criteria have their answer; all of them where it has none.

    The answer does not depend on where one stops: what is not looked at would change nothing.
    """
    if context.target.gate.criteria is None:
        return seen(scenes)
    seen_before = seen_of(context.workspace, context.params.target, bundle)
    for count in looks(scenes, max(context.target.gate.min_episodes, seen_before + 1)):
        evaluated = seen(count)
        if _is_clear(context, evaluated):
            break
    if count < scenes:
        say(f"the verdict is clear after {count} of {scenes} scenes: the others are not run")
    return evaluated


def _is_clear(context: StepContext, evaluated: Evaluated) -> bool:
    decision = held_against(context, evaluated)
    if decision is None or decision.verdict == "reject":
        return True
    return decision.verdict == "promote" and not _may_lift(context, evaluated, decision)


def _may_lift(context: StepContext, evaluated: Evaluated, decision: Decision) -> bool:
    """Whether a refresh is so far ahead of the reference that more scenes may show it to be the next one.

    Without them the reference would stay far below the champion, and refreshes could lose all that lies between.
    """
    digest = evaluated.reference_evidence
    if digest is None and evaluated.reference == evaluated.champion:
        digest = evaluated.champion_evidence
    if decision.lifts_reference or digest is None or evaluated.evidence is None:
        return False
    ours, theirs = (
        Summary.of(read_evidence(evidence_path(context.workspace, of))).success_rate
        for of in (evaluated.evidence, digest)
    )
    margin = max(of.margin or 0.0 for of in context.target.gate.criteria or [])
    return ours is not None and theirs is not None and ours - theirs > margin


def _all_run(context: StepContext, evaluated: Evaluated) -> bool:
    if evaluated.evidence is None:  # a refresh without a reference: another question is another matter
        return refreshes(context.target.gate)
    found = read_evidence(evidence_path(context.workspace, evaluated.evidence))
    return len(found.rows) >= context.params.evaluate.episodes


def _reference(context: StepContext) -> str | None:
    """The policy that small losses are counted from, on the suite of these parameters; None where it cannot be run."""
    workspace, target = context.workspace, context.params.target
    conditions = Suite.of(context.params, []).describe()
    reference = standing_of(workspace, target, conditions, who_names(context.target)).reference
    if reference is None:
        return None
    try:
        bundle_at_hand(workspace, reference)
    except PosaError as error:
        say(f"the reference of target {target!r} cannot be run any more: {error}")
        return None
    return reference


def is_settled(path: Path) -> bool:
    """Whether evidence is there and running its scenes again would add nothing: a crash of ours proves nothing."""
    return path.is_file() and all(row.return_code != "crashed" for row in read_evidence(path).rows)
