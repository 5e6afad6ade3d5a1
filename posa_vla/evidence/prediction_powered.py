"""Few real trials, corrected by many simulated ones: a mean whose interval does not rest on the simulation.

The interval is approximate (central limit theorem): near 0 and 1 it is too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from posa_vla.errors import BadInput

# With fewer pairs the interval, which rests on the central limit theorem, covers the truth too seldom.
FEWEST_PAIRS = 50


@dataclass(frozen=True)
class Corrected:
    """A mean of real trials that simulation made sharper.

    Attributes:
        value: The estimate.
        low: Lower end of its interval.
        high: Upper end.
        weight: Share of the simulation that was used, from 0 (none) on; it was chosen by the data.
        correlation: Of real and simulated values over the pairs; None where either does not vary.
        worth: Real trials without simulation that would give the same interval, over those that there were.
    """

    value: float
    low: float
    high: float
    weight: float
    correlation: float | None
    worth: float


def corrected_mean(
    real: NDArray[Any], simulated: NDArray[Any], further: NDArray[Any], confidence: float = 0.95
) -> Corrected:
    """The prediction-powered mean with a tuned weight (PPI++, Angelopoulos, Duchi and Zrnic 2023).

    value = mean(real) + weight x (mean(further) - mean(simulated)). A simulation that says nothing gets a weight near 0
    and costs next to nothing. For two policies on the same scenes the values are the paired differences.

    Args:
        real: (n,) outcomes of real trials, or differences of two.
        simulated: (n,) what the simulation gave for the same trials.
        further: (m,) what it gave for other trials, drawn as those were.
        confidence: Of the two-sided interval.

    Raises:
        BadInput: Fewer than 50 pairs or further trials, sides of different lengths, or a value that is not finite.
    """
    real, simulated, further = (np.asarray(x, np.float64) for x in (real, simulated, further))
    count, more = len(real), len(further)
    if len(simulated) != count:
        raise BadInput(f"{count} real and {len(simulated)} simulated trials, expected pairs of both")
    if count < FEWEST_PAIRS or more < FEWEST_PAIRS:
        raise BadInput(
            f"{count} pairs and {more} further simulated trials, expected at least {FEWEST_PAIRS} of each: with fewer "
            "the interval would be too narrow"
        )
    if not all(np.isfinite(x).all() for x in (real, simulated, further)):
        raise BadInput("a trial has no finite value: leave out the pair, or run it again")
    if np.ptp(real) == 0:
        raise BadInput(f"all {count} real trials ended with {real[0]:g}: they say nothing of how much outcomes vary")
    spread = float(np.var(np.concatenate([simulated, further]), ddof=1))
    covariance = float(np.cov(real, simulated)[0, 1])
    weight = max(covariance / (spread * (1 + count / more)), 0.0) if spread > 0 else 0.0
    value = float(real.mean() + weight * (further.mean() - simulated.mean()))
    # One degree of freedom more is spent on the weight.
    variance = float(np.var(real - weight * simulated, ddof=2)) / count + weight**2 * float(further.var(ddof=1)) / more
    reach = float(stats.t.ppf((1 + confidence) / 2, count - 2)) * math.sqrt(variance)
    deviations = float(real.std()), float(simulated.std())
    correlation = None if 0 in deviations else float(np.corrcoef(real, simulated)[0, 1])
    alone = float(real.var(ddof=1)) / count
    return Corrected(
        value, value - reach, value + reach, weight, correlation, alone / variance if variance > 0 else 1.0
    )
