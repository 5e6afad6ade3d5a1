"""How many pairs a test needs, and how likely it ends how: computed, not simulated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from posa_vla.evidence.betting import STAKES, Claim, Floats

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
