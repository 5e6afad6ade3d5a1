"""The account of a target: how strong the next promotion's evidence has to be, over the target's whole life.

Of all promotions, the expected share of false ones is at most alpha, for any number of retrainings and whatever they
have in common. This is e-LOND (Xu and Ramdas, "Online multiple testing with e-values", AISTATS 2024): the try with
number t is promoted when its e-value reaches 1 / (alpha x share(t) x (promotions so far + 1)), where the shares of all
numbers together are 1. A try that promotes nothing makes the next level lower, a promotion raises all later ones.

A candidate that ended without a decision may go on with its own e-process: it keeps its number. The proof allows this,
because it asks only that a try's e-value is one whenever it stops, and that the promotions before it are counted.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import zeta

from posa_vla.evidence.verdict import Verdict
from posa_vla.schema import Closed

# How fast the shares fall. It leaves the first try 0.44 of alpha, and the 50th enough that 400 pairs show 20 points.
_EXPONENT = 1.6


def share(number: int | NDArray[Any]) -> Any:
    """Share of alpha that the try with this number (from 1) has; over all numbers they sum to 1."""
    return np.asarray(number, np.float64) ** -_EXPONENT / zeta(_EXPONENT)


def level_of(number: int | NDArray[Any], promoted: int | NDArray[Any], alpha: float) -> Any:
    """1 over the e-value that promotes.

    Args:
        number: Of the try, from 1.
        promoted: Promotions of the target so far.
        alpha: Share of false promotions that is accepted.
    """
    return alpha * share(number) * (np.asarray(promoted) + 1)


class Try(Closed):
    """One candidate that was put to the test.

    Attributes:
        candidate: Its digest.
        asked: What was asked, and of whom. Asked something else, it is a new try.
        number: Place in the account, from 1.
        log_e: Logarithm of its e-value when it stopped.
        level: What it was held against.
        verdict: How it ended.
        seen: Trials that an earlier decision of this try had seen: nothing was decided at those.
    """

    candidate: str
    asked: str
    number: int = Field(ge=1)
    log_e: float
    level: float = Field(gt=0, lt=1)
    verdict: Verdict
    seen: int = Field(default=0, ge=0, exclude_if=lambda value: value == 0)


class Account(Closed):
    """All tries of a target, by their numbers.

    Attributes:
        alpha: Expected share of false promotions among all, at most.
        tries: What was tried.
        laxest: The largest alpha of an earlier try, where it was another one.
    """

    schema_version: Literal[1] = 1
    alpha: float = Field(default=0.05, gt=0, lt=1)
    tries: list[Try] = Field(default_factory=list)
    laxest: float = Field(default=0.0, exclude_if=lambda value: value == 0)

    @property
    def promoted(self) -> int:
        """Candidates that were promoted so far; one that was promoted twice counts once."""
        return len({of.candidate for of in self.tries if of.verdict == "promote"})

    @property
    def next_number(self) -> int:
        """Number of a try that begins now."""
        return max((of.number for of in self.tries), default=0) + 1

    def level(self, number: int) -> float:
        """Level of the try with this number, with the promotions so far of all others; never above alpha."""
        others = len({of.candidate for of in self.tries if of.verdict == "promote" and of.number != number})
        return min(float(level_of(number, others, self.alpha)), self.alpha)

    def after(self, tried: Try) -> Account:
        """The account once a try has stopped; where it went on, what it was before is replaced."""
        others = [of for of in self.tries if of.number != tried.number]
        return self.model_copy(update={"tries": sorted([*others, tried], key=lambda of: of.number)})
