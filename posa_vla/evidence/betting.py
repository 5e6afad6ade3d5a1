"""Betting e-processes for the mean of bounded values: evidence that stays valid however often one looks.

A gambler starts with one unit of money and bets, before each value is seen, that the claim is true. Where the claim is
false no strategy of betting wins on average. So the chance that the money ever reaches 1/alpha is at most alpha (Ville
1939), at whichever of the looks one stops. The money after n values is the e-value (Waudby-Smith and Ramdas,
"Estimating means of bounded random variables by betting", JRSS B 2024; Ramdas et al., "Game-theoretic statistics and
safe anytime-valid inference", Statistical Science 2023). Here the money is spread evenly over fixed bets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Shares of the largest bet that cannot be ruined, evenly spread: a small advantage is best bet on with a small share.
_BETS = 24
STAKES: Floats = (np.arange(_BETS) + 0.5) / _BETS
# Values between two rescalings of the money, so that neither a long win nor a long loss leaves the range of float64.
_STRETCH = 50
# Numbers of (runs x bets) that are worked on at a time: they stay in the processor's cache.
_AT_A_TIME = 1 << 16


@dataclass(frozen=True)
class Claim:
    """That the mean of values in [low, high] lies above, or below, a threshold.

    The hypothesis that it is bet against: the mean of each value, given those before it, is at the threshold or on its
    other side.

    Attributes:
        threshold: In the unit of the values.
        direction: Side of the threshold on which the claim says the mean is.
        low: No value is below it.
        high: No value is above it.
    """

    threshold: float
    direction: Literal["above", "below"] = "above"
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low <= self.threshold <= self.high or self.threshold == self._worst:
            raise ValueError(
                f"threshold {self.threshold} of a mean {self.direction} it, expected one in [{self.low}, {self.high}] "
                f"and not {self._worst}"
            )

    @property
    def _worst(self) -> float:
        return self.low if self.direction == "above" else self.high

    def opposite(self) -> Claim:
        """That the mean lies on the threshold's other side."""
        return Claim(self.threshold, "below" if self.direction == "above" else "above", self.low, self.high)

    def gains(self, values: NDArray[Any]) -> Floats:
        """What one unit of money becomes that is bet whole: at least 0, and at most 1 on average if the claim is false.

        Raises:
            ValueError: A value is NaN, or outside [low, high].
        """
        values = np.asarray(values, np.float64)
        inside = (values >= self.low) & (values <= self.high)
        if not inside.all():
            raise ValueError(f"value {values[~inside].flat[0]}, expected one in [{self.low}, {self.high}]")
        found: Floats = (values - self._worst) / (self.threshold - self._worst)
        return found


def log_money(gains: Floats) -> Iterator[Floats]:
    """Logarithm of the money after each value, for many runs at once.

    Args:
        gains: (R, n), `Claim.gains` of R runs of n values.

    Yields:
        (R,), n times.
    """
    runs, count = gains.shape
    money, scale = np.ones((runs, _BETS)), np.zeros(runs)
    for number in range(count):
        money *= 1 + STAKES * (gains[:, number, None] - 1)
        total = money.mean(1)
        now = scale + np.log(total)
        if number % _STRETCH == _STRETCH - 1:
            money /= total[:, None]
            scale = now
        yield now


def log_e_process(values: NDArray[Any], claim: Claim) -> Floats:
    """Logarithm of the e-value after each value: (..., n) of values (..., n).

    Where the claim is false, the chance that it ever reaches log(1/alpha) is at most alpha.

    Raises:
        ValueError: A value is NaN, or outside the claim's range.
    """
    gains = claim.gains(values)
    flat = gains.reshape(-1, gains.shape[-1]) if gains.size else gains.reshape(0, gains.shape[-1])
    found = np.empty_like(flat)
    block = max(_AT_A_TIME // _BETS, 1)
    for first in range(0, len(flat), block):
        for number, now in enumerate(log_money(flat[first : first + block])):
            found[first : first + block, number] = now
    return found.reshape(gains.shape)


def log_e_after(values: NDArray[Any], claim: Claim) -> float:
    """Logarithm of the e-value after all of the values (n,); 0, an e-value of 1, without any."""
    return float(log_e_process(values, claim)[-1]) if len(values) else 0.0


def fewest_values(claim: Claim, level: float) -> int:
    """How many values it takes at least to reach 1/level: all of them at the claim's better end of the range.

    Raises:
        ValueError: `level` is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level}, expected one in (0, 1)")
    best = claim.high if claim.direction == "above" else claim.low
    growth = np.log1p(STAKES * (float(claim.gains(np.array([best]))[0]) - 1))
    needed = -math.log(level) + math.log(_BETS)
    if growth.max() <= 0:
        raise ValueError(f"threshold {claim.threshold} is the end of the range: no value speaks for the claim")
    # All bets win with every value: the largest alone bounds the number from above, the mixture from below.
    count = 1
    upper = math.ceil(needed / float(growth.max()))
    while count < upper and math.log(np.exp(growth * count - growth.max() * count).mean()) + growth.max() * count < (
        -math.log(level)
    ):
        count += 1
    return count
