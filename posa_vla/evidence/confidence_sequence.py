"""Confidence sequences: intervals for a mean that hold at all looks together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.evidence.betting import Claim, Floats, log_money

# Steps of the range in which bounds are looked for; a bound is rounded outwards to one.
_STEPS = 1000


def confidence_sequence(
    values: NDArray[Any], confidence: float = 0.95, *, low: float = -1.0, high: float = 1.0
) -> tuple[Floats, Floats]:
    """Bounds of the mean after each value; with the stated confidence it is between all of them.

    Each half of the error is spent on one side: a threshold is excluded once the bet that the mean is above it, or
    below it, has won 2/alpha (hedged capital, Waudby-Smith and Ramdas 2024, section 4.4, with fixed bets). The money
    on "above" falls as the threshold rises, so that what is not excluded is an interval.

    Args:
        values: (n,), each in [low, high].
        confidence: Of the whole sequence, two-sided.
        low: Smallest value that is possible.
        high: Largest one.

    Returns:
        Lower and upper bounds, (n,) each; the first never fall, the others never rise.

    Raises:
        ValueError: A value is NaN, or outside [low, high].
    """
    values = np.asarray(values, np.float64)
    grid = np.linspace(low, high, _STEPS + 1)
    needed = math.log(2 / (1 - confidence))
    lower, upper = np.full(len(values), low), np.full(len(values), high)
    above = np.stack([Claim(float(c), "above", low, high).gains(values) for c in grid[1:]])
    below = np.stack([Claim(float(c), "below", low, high).gains(values) for c in grid[:-1]])
    for number, (up, down) in enumerate(zip(log_money(above), log_money(below), strict=True)):
        # The largest threshold that the mean is shown to be above, and the smallest that it is shown to be below.
        shown = np.flatnonzero(up >= needed)
        if len(shown):
            lower[number] = grid[shown[-1] + 1]
        shown = np.flatnonzero(down >= needed)
        if len(shown):
            upper[number] = grid[shown[0]]
    return np.maximum.accumulate(lower), np.minimum.accumulate(upper)
