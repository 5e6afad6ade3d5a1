"""The life of a target under a rule of promotion: night after night a candidate, and sometimes a new champion."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from posa_vla.evidence.account import level_of
from posa_vla.evidence.betting import STAKES, Claim
from posa_vla.evidence.intervals import clopper_pearson_lower, paired_difference_lower
from posa_vla.evidence.verdict import PROMOTE, Course, first_verdicts

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]
Bools = NDArray[np.bool_]
# A stream of candidates: (random numbers, the champion's success) -> the candidate's, for all lifetimes.
Candidates = Callable[[np.random.Generator, Floats], Floats]

ALPHA, PAIRS, MARGIN = 0.05, 400, 0.05
# Discordant pairs of one kind that tables reach to, where the margin makes them depend on the number of pairs.
_CAP = 300
# Lifetimes that are simulated together.
_BLOCK = 1000


class Money:
    """Logarithms of e-values of paired successes, looked up by counts: what `log_e_process` gives, many times faster.

    Args:
        claim: About the difference.
    """

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        growth = np.log1p(STAKES[:, None] * (claim.gains(np.array([-1.0, 0.0, 1.0])) - 1))
        self._steady = claim.threshold == 0  # equal outcomes change nothing, so that one table is all tables
        self._cap = PAIRS if self._steady else _CAP
        gained = np.arange(self._cap + 1)[:, None, None]
        lost = np.arange(self._cap + 1)[None, :, None]
        uneven = gained * (growth[:, 2] - growth[:, 1]) + lost * (growth[:, 0] - growth[:, 1])
        numbers = [0] if self._steady else range(1, PAIRS + 1)
        self._table = np.empty((len(numbers), self._cap + 1, self._cap + 1), np.float32)
        for place, number in enumerate(numbers):
            each = uneven + number * growth[:, 1]
            top = each.max(-1)
            self._table[place] = top + np.log(np.exp(each - top[..., None]).mean(-1))

    def __call__(self, gained: Counts, lost: Counts) -> Floats:
        """(R, n) of counts (R, n) after each pair."""
        if max(gained.max(), lost.max()) > self._cap:
            raise ValueError(f"more than {self._cap} discordant pairs of one kind: raise _CAP")
        number = 0 if self._steady else np.arange(gained.shape[1])
        found: Floats = self._table[number, gained, lost].astype(np.float64)
        return found


@dataclass
class Night:
    """What all lifetimes see in one night: who solved which of the scenes, (R, n) each."""

    candidate: Bools
    champion: Bools
    reference: Bools
    level: Floats

    def counts(self, other: Bools) -> tuple[Counts, Counts]:
        """Scenes that the candidate alone solved, and the other alone, after each pair."""
        gained, lost = self.candidate & ~other, other & ~self.candidate
        return gained.cumsum(1, dtype=np.int32), lost.cumsum(1, dtype=np.int32)


class Gate:
    """Ours: superior to the champion, or a refresh: not worse than champion and reference by a margin.

    Args:
        margin: 0 for superiority.
    """

    def __init__(self, margin: float = 0.0) -> None:
        self.margin = margin
        self.support, self.against = Money(Claim(-margin)), Money(Claim(-margin).opposite())

    def __call__(self, night: Night) -> Bools:
        """Who is promoted."""
        sides = [night.champion, night.reference] if self.margin else [night.champion]
        counts = [night.counts(side) for side in sides]
        support = np.minimum.reduce([self.support(*count) for count in counts])
        against = np.maximum.reduce([self.against(*count) for count in counts]) - math.log(len(sides))
        verdicts, _ = first_verdicts(Course(support, against), night.level)
        found: Bools = verdicts == PROMOTE
        return found


def higher_mean(night: Night) -> Bools:
    """The mean of 50 scenes is higher."""
    found: Bools = night.candidate[:, :50].sum(1) > night.champion[:, :50].sum(1)
    return found


@functools.cache
def _significant() -> Bools:
    """By counts of pairs gained and lost: whether a one-sided exact McNemar test at 0.05 says so."""
    counts = np.arange(PAIRS + 1)
    return np.asarray(stats.binom.sf(counts[:, None] - 1, np.add.outer(counts, counts), 0.5) <= ALPHA)


def fixed_n(night: Night) -> Bools:
    """A sign test at 0.05 after 100 scenes, once."""
    gained, lost = night.counts(night.champion)
    return np.asarray(_significant()[gained[:, 99], lost[:, 99]])


def peeking(night: Night) -> Bools:
    """The same test after every scene up to 400, stopped when it is significant."""
    gained, lost = night.counts(night.champion)
    return np.asarray(_significant()[gained, lost].any(1))


@functools.cache
def _bounds() -> tuple[Floats, Floats]:
    """Of 50 scenes: Tango's by those gained and lost, Clopper and Pearson's by those solved."""
    difference = [[paired_difference_lower(a, b, 50) for b in range(51)] for a in range(51)]
    return np.array(difference), np.array([clopper_pearson_lower(k, 50) for k in range(51)])


def gate_of_params(night: Night) -> Bools:
    """`promotion/gate.py` with the shipped `gate:` block, 50 scenes: floor 0.25, not worse by 0.15 (Tango's bound)."""
    gained, lost = (count[:, 49] for count in night.counts(night.champion))
    difference, floor = _bounds()
    found: Bools = (difference[gained, lost] > -0.15) & (floor[night.candidate[:, :50].sum(1)] > 0.25)
    return found


@dataclass(frozen=True)
class Lifetimes:
    """What became of R targets.

    Attributes:
        champions: (R, nights + 1) true success of the champion before the first night and after each.
        promoted: (R,) promotions.
        false: (R,) promotions of a candidate that was no better, or worse by the margin or more.
    """

    champions: Floats
    promoted: NDArray[np.int64]
    false: NDArray[np.int64]

    @property
    def false_share(self) -> Floats:
        """(R,) share of the promotions that were false; 0 without any."""
        found: Floats = self.false / np.maximum(self.promoted, 1)
        return found

    @property
    def lost(self) -> Floats:
        """(R,) success that was lost from the first night to the last."""
        found: Floats = self.champions[:, 0] - self.champions[:, -1]
        return found


def live(rule: Callable[[Night], Bools], candidates: Candidates, *, start: float, runs: int, nights: int) -> Lifetimes:
    """Simulates lifetimes; scenes are new every night, and policies succeed on them independently of each other.

    Args:
        rule: Who is promoted.
        candidates: Success of each night's candidate.
        start: Success of the first champion, which is the reference too.
        runs: Lifetimes.
        nights: Of each.
    """
    parts = []
    margin = rule.margin if isinstance(rule, Gate) else 0.0
    for block in range(0, runs, _BLOCK):
        size = min(_BLOCK, runs - block)
        rng = np.random.default_rng([17, block])
        champion = np.full(size, start)
        reference = champion.copy()
        promoted, false = np.zeros(size, np.int64), np.zeros(size, np.int64)
        history = [champion]
        for number in range(1, nights + 1):
            candidate = np.clip(candidates(rng, champion), 0.0, 1.0)
            ours, theirs, best = (
                rng.random((size, PAIRS), np.float32) < of[:, None] for of in (candidate, champion, reference)
            )
            passed = rule(Night(ours, theirs, best, np.asarray(level_of(number, promoted, ALPHA), np.float64)))
            edge = np.maximum(champion, reference) - margin if margin else champion
            promoted, false = promoted + passed, false + (passed & (candidate <= edge + 1e-9))
            champion = np.where(passed, candidate, champion)
            history.append(champion)
        parts.append(Lifetimes(np.stack(history, 1), promoted, false))
    return Lifetimes(
        np.concatenate([part.champions for part in parts]),
        np.concatenate([part.promoted for part in parts]),
        np.concatenate([part.false for part in parts]),
    )
