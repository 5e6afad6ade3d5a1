"""The gate with an error rate over the target's life: criteria by e-values, levels by the target's account."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.evidence.account import Account, Try
from posa_vla.evidence.betting import Claim, fewest_values, log_e_process
from posa_vla.evidence.confidence_sequence import confidence_sequence
from posa_vla.evidence.judgement import half_margin_chance
from posa_vla.evidence.record import Evidence
from posa_vla.evidence.reference import Standing
from posa_vla.evidence.verdict import Verdict, claim_of
from posa_vla.params import GateParams
from posa_vla.promotion.gate import Criterion, Decision, gaps

NO_REFERENCE = (
    "small losses would add up: the reference of this target was withdrawn or is lost, and a refresh must not be worse "
    "than it. Name another one with `posa gate reference`, or ask for `superior`"
)
# Chance to reject a candidate that meets all criteria: it costs a training.
REJECT_LEVEL = 0.05


def asked_of(gate: GateParams, champion: Evidence | None, reference: str | None = None) -> str:
    """What a candidate is asked, as its try names it: another question is another try."""
    rival = "nobody" if champion is None else champion.policy_digest
    told = {
        "superior": f"superior to {rival}",
        "non-inferior": f"non-inferior to {rival}{'' if reference in (None, rival) else f' and to {reference}'}",
    }
    asked = [
        f"floor {of.threshold:g}" if of.kind == "floor" else told[of.kind] + (f" by {of.margin:g}" if of.margin else "")
        for of in gate.criteria or []
    ]
    return "; ".join([*asked, f"confidence {gate.confidence:g}"])


def refreshes(gate: GateParams) -> bool:
    """Whether a gate takes candidates that are not better, and so asks about the reference."""
    return any(of.kind == "non-inferior" for of in gate.criteria or [])


@dataclass(frozen=True)
class Place:
    """Where a candidate stands in its target's account.

    Attributes:
        number: Of its try.
        seen: Scenes that it was judged on before.
        level: What it was held against, where the same evidence is decided on once more; None for the account's.
    """

    number: int
    seen: int = 0
    level: float | None = None


class _Shown:
    """What the scenes show of one criterion: passed, failed or neither, by what is reached first.

    Args:
        values: Of each scene, in the order in which they were run.
        claim: About their mean.
        level: Of the promotion.
        reject_level: Of the rejection.
        seen: Scenes that were judged before: at those the level was another one, and nothing is decided.
    """

    def __init__(self, values: NDArray[Any], claim: Claim, level: float, reject_level: float, seen: int) -> None:
        support, against = log_e_process(values, claim), log_e_process(values, claim.opposite())
        up = seen + np.flatnonzero(support[seen:] >= -math.log(level))
        down = seen + np.flatnonzero(against[seen:] >= -math.log(reject_level))
        first_up, first_down = (int(found[0]) if len(found) else len(values) for found in (up, down))
        self.passed = True if first_up < first_down else False if first_down < first_up else None
        self.scenes = min(first_up, first_down, len(values) - 1) + 1
        # Each criterion's bet stops where it is won: the smallest of stopped bets is an e-value as well.
        self.log_e = float(support[min(first_up, len(values) - 1)])
        self.bound = float(confidence_sequence(values, 1 - 2 * level, low=claim.low)[0][-1])


@dataclass(frozen=True)
class _Question:
    """One criterion: its name, the rival on the same scenes if any, the values of each scene, the claim about them."""

    name: str
    rival: str
    values: NDArray[Any]
    claim: Claim


def _questions(
    gate: GateParams, candidate: Evidence, champion: Evidence | None, reference: Evidence | None
) -> list[_Question]:
    solved = np.array([float(row.success) for row in candidate.rows])
    questions = []
    for of in gate.criteria or []:
        if of.kind == "floor":
            questions.append(_Question("success floor", "", solved, claim_of("floor", of.threshold or 0.0)))
            continue
        claim = claim_of(of.kind, of.margin or 0.0)
        rivals = {"champion": champion, **({"reference": reference} if of.kind == "non-inferior" else {})}
        questions += [
            _Question(f"{of.kind} to the {name}", name, solved - _on_the_same(candidate, rival), claim)
            for name, rival in rivals.items()
            if rival is not None
        ]
    return questions


def _on_the_same(candidate: Evidence, rival: Evidence) -> NDArray[np.float64]:
    solved = {row.scene_seed: row.success for row in rival.rows}
    return np.array([float(solved[row.scene_seed]) for row in candidate.rows])


def _words(asked: _Question, shown: _Shown, level: float) -> str:
    values, claim, count = asked.values, asked.claim, len(asked.values)
    if not asked.rival:
        what = f"success {int(values.sum())}/{count}, above {shown.bound:.3f}, and the floor is {claim.threshold:g}"
    else:
        gained, lost = int((values > 0).sum()), int((values < 0).sum())
        what = (
            f"against the {asked.rival} on the same {count} scenes: {gained} gained, {lost} lost; the difference is "
            f"above {shown.bound:+.3f}, and has to be above {claim.threshold:g}"
        )
    needed = f"an e-value of {1 / level:.3g} decides"
    if shown.passed:
        return f"{what}: shown after {shown.scenes} scenes ({needed})"
    if shown.passed is False:
        return f"{what}: the opposite is shown after {shown.scenes} scenes"
    fewest = fewest_values(claim, level)
    more = (
        f"{count} scenes can never decide it at this level, at least {fewest} are needed"
        if fewest > count
        else "more scenes may decide it"
    )
    return f"{what}: not decided, the e-value is {math.exp(min(shown.log_e, 700)):.3g} and {needed}; {more}"


def _price(asked: list[_Question], level: float) -> list[str]:
    """What a margin costs: the chance to promote a candidate that is worse by half of it."""
    for question in asked:
        if question.rival and question.claim.threshold < 0:
            chance = half_margin_chance(-question.claim.threshold, level, question.values)
            if chance is not None:
                worse = f"{-50 * question.claim.threshold:.3g} points worse than the {question.rival}"
                return [f"the margin's price: a candidate that is {worse} is promoted with a chance of {chance:.2g}"]
    return []


def _is_superior(values: NDArray[Any], level: float, seen: int) -> bool:
    return bool((log_e_process(values, Claim(0.0))[seen:] >= -math.log(level)).any())


def without_reference(target: str, gate: GateParams) -> Decision:
    """No decision on a refresh that nothing can be held against: nothing was run, and it is no try."""
    return Decision(
        schema_version=2,
        target=target,
        verdict="no decision",
        reasons=[NO_REFERENCE],
        criteria=[Criterion(name="reference known", passed=None)],
        gate=gate,
        candidate_evidence=None,
        champion_evidence=None,
    )


def decide_over_life(
    target: str,
    gate: GateParams,
    candidate: Evidence,
    champion: Evidence | None,
    account: Account,
    place: Place | None = None,
    *,
    reference: Evidence | None = None,
    standing: Standing | None = None,
) -> Decision:
    """Puts a candidate's evidence before a gate that has criteria.

    Of all candidates of a target that are promoted, the expected share that misses a criterion is at most
    1 - `gate.confidence`. Every criterion is tested at the full level (intersection-union), and the smallest e-value
    enters the account. What is not shown either way is no decision, as are too few episodes; missing, invalid or
    unpaired ones are no decision and no try.

    Args:
        target: Deployment target.
        gate: Its gate, with criteria.
        candidate: Evidence of the candidate, its rows in the order in which its digest draws scenes.
        champion: Evidence of the champion on the same suite, or None where there is no champion.
        account: The target's tries so far.
        place: Place in it of a candidate that goes on or is decided on once more; the next one if None.
        reference: Evidence of the reference on the same suite, where a refresh is asked about it and it is neither
            the champion nor the candidate.
        standing: Champion and reference; the champion is the reference if None.
    """
    rival = None if champion is None else champion.policy_digest
    standing = Standing(rival, rival) if standing is None else standing
    record = {
        "schema_version": 2,
        "target": target,
        "gate": gate,
        "candidate_evidence": candidate.digest,
        "champion_evidence": None if champion is None else champion.digest,
        "reference": standing.reference,
        "reference_evidence": None if reference is None else reference.digest,
    }
    missing = gaps(gate, candidate, champion, reference)
    # Whole evidence of too few episodes shows how the candidate does: it is a try, or one could look for free.
    too_few = not gaps(gate.model_copy(update={"min_episodes": 1}), candidate, champion, reference)
    if missing and not too_few:
        incomplete = Criterion(name="evidence complete", passed=None)
        return Decision(verdict="no decision", reasons=missing, criteria=[incomplete], **record)
    if refreshes(gate) and champion is not None and not standing.decidable:
        unknown = Criterion(name="reference known", passed=None)
        return Decision(verdict="no decision", reasons=[NO_REFERENCE], criteria=[unknown], **record)
    place = Place(account.next_number) if place is None else place
    number, level = place.number, account.level(place.number) if place.level is None else place.level
    asked = _questions(gate, candidate, champion, reference)
    criteria, reasons, found = [Criterion(name="evidence complete", passed=True)], [], []
    for of in asked:
        shown = _Shown(of.values, of.claim, level, REJECT_LEVEL / len(asked), place.seen)
        criteria.append(Criterion(name=of.name, passed=shown.passed, bound=shown.bound, threshold=of.claim.threshold))
        reasons.append(_words(of, shown, level))
        found.append(shown)
    answers = [shown.passed for shown in found]
    verdict: Verdict = "promote" if all(answers) else "reject" if False in answers else "no decision"
    if missing:
        verdict, reasons = "no decision", [*missing, *reasons]
    reasons += _price(asked, level)
    lifts = False
    if verdict == "promote" and champion is not None:
        of_reference = champion if standing.reference == champion.policy_digest else reference
        if of_reference is not None:
            solved = np.array([float(row.success) for row in candidate.rows])
            lifts = _is_superior(solved - _on_the_same(candidate, of_reference), level, place.seen)
    reasons.append(
        f"try {number} of the target, after {account.promoted} promotions: of all its promotions by such criteria, at "
        f"most {max(account.alpha, account.laxest):.3g} are false on average"
    )
    tried = Try(
        candidate=candidate.policy_digest,
        asked=asked_of(gate, champion, standing.reference),
        number=number,
        log_e=min(shown.log_e for shown in found),
        level=level,
        verdict=verdict,
        seen=place.seen,
    )
    return Decision(verdict=verdict, reasons=reasons, criteria=criteria, tried=tried, lifts_reference=lifts, **record)
