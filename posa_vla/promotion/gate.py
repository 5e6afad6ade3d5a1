"""The promotion gate: evidence in, a verdict in words out, with a stated chance of a wrong promotion."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from posa_vla.evidence.account import Try
from posa_vla.evidence.intervals import clopper_pearson_lower, paired_difference_lower
from posa_vla.evidence.record import Evidence
from posa_vla.files import sha256_json
from posa_vla.params import GateParams
from posa_vla.policy.execution import JUDGED
from posa_vla.schema import Closed


def _absent(value: object) -> bool:
    return value is None


def _no(value: bool) -> bool:
    return not value


Verdict = Literal["promote", "reject", "no decision"]


class Criterion(Closed):
    """One question that the gate asked.

    Attributes:
        name: What was asked.
        passed: The answer; None where the evidence does not allow one.
        bound: The confidence bound behind the answer.
        threshold: What the bound has to exceed.
    """

    name: str
    passed: bool | None
    bound: float | None = None
    threshold: float | None = None


class Decision(Closed):
    """What the gate made of the evidence.

    Attributes:
        target: Deployment target.
        verdict: `promote` only if every criterion passed; `no decision` where one could not be answered.
        reasons: The verdict in words, with the numbers.
        gate: The gate's configuration.
        candidate_evidence: Digest of the candidate's rollouts; None where the target asks for none.
        champion_evidence: Digest of the champion's rollouts, or None where there was no champion.
        offline_evidence: Digest of the candidate's errors on held-out episodes, where the target asks for them.
        reference: Bundle digest of the policy that small losses are counted from, where the gate has criteria and
            there is one (see `posa_vla.evidence.reference`).
        reference_evidence: Digest of its rollouts on the same scenes, where it was asked and is not the champion.
        lifts_reference: Whether the candidate was shown to be superior to the reference: promoted, it is the next one.
        tried: Its place in the target's account, where the gate has criteria; such a record has version 2.
    """

    schema_version: Literal[1, 2] = 1
    target: str
    verdict: Verdict
    reasons: list[str]
    criteria: list[Criterion]
    gate: GateParams
    candidate_evidence: str | None
    champion_evidence: str | None
    offline_evidence: str | None = Field(default=None, exclude_if=_absent)
    reference: str | None = Field(default=None, exclude_if=_absent)
    reference_evidence: str | None = Field(default=None, exclude_if=_absent)
    lifts_reference: bool = Field(default=False, exclude_if=_no)
    tried: Try | None = Field(default=None, exclude_if=_absent)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the record."""
        return sha256_json(self.model_dump(mode="json"))


def _gap_in(name: str, evidence: Evidence, gate: GateParams) -> str | None:
    """Why the evidence allows no decision, or None."""
    bad = [row for row in evidence.rows if row.return_code != "ok"]
    if bad:
        return f"{name}: {len(bad)} of {evidence.planned} episodes have no valid outcome (first: {bad[0].return_code})"
    if len(evidence.rows) != evidence.planned:
        return f"{name}: {len(evidence.rows)} of {evidence.planned} planned episodes are there"
    if len({row.scene_seed for row in evidence.rows}) != len(evidence.rows):
        return f"{name}: a scene was counted twice"
    if len(evidence.rows) < gate.min_episodes:
        return f"{name}: {len(evidence.rows)} episodes, the gate asks for at least {gate.min_episodes}"
    return None


def conditions_of(evidence: Evidence) -> dict[str, Any]:
    """What both policies must have been run under; how each one is executed is its own."""
    return {name: value for name, value in evidence.suite.items() if name not in JUDGED}


def gaps(
    gate: GateParams, candidate: Evidence, champion: Evidence | None, reference: Evidence | None = None
) -> list[str]:
    """Why the evidence allows no decision, in words; nothing where it does."""
    found = [_gap_in("candidate", candidate, gate)]
    for name, rival in (("champion", champion), ("reference", reference)):
        if rival is None:
            continue
        found.append(_gap_in(name, rival, gate))
        seeds = [{row.scene_seed for row in evidence.rows} for evidence in (candidate, rival)]
        if conditions_of(candidate) != conditions_of(rival) or seeds[0] != seeds[1]:
            found.append(f"candidate and {name} did not run the same scenes under the same conditions")
    return [gap for gap in found if gap is not None]


def _success(gate: GateParams, evidence: Evidence) -> tuple[Criterion, str]:
    solved, trials = sum(row.success for row in evidence.rows), len(evidence.rows)
    bound = clopper_pearson_lower(solved, trials, gate.confidence)
    passed = bound > gate.success_floor
    words = (
        f"success {solved}/{trials}: above {bound:.3f} with {gate.confidence:.0%} confidence, "
        f"{'which clears' if passed else 'which does not clear'} the floor of {gate.success_floor:g}"
    )
    return Criterion(name="success floor", passed=passed, bound=bound, threshold=gate.success_floor), words


def _non_inferiority(gate: GateParams, candidate: Evidence, champion: Evidence) -> tuple[Criterion, str]:
    ours = {row.scene_seed: row.success for row in candidate.rows}
    theirs = {row.scene_seed: row.success for row in champion.rows}
    gained = sum(ours[seed] and not theirs[seed] for seed in ours)
    lost = sum(theirs[seed] and not ours[seed] for seed in ours)
    bound = paired_difference_lower(gained, lost, len(ours), gate.confidence)
    passed = bound > -gate.margin
    words = (
        f"against the champion on the same {len(ours)} scenes: {gained} gained, {lost} lost; the difference is above "
        f"{bound:+.3f} with {gate.confidence:.0%} confidence, {'within' if passed else 'not within'} "
        f"the margin of {-gate.margin:g}"
    )
    return Criterion(name="non-inferior to the champion", passed=passed, bound=bound, threshold=-gate.margin), words


def decide(target: str, gate: GateParams, candidate: Evidence, champion: Evidence | None) -> Decision:
    """Puts a candidate's evidence, and the champion's on the same scenes, before a target's gate.

    A candidate whose true success rate is at the floor or below is promoted with a chance of at most
    1 - `gate.confidence`; so is one that is worse than the champion by the margin or more, up to the accuracy of the
    score interval. Missing, invalid or unpaired episodes are no decision, never a pass.

    Args:
        target: Deployment target.
        gate: Its gate.
        candidate: Evidence of the candidate.
        champion: Evidence of the champion on the same suite, or None where there is no champion.
    """
    criteria: list[Criterion] = []
    reasons: list[str] = []
    verdict: Verdict
    missing = gaps(gate, candidate, champion)
    if missing:
        criteria = [Criterion(name="evidence complete", passed=None)]
        reasons, verdict = missing, "no decision"
    else:
        asked = [_success(gate, candidate)]
        if champion is not None:
            asked.append(_non_inferiority(gate, candidate, champion))
        criteria = [Criterion(name="evidence complete", passed=True), *(criterion for criterion, _ in asked)]
        reasons = [words for _, words in asked]
        verdict = "promote" if all(criterion.passed for criterion in criteria) else "reject"
    return Decision(
        target=target,
        verdict=verdict,
        reasons=reasons,
        criteria=criteria,
        gate=gate,
        candidate_evidence=candidate.digest,
        champion_evidence=None if champion is None else champion.digest,
    )
