"""A candidate against a champion, from trials alone: verdict, interval and the evidence over the trials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from posa_vla.errors import BadInput
from posa_vla.evidence.betting import Claim, Floats
from posa_vla.evidence.confidence_sequence import confidence_sequence
from posa_vla.evidence.independent import log_e_independent
from posa_vla.evidence.plan import MOST_PAIRS, outlook
from posa_vla.evidence.trials import Trials, pair_up, require_alike
from posa_vla.evidence.verdict import WORDS, Course, Kind, Verdict, claim_of, course_of, first_verdicts

# Chance of a false rejection, which costs a training and no robot.
REJECT_LEVEL = 0.05


@dataclass(frozen=True)
class Judgement:
    """What trials say of a candidate.

    Attributes:
        kind: What was asked.
        margin: Loss that is accepted; 0 for `superior`.
        level: Chance of a false promotion, however often one looks.
        verdict: As it first became clear.
        decided_after: Trials until then, all of them where it did not.
        course: Evidence after each trial.
        low: Lower bound of the difference in mean score after each trial, of a 95 % confidence sequence.
        high: Upper bound.
        candidate: Mean score.
        champion: Mean score.
        gained: Scenes on which the candidate was better; None where trials are no pairs.
        lost: Scenes on which the champion was better.
        counts: Trials of candidate and champion.
        with_reference: Whether the candidate was compared with a reference too.
        half_margin: Chance to promote a candidate that is worse by half the margin, at the discordance that was seen;
            None without a margin or pairs of successes.
    """

    kind: Kind
    margin: float
    level: float
    verdict: Verdict
    decided_after: int
    course: Course
    low: Floats
    high: Floats
    candidate: float
    champion: float
    gained: int | None
    lost: int | None
    counts: tuple[int, int]
    with_reference: bool
    half_margin: float | None

    @property
    def difference(self) -> float:
        """Mean score of the candidate minus the champion's."""
        return self.candidate - self.champion

    def sentence(self) -> str:
        """The verdict for a person."""
        both, either = (
            f"the champion{word}the reference" if self.with_reference else "the champion" for word in (" and ", " or ")
        )
        better = f"not worse than {both} by {self.margin:g}" if self.margin else f"superior to {both}"
        worse = f"worse than {either}" + (f" by more than {self.margin:g}" if self.margin else "")
        of = f"{self.decided_after} of {max(self.counts)} {'trials a side' if self.gained is None else 'pairs'}"
        seen = (
            f"the difference is {self.difference:+.3f}, and with 95 % confidence between {self.low[-1]:+.3f} and "
            f"{self.high[-1]:+.3f}"
        )
        if self.verdict == "promote":
            chance = f"a false promotion has a chance of at most {self.level:g}"
            return f"promote: the candidate is {better}, shown after {of} ({chance}); {seen}"
        if self.verdict == "reject":
            return f"reject: the candidate is {worse}, shown after {of}; {seen}"
        return f"no decision: {of} show neither that the candidate is {better} nor that it is {worse}; {seen}"

    def to_json(self) -> dict[str, Any]:
        """The figures behind the verdict; e-values as base-10 logarithms."""
        return {
            "verdict": self.verdict,
            "sentence": self.sentence(),
            "kind": self.kind,
            "margin": self.margin,
            "level": self.level,
            "decided_after": self.decided_after,
            "trials": {"candidate": self.counts[0], "champion": self.counts[1], "paired": self.gained is not None},
            "score": {"candidate": self.candidate, "champion": self.champion},
            "gained": self.gained,
            "lost": self.lost,
            "difference": {"value": self.difference, "low": float(self.low[-1]), "high": float(self.high[-1])},
            "log10_e": float(self.course.support[-1]) / math.log(10),
            "log10_e_highest": float(self.course.support.max()) / math.log(10),
            "log10_e_needed": -math.log10(self.level),
            "chance_at_half_margin": self.half_margin,
        }


def _scores(trials: Trials) -> Floats:
    return np.array([trial.score for trial in trials.shuffled])


def _refuse_the_same(candidate: Trials, champion: Trials) -> None:
    if candidate.policy is not None and candidate.policy == champion.policy:
        raise BadInput(
            f"{candidate.source} and {champion.source} are both of policy {candidate.policy!r}: a policy cannot be "
            "judged against itself"
        )
    if candidate.source == champion.source:
        raise BadInput(f"{candidate.source} is given twice: a policy cannot be judged against itself")


def half_margin_chance(margin: float, level: float, differences: Floats) -> float | None:
    """Chance to promote at a true difference of -margin / 2, for successes with the discordance that was seen.

    Args:
        margin: Of non-inferiority.
        level: Of a promotion.
        differences: Of the scenes, candidate minus champion.

    Returns:
        The chance; None without a margin, where there are too many pairs, or where they are no successes.
    """
    if not margin or len(differences) > MOST_PAIRS or not np.isin(differences, (-1, 0, 1)).all():
        return None
    discordance = max(float((differences != 0).mean()), margin / 2)
    gained, lost = (discordance - margin / 2) / 2, (discordance + margin / 2) / 2
    chances = outlook(gained, lost, Claim(-margin), level=level, reject_level=REJECT_LEVEL, pairs=len(differences))
    return float(chances.promote[-1])


def kind_of(margin: float, level: float) -> Kind:
    """What is asked: superiority without a margin, else non-inferiority.

    Raises:
        BadInput: Margin or level is out of range.
    """
    if not 0 <= margin < 1:
        raise BadInput(f"margin {margin:g}, expected 0 (superior) or a loss below 1 that is accepted (non-inferior)")
    if not 0 < level < 1:
        raise BadInput(f"level {level:g}, expected a chance of a false promotion between 0 and 1, such as 0.05")
    return "non-inferior" if margin else "superior"


def judge_pairs(
    candidate: Trials,
    champion: Trials,
    *,
    margin: float = 0.0,
    level: float = 0.05,
    reference: Trials | None = None,
    in_order: bool = False,
) -> Judgement:
    """Judges a candidate by trials on the same scenes, looked at in an order that does not follow files or tasks.

    Args:
        candidate: Its trials.
        champion: Trials of the policy in use.
        margin: 0 asks for superiority; more for non-inferiority, and names the price.
        level: Chance of a false promotion.
        reference: Trials of the policy that small losses are counted from; the candidate must hold the same against it.
        in_order: Whether the trials stand in an order that was drawn before they were run, so that one may stop early.

    Raises:
        BadInput: A scene is on one side only, both sides are one policy, or a number is out of range.
    """
    kind = kind_of(margin, level)
    _refuse_the_same(candidate, champion)
    sides = [champion] if reference is None else [champion, reference]
    values = [
        np.array([ours.score - theirs.score for ours, theirs in pair_up(candidate, side, in_order=in_order)])
        for side in sides
    ]
    course = course_of(values, [claim_of(kind, margin)] * len(sides))
    verdict, used = first_verdicts(course, level, REJECT_LEVEL)
    low, high = confidence_sequence(values[0])
    return Judgement(
        kind=kind,
        margin=margin,
        level=level,
        verdict=WORDS[int(verdict)],
        decided_after=int(used),
        course=course,
        low=low,
        high=high,
        candidate=float(_scores(candidate).mean()),
        champion=float(_scores(champion).mean()),
        gained=int((values[0] > 0).sum()),
        lost=int((values[0] < 0).sum()),
        counts=(len(candidate.trials), len(champion.trials)),
        with_reference=reference is not None,
        half_margin=half_margin_chance(margin, level, values[0]),
    )


def judge_independent(candidate: Trials, champion: Trials, *, margin: float = 0.0, level: float = 0.05) -> Judgement:
    """Judges a candidate by trials that are no pairs: other scenes, or scenes that nobody can repeat.

    Args:
        candidate: Its trials.
        champion: Trials of the policy in use.
        margin: See `judge_pairs`.
        level: Chance of a false promotion.

    Raises:
        BadInput: Both sides are one policy, or a number is out of range.
    """
    kind = kind_of(margin, level)
    _refuse_the_same(candidate, champion)
    require_alike(candidate, champion)
    ours, theirs = _scores(candidate), _scores(champion)
    course = Course(log_e_independent(ours, theirs, margin), log_e_independent(theirs, ours, -margin))
    verdict, used = first_verdicts(course, level, REJECT_LEVEL)
    # Each side's bounds err half as often, so that both hold together.
    bounds = [confidence_sequence(scores, 0.975, low=0.0) for scores in (ours, theirs)]
    looks = np.arange(len(course.support))
    (low, high), (their_low, their_high) = (
        tuple(side[np.minimum(looks, len(side) - 1)] for side in pair) for pair in bounds
    )
    return Judgement(
        kind=kind,
        margin=margin,
        level=level,
        verdict=WORDS[int(verdict)],
        decided_after=int(used),
        course=course,
        low=low - their_high,
        high=high - their_low,
        candidate=float(ours.mean()),
        champion=float(theirs.mean()),
        gained=None,
        lost=None,
        counts=(len(ours), len(theirs)),
        with_reference=False,
        half_margin=None,
    )
