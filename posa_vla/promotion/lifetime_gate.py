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
from posa_vla.evidence.record import Evidence
from posa_vla.evidence.verdict import Verdict, claim_of
from posa_vla.params import CriterionParams, GateParams
from posa_vla.promotion.gate import Criterion, Decision, gaps

# Chance to reject a candidate that meets all criteria: it costs a training.
REJECT_LEVEL = 0.05


def asked_of(gate: GateParams, champion: Evidence | None) -> str:
    """What a candidate is asked, as its try names it: another question is another try."""
    rival = "nobody" if champion is None else champion.policy_digest
    asked = [f"floor {of.threshold:g}" if of.kind == "floor" else f"superior to {rival}" for of in gate.criteria or []]
    return "; ".join([*asked, f"confidence {gate.confidence:g}"])


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


def _words(of: CriterionParams, shown: _Shown, values: NDArray[Any], level: float, claim: Claim) -> str:
    count = len(values)
    if of.kind == "floor":
        what = f"success {int(values.sum())}/{count}, above {shown.bound:.3f}, and the floor is {of.threshold:g}"
    else:
        gained, lost = int((values > 0).sum()), int((values < 0).sum())
        what = (
            f"against the champion on the same {count} scenes: {gained} gained, {lost} lost; the difference is above "
            f"{shown.bound:+.3f}, and has to be above 0"
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


def decide_over_life(
    target: str,
    gate: GateParams,
    candidate: Evidence,
    champion: Evidence | None,
    account: Account,
    place: Place | None = None,
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
    """
    record = {
        "schema_version": 2,
        "target": target,
        "gate": gate,
        "candidate_evidence": candidate.digest,
        "champion_evidence": None if champion is None else champion.digest,
    }
    missing = gaps(gate, candidate, champion)
    # Whole evidence of too few episodes shows how the candidate does: it is a try, or one could look for free.
    too_few = not gaps(gate.model_copy(update={"min_episodes": 1}), candidate, champion)
    if missing and not too_few:
        incomplete = Criterion(name="evidence complete", passed=None)
        return Decision(verdict="no decision", reasons=missing, criteria=[incomplete], **record)
    place = Place(account.next_number) if place is None else place
    number, level = place.number, account.level(place.number) if place.level is None else place.level
    theirs = {} if champion is None else {row.scene_seed: row.success for row in champion.rows}
    solved = np.array([float(row.success) for row in candidate.rows])
    asked = [of for of in gate.criteria or [] if of.kind == "floor" or champion is not None]
    criteria, reasons, found = [Criterion(name="evidence complete", passed=True)], [], []
    for of in asked:
        values = solved if of.kind == "floor" else solved - np.array([theirs[row.scene_seed] for row in candidate.rows])
        claim = claim_of(of.kind, of.threshold or 0.0)
        shown = _Shown(values, claim, level, REJECT_LEVEL / len(asked), place.seen)
        name = "success floor" if of.kind == "floor" else "superior to the champion"
        criteria.append(Criterion(name=name, passed=shown.passed, bound=shown.bound, threshold=claim.threshold))
        reasons.append(_words(of, shown, values, level, claim))
        found.append(shown)
    answers = [shown.passed for shown in found]
    verdict: Verdict = "promote" if all(answers) else "reject" if False in answers else "no decision"
    if missing:
        verdict, reasons = "no decision", [*missing, *reasons]
    reasons.append(
        f"try {number} of the target, after {account.promoted} promotions: of all its promotions by such criteria, at "
        f"most {max(account.alpha, account.laxest):.3g} are false on average"
    )
    tried = Try(
        candidate=candidate.policy_digest,
        asked=asked_of(gate, champion),
        number=number,
        log_e=min(shown.log_e for shown in found),
        level=level,
        verdict=verdict,
    )
    return Decision(verdict=verdict, reasons=reasons, criteria=criteria, tried=tried, **record)
