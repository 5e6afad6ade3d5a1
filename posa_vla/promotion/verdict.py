"""The verdict on a candidate: what the target asks for, each kind of evidence by its own criteria."""

from __future__ import annotations

from typing import Any

from posa_vla.errors import BadInput
from posa_vla.evidence.account import Account, Try
from posa_vla.evidence.offline import MAY_KNOW, OfflineEvidence, OfflineFigures
from posa_vla.evidence.record import Evidence
from posa_vla.evidence.reference import Standing
from posa_vla.params import GateParams
from posa_vla.promotion.gate import Criterion, Decision, Verdict
from posa_vla.promotion.gate import decide as decide_by_rollouts
from posa_vla.promotion.lifetime_gate import Place, decide_over_life, refreshes, without_reference
from posa_vla.target_params import Proof

NO_TRIALS = "robot trials are missing: nothing but trials on the robot shows that this candidate does its task there"
KEEP_APART = (
    "Train it from scratch, or start it from a policy whose data hold out the same episodes (40 or more keep sides)"
)
NO_SUCCESS = "errors on held-out episodes are no evidence of success, and the target asks for no other: add robot"


def judge(
    target: str,
    gate: GateParams,
    asked: list[Proof],
    *,
    candidate: Evidence | None = None,
    champion: Evidence | None = None,
    offline: OfflineEvidence | None = None,
    account: Account | None = None,
    place: Place | None = None,
    reference: Evidence | None = None,
    standing: Standing | None = None,
) -> Decision:
    """Puts a candidate's evidence before a target's gate.

    What fails in simulation is rejected. Otherwise evidence that is missing is no decision, whatever the rest says:
    errors on held-out episodes may show that a policy is broken, never that it works.

    Args:
        target: Deployment target.
        gate: Its gate.
        asked: Kinds of evidence that it asks for.
        candidate: Rollouts of the candidate, where simulation is asked for; None too where a refresh has no reference
            to be held against, and was not run.
        champion: The champion's on the same scenes, or None where there is no champion.
        offline: The candidate's errors on held-out episodes, where these are asked for.
        account: The target's tries so far, where its gate has criteria.
        place: Place in it of a candidate that goes on.
        reference: The reference's rollouts on the same scenes, where a refresh is asked about it.
        standing: Champion and reference of the target, where its gate has criteria.

    Raises:
        BadInput: Evidence that is asked for was not made.
    """
    criteria: list[Criterion] = []
    reasons: list[str] = []
    refuted = False
    held: dict[str, Any] = {}
    lifts = False
    tried: Try | None = None
    if "robot" in asked:
        criteria.append(Criterion(name="robot trials", passed=None))
        reasons.append(NO_TRIALS)
    if "simulation" in asked:
        unheld = standing is not None and refreshes(gate) and not standing.decidable
        if candidate is None and not unheld:
            raise BadInput(f"target {target!r} asks for evidence from simulation, and there is none: evaluate first")
        if candidate is None:
            rollouts = without_reference(target, gate)
        elif gate.criteria is None:
            rollouts = decide_by_rollouts(target, gate, candidate, champion)
        else:
            begun = Account(alpha=1 - gate.confidence) if account is None else account
            rollouts = decide_over_life(
                target, gate, candidate, champion, begun, place, reference=reference, standing=standing
            )
        tried = rollouts.tried
        held = {"reference": rollouts.reference, "reference_evidence": rollouts.reference_evidence}
        lifts = rollouts.lifts_reference
        criteria += rollouts.criteria
        reasons += rollouts.reasons
        refuted = rollouts.verdict == "reject"
    if "offline" in asked:
        if offline is None:
            raise BadInput(f"target {target!r} asks for offline evidence, and there is none: evaluate first")
        found, words = offline_criteria(offline)
        criteria += found
        reasons += words
    answers = [criterion.passed for criterion in criteria]
    verdict: Verdict = "promote"
    if refuted or (False in answers and None not in answers):
        verdict = "reject"
    elif None in answers:
        verdict = "no decision"
    elif asked == ["offline"]:
        verdict = "no decision"
        criteria.append(Criterion(name="evidence of success", passed=None))
        reasons.append(NO_SUCCESS)
    return Decision(
        target=target,
        verdict=verdict,
        reasons=reasons,
        criteria=criteria,
        gate=gate,
        candidate_evidence=None if candidate is None else candidate.digest,
        champion_evidence=None if champion is None else champion.digest,
        offline_evidence=None if offline is None else offline.digest,
        schema_version=1 if gate.criteria is None else 2,
        lifts_reference=lifts and verdict == "promote",
        **held,
        tried=None if tried is None else tried.model_copy(update={"verdict": verdict}),
    )


def offline_criteria(evidence: OfflineEvidence) -> tuple[list[Criterion], list[str]]:
    """Whether actions are numbers, within limits, and nearer to what was done than both baselines; and in words.

    How near they are is not known of a policy that may have been trained on these episodes.
    """
    figures = OfflineFigures.of(evidence)
    if not figures.episodes:
        return [Criterion(name="held-out episodes", passed=None)], [figures.unknown]
    on = "one episode" if figures.episodes == 1 else f"{figures.episodes} held-out episodes"
    if figures.policy is None or figures.hold is None or figures.nearest is None:
        return [Criterion(name="actions are numbers", passed=False)], [f"actions that are no numbers, on {on}"]
    criteria = [
        Criterion(name="actions are numbers", passed=True),
        Criterion(name="actions within limits", passed=figures.outside == 0, bound=-figures.outside, threshold=0),
    ]
    reasons = [f"{figures.outside:.1%} of the actions are beyond the limits"] if figures.outside else []
    for name, other in (("holding the pose", figures.hold), ("the nearest demonstration", figures.nearest)):
        gained = other - figures.policy
        passed = None if figures.may_know else gained > 0
        criteria.append(Criterion(name=f"nearer than {name}", passed=passed, bound=gained, threshold=0))
        reasons.append(
            f"offline, on {on}: error {figures.policy:.3f} of the channels' scales, "
            f"{'better' if gained > 0 else 'not better'} than {name} ({other:.3f})"
        )
    if figures.may_know:
        reasons.append(f"offline errors decide nothing here: {MAY_KNOW}. {KEEP_APART}")
    return criteria, reasons
