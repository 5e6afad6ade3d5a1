"""Intervals over training seeds and scenes for policies that ran the same scenes (hierarchical bootstrap)."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.evidence.intervals import clopper_pearson

_DRAWS = 10_000
# Resampling fewer scenes than these shows next to nothing of how much they differ: a figure then has no interval, and
# successes or failures that are fewer are near to nothing.
_FEWEST_SCENES = 5


@dataclass(frozen=True)
class Estimate:
    """A figure with its two-sided interval; None where nothing, or too little, was measured to make them of."""

    value: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        """`value`, `low`, `high`."""
        return {"value": self.value, "low": self.low, "high": self.high}


NOTHING = Estimate(None, None, None)


@functools.lru_cache(maxsize=16)
def _resampled(size: int, stream: int) -> NDArray[np.float64]:
    """How often each of `size` is drawn in each of D resamples with replacement: (D, size)."""
    counts = np.random.default_rng([stream, size]).multinomial(size, np.full(size, 1 / size), _DRAWS)
    return counts.astype(np.float64)


def _totals(seeds: NDArray[np.float64], scenes: NDArray[np.float64], values: NDArray[Any]) -> NDArray[np.float64]:
    """Sum of values (S, N) over each resample of both: (D,)."""
    totals: NDArray[np.float64] = ((scenes @ np.asarray(values, np.float64).T) * seeds).sum(1)
    return totals


def _interval(figures: NDArray[np.float64], value: float, scenes: int, confidence: float) -> Estimate:
    if scenes < _FEWEST_SCENES:
        return Estimate(value, None, None)
    figures = figures[np.isfinite(figures)]
    low, high = np.quantile(figures, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(low), float(high))


def mean_interval(values: NDArray[Any], confidence: float = 0.95) -> Estimate:
    """Mean of values (S, N) over S training seeds and N scenes; NaN does not count.

    Both are resampled, seeds and scenes independently of each other (a crossed bootstrap, Owen 2007): a scene that is
    hard for one seed's policy is hard for the others'.
    """
    known = np.isfinite(values)
    if not known.any():
        return NOTHING
    filled = np.where(known, values, 0.0)
    drawn = _resampled(len(values), 0), _resampled(values.shape[1], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = _totals(*drawn, filled) / _totals(*drawn, known)
    return _interval(means, float(filled.sum() / known.sum()), int(known.any(0).sum()), confidence)


def difference_interval(first: NDArray[Any], second: NDArray[Any], confidence: float = 0.95) -> Estimate:
    """Mean of `first` minus mean of `second`, (S, N) each on the same scenes; the training seeds are not paired."""
    if first.shape[1] != second.shape[1] or 0 in (*first.shape, *second.shape):
        return NOTHING
    scenes = _resampled(first.shape[1], 1)
    ours = _totals(_resampled(len(first), 0), scenes, first) / first.size
    theirs = _totals(_resampled(len(second), 2), scenes, second) / second.size
    return _interval(ours - theirs, float(first.mean() - second.mean()), first.shape[1], confidence)


def ratio_interval(
    first: NDArray[Any], second: NDArray[Any], both: NDArray[np.bool_], confidence: float = 0.95
) -> Estimate:
    """Total of `first` over total of `second` where `both` holds, (S, N) each, training seeds paired by their order."""
    if not both.any():
        return NOTHING
    drawn = _resampled(len(both), 0), _resampled(both.shape[1], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = _totals(*drawn, np.where(both, first, 0.0)) / _totals(*drawn, np.where(both, second, 0.0))
    value = float(first[both].sum() / second[both].sum())
    return _interval(ratios, value, int(both.any(0).sum()), confidence)


def _near_all_or_nothing(success: NDArray[Any]) -> bool:
    solved = round(float(success.mean(0).sum()))
    return not _FEWEST_SCENES <= solved <= success.shape[1] - _FEWEST_SCENES


def success_interval(success: NDArray[Any], confidence: float = 0.95) -> Estimate:
    """`mean_interval` of successes (S, N); near all or nothing at least the exact one (Clopper, Pearson 1934).

    There resampling sees little or no spread.
    """
    found = mean_interval(success, confidence)
    if found.value is None or not _near_all_or_nothing(success):
        return found
    low, high = clopper_pearson(round(float(success.mean(0).sum())), success.shape[1], confidence)
    return Estimate(
        found.value,
        low if found.low is None else min(low, found.low),
        high if found.high is None else max(high, found.high),
    )


def success_difference(first: NDArray[Any], second: NDArray[Any], confidence: float = 0.95) -> Estimate:
    """`difference_interval` of successes; where a side is near all or nothing at least Newcombe's (1998, method 10)."""
    found = difference_interval(first, second, confidence)
    if found.value is None or not (_near_all_or_nothing(first) or _near_all_or_nothing(second)):
        return found
    ours, theirs = success_interval(first, confidence), success_interval(second, confidence)
    p, low, high = (float(x or 0) for x in (ours.value, ours.low, ours.high))
    q, their_low, their_high = (float(x or 0) for x in (theirs.value, theirs.low, theirs.high))
    below, above = math.hypot(p - low, their_high - q), math.hypot(high - p, q - their_low)
    return Estimate(
        found.value,
        found.value - below if found.low is None else min(found.value - below, found.low),
        found.value + above if found.high is None else max(found.value + above, found.high),
    )
