"""How many pairs a test needs, and how likely it ends how: computed, not simulated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from posa_vla.errors import BadInput
from posa_vla.evidence.account import level_of
from posa_vla.evidence.betting import STAKES, Claim, Floats, fewest_values

# More pairs than these are beyond float64 here: money doubles with a pair at most.
MOST_PAIRS = 1000
# Chances below it are dropped: all of them together stay under 1e-9.
_NOTHING = 1e-18


@dataclass(frozen=True)
class Outlook:
    """How a test ends that looks after every pair.

    Attributes:
        promote: (n,) chance to have promoted after at most so many pairs.
        reject: (n,) chance to have rejected.
    """

    promote: Floats
    reject: Floats

    @property
    def expected_pairs(self) -> float:
        """Pairs on average until the verdict, or the largest number."""
        return float(1 + (1 - self.promote - self.reject)[:-1].sum())

    def pairs_for(self, power: float) -> int | None:
        """Fewest pairs that promote with this chance; None where all of them do not suffice."""
        reached = np.flatnonzero(self.promote >= power)
        return int(reached[0]) + 1 if len(reached) else None


def _money(claim: Claim, pairs: int) -> tuple[Floats, Floats, Floats]:
    """Factors of the money of each stake by counts of -1, 0 and +1: (pairs + 1, stakes) each."""
    growth: Floats = 1 + STAKES * (claim.gains(np.array([-1.0, 0.0, 1.0]))[:, None] - 1)
    lost, same, gained = growth[:, None, :] ** np.arange(pairs + 1)[None, :, None]
    return lost, same, gained


def _span(alive: Floats, axis: int) -> slice:
    """Along the axis that is left, from the first place where something is to the last."""
    places = np.flatnonzero(alive.any(axis))
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def outlook(
    gained: float, lost: float, claim: Claim, *, level: float, reject_level: float = 0.05, pairs: int = 400
) -> Outlook:
    """Chances of a paired test of successes, by dynamic programming over the counts of both kinds of discordant pairs.

    Args:
        gained: Chance that the candidate alone succeeds on a scene.
        lost: Chance that the champion alone does.
        claim: About the difference in [-1, 1].
        level: Of a promotion.
        reject_level: Of a rejection.
        pairs: Largest number, at most 1000.

    Raises:
        ValueError: The chances are none, or there are too many pairs.
    """
    if min(gained, lost) < 0 or gained + lost > 1:
        raise ValueError(f"chances {gained} and {lost} that one of two policies alone succeeds: their sum exceeds 1")
    if not 1 <= pairs <= MOST_PAIRS:
        raise ValueError(f"{pairs} pairs, expected 1 to {MOST_PAIRS}")
    sides = [(_money(claim, pairs), -math.log(level)), (_money(claim.opposite(), pairs), -math.log(reject_level))]
    # By pairs gained and lost: the chance to be there and undecided.
    alive = np.zeros((pairs + 2, pairs + 2))
    alive[0, 0] = 1.0
    chances = np.zeros((2, pairs))
    for number in range(1, pairs + 1):
        before = alive[:number, :number].copy()
        alive[: number + 1, : number + 1] *= 1 - gained - lost
        alive[1 : number + 1, :number] += gained * before
        alive[:number, 1 : number + 1] += lost * before
        alive[alive < _NOTHING] = 0.0
        rows, columns = _span(alive, 1), _span(alive, 0)
        there = alive[rows, columns]
        for side, ((down, level_, up), needed) in enumerate(sides):
            # Money = mean over stakes of up^gained x down^lost x level^(all others).
            won = up[rows] / level_[rows] * (level_[number] / len(STAKES))
            money = np.einsum("ak,bk->ab", won, down[columns] / level_[columns])
            done = money >= math.exp(needed)
            chances[side, number - 1] = there[done].sum()
            there[done] = 0.0
    promote, reject = np.cumsum(chances, axis=1)
    return Outlook(promote, reject)


def _require_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise BadInput(f"{name} {value:g}, expected a share between 0 and 1")


def _discordant(name: str, ours: float, theirs: float, discordance: float) -> tuple[float, float]:
    """Chances that either policy alone succeeds, where they differ in success and disagree on so many scenes."""
    most, least = min(ours + theirs, 2 - ours - theirs), abs(ours - theirs)
    if not least - 1e-12 <= discordance <= most + 1e-12:
        raise BadInput(
            f"{name} {discordance:g}: policies that succeed on {ours:g} and {theirs:g} of the scenes disagree on "
            f"{least:g} to {most:g} of them"
        )
    return max((discordance + ours - theirs) / 2, 0.0), max((discordance - ours + theirs) / 2, 0.0)


def plan_pairs(
    *,
    champion: float,
    candidate: float,
    discordance: float | None = None,
    margin: float = 0.0,
    level: float = 0.05,
    retraining: int | None = None,
    promoted: int = 0,
    power: float = 0.8,
    n_max: int = 400,
) -> dict[str, Any]:
    """How many pairs promote a candidate that is as good as hoped.

    Args:
        champion: Its success.
        candidate: Success that is hoped for.
        discordance: Share of the scenes that one of both alone solves; by default they succeed independently.
        margin: 0 for superiority.
        level: Chance of a false promotion; with `retraining`, the share of false promotions over the target's life.
        retraining: Number of this try in the target's account.
        promoted: Promotions before it.
        power: Wished chance to promote.
        n_max: Pairs at most.

    Returns:
        `level`, `pairs` (None: more than n_max), `chance` within n_max, `expected_pairs`, `fewest_pairs`,
        `chance_false` on the edge of the claim, `chance_at_half_margin` (None without a margin).

    Raises:
        BadInput: A number is out of its range, or so few pairs can never decide at this level.
    """
    for name, value in (("champion", champion), ("candidate", candidate), ("power", power), ("level", level)):
        _require_share(name, value)
    if not 0 <= margin < 1 or level in (0, 1) or not 1 <= n_max <= MOST_PAIRS:
        raise BadInput(
            f"margin {margin:g}, level {level:g}, {n_max} pairs; expected a margin in [0, 1), a level in (0, 1) and 1 "
            f"to {MOST_PAIRS} pairs"
        )
    if retraining is not None:
        if not 0 <= promoted < retraining:
            raise BadInput(
                f"retraining {retraining} after {promoted} promotions: each promotion is a retraining before it"
            )
        level = float(level_of(retraining, promoted, level))
    independent = candidate * (1 - champion) + champion * (1 - candidate)
    share = independent if discordance is None else discordance
    gained, lost = _discordant("discordance", candidate, champion, share)
    claim = Claim(-margin)
    fewest = fewest_values(claim, level)
    if fewest > n_max:
        raise BadInput(
            f"{n_max} pairs can never promote at level {level:.3g}: even a candidate that wins every one of them needs "
            f"{fewest}; raise the number of pairs, or accept a higher level"
        )

    def chances(difference: float) -> Outlook:
        of = min(max(share, abs(difference)), 1.0)
        return outlook((of + difference) / 2, (of - difference) / 2, claim, level=level, pairs=n_max)

    hoped = outlook(gained, lost, claim, level=level, pairs=n_max)
    return {
        "level": level,
        "pairs": hoped.pairs_for(power),
        "chance": float(hoped.promote[-1]),
        "expected_pairs": hoped.expected_pairs,
        "fewest_pairs": fewest,
        "chance_false": float(chances(-margin).promote[-1]),
        "chance_at_half_margin": float(chances(-margin / 2).promote[-1]) if margin else None,
    }
