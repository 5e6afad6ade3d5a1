"""Put the evidence before the target's gate."""

from __future__ import annotations

from pathlib import Path

from posa_vla.code_digest import code_digest
from posa_vla.evidence.offline import OfflineEvidence, offline_path, read_offline
from posa_vla.evidence.record import evidence_path, read_evidence
from posa_vla.evidence.reference import Standing
from posa_vla.files import write_json
from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.records import Decided, Evaluated
from posa_vla.promotion import gate
from posa_vla.promotion.lifetime_gate import asked_of
from posa_vla.promotion.tries import account_of, decisions_folder, place_of, read_decision_file
from posa_vla.promotion.verdict import judge
from posa_vla.target_params import Proof
from posa_vla.workspace import Workspace


def decision_path(workspace: Workspace, digest: str) -> Path:
    """Where a decision record lies, by its digest."""
    return decisions_folder(workspace) / f"{digest}.json"


def read_decision(workspace: Workspace, digest: str) -> gate.Decision:
    """A decision record.

    Raises:
        BadInput: It is missing or damaged.
    """
    return read_decision_file(decision_path(workspace, digest))


def held_against(context: StepContext, evaluated: Evaluated) -> gate.Decision | None:
    """What the target's gate makes of rollouts by its criteria, at its account's level of now; writes nothing.

    Returns:
        The decision on the rollouts alone; None where the gate has no criteria, or nothing was simulated.
    """
    rules = context.target.gate
    if rules.criteria is None or evaluated.evidence is None:
        return None
    return _judged(context, evaluated, ["simulation"], None)


def _judged(
    context: StepContext, evaluated: Evaluated, asked: list[Proof], replayed: OfflineEvidence | None
) -> gate.Decision:
    workspace, target, rules = context.workspace, context.params.target, context.target.gate
    candidate, champion, reference = (
        None if digest is None else read_evidence(evidence_path(workspace, digest))
        for digest in (evaluated.evidence, evaluated.champion_evidence, evaluated.reference_evidence)
    )
    account, place, standing = None, None, None
    if rules.criteria is not None:
        standing = Standing(evaluated.champion, evaluated.reference)
    if standing is not None and candidate is not None:
        account = account_of(workspace, target, 1 - rules.confidence)
        asked_now = asked_of(rules, champion, standing.reference)
        place = place_of(workspace, target, asked_now, candidate, champion, reference)
    return judge(
        target,
        rules,
        asked,
        candidate=candidate,
        champion=champion,
        offline=replayed,
        account=account,
        place=place,
        reference=reference,
        standing=standing,
    )


def decide(context: StepContext, evaluated: Evaluated) -> Decided:
    """Puts the evidence before the target's gate, and keeps the decision's record."""
    workspace, target, rules = context.workspace, context.params.target, context.target.gate
    asked = context.target.evidence
    more = {"asked": asked, "offline": evaluated.offline.evidence if evaluated.offline is not None else None}

    def work(key: str) -> Decided:
        replayed = None
        if "offline" in asked and evaluated.offline is not None:
            replayed = read_offline(offline_path(workspace, evaluated.offline.evidence))
        decision = _judged(context, evaluated, asked, replayed)
        write_json(decision_path(workspace, decision.digest), decision.model_dump(mode="json"))
        return Decided(
            evaluated=evaluated, decision=decision.digest, verdict=decision.verdict, reasons=decision.reasons
        )

    inputs = {
        "target": target,
        "gate": rules.model_dump(mode="json"),
        "evidence": evaluated.evidence,
        "champion_evidence": evaluated.champion_evidence,
        "code": code_digest("posa_vla.promotion.verdict", "posa_vla.promotion.tries"),
        **({} if evaluated.reference is None else {"reference": [evaluated.reference, evaluated.reference_evidence]}),
        **({} if asked == ["simulation"] else more),
    }
    result = context.ledger.step(
        "decide",
        inputs,
        Decided,
        work,
        sound=lambda decided: decision_path(workspace, decided.decision).is_file(),
        before={"evaluated": evaluated},
    )
    return context.keep(result)
