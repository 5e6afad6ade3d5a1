"""Intervals over training seeds and scenes for policies that ran the same scenes (hierarchical bootstrap)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DRAWS = 10_000


@dataclass(frozen=True)
class Estimate:
    """A figure with its two-sided interval; None where nothing was measured that it could be made of."""

    value: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        """`value`, `low`, `high`."""
        return {"value": self.value, "low": self.low, "high": self.high}


NOTHING = Estimate(None, None, None)


def _draws(seeds: int, scenes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Resampled training seeds (D, S) and scenes (D, N), the same for every figure of these sizes."""
    rng = np.random.default_rng(0)
    return rng.integers(seeds, size=(_DRAWS, seeds)), rng.integers(scenes, size=(_DRAWS, scenes))


def _interval(figures: NDArray[np.float64], value: float, confidence: float) -> Estimate:
    figures = figures[np.isfinite(figures)]
    low, high = np.quantile(figures, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(low), float(high))


def _counts(chosen: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """How often each of `size` was drawn: (D, size)."""
    counts: NDArray[np.float64] = np.zeros((len(chosen), size))
    np.add.at(counts, (np.arange(len(chosen))[:, None], chosen), 1)
    return counts


def mean_interval(values: NDArray[Any], confidence: float = 0.95) -> Estimate:
    """Mean of values (S, N) over S training seeds and N scenes; NaN does not count.

    Both are resampled, seeds and scenes independently of each other (a crossed bootstrap, Owen 2007): a scene that is
    hard for one seed's policy is hard for the others'.
    """
    known = np.isfinite(values)
    if not known.any():
        return NOTHING
    filled = np.where(known, values, 0.0)
    seeds, scenes = (_counts(chosen, size) for chosen, size in zip(_draws(*values.shape), values.shape, strict=True))
    total = np.einsum("ds,dn,sn->d", seeds, scenes, filled, optimize=True)
    count = np.einsum("ds,dn,sn->d", seeds, scenes, known.astype(float), optimize=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _interval(total / count, float(filled.sum() / known.sum()), confidence)


def difference_interval(first: NDArray[Any], second: NDArray[Any], confidence: float = 0.95) -> Estimate:
    """Mean of `first` minus mean of `second`, (S, N) each on the same scenes; the training seeds are not paired."""
    if first.shape[1] != second.shape[1] or 0 in (*first.shape, *second.shape):
        return NOTHING
    ours, scenes = (_counts(chosen, size) for chosen, size in zip(_draws(*first.shape), first.shape, strict=True))
    rng = np.random.default_rng(1)
    theirs = _counts(rng.integers(len(second), size=(_DRAWS, len(second))), len(second))
    means = [
        np.einsum("ds,dn,sn->d", seeds, scenes, values, optimize=True) / values.size
        for seeds, values in ((ours, first), (theirs, second))
    ]
    return _interval(means[0] - means[1], float(first.mean() - second.mean()), confidence)


def ratio_interval(
    first: NDArray[Any], second: NDArray[Any], both: NDArray[np.bool_], confidence: float = 0.95
) -> Estimate:
    """Total of `first` over total of `second` where `both` holds, (S, N) each, training seeds paired by their order."""
    if not both.any():
        return NOTHING
    seeds, scenes = (_counts(chosen, size) for chosen, size in zip(_draws(*both.shape), both.shape, strict=True))
    totals = [
        np.einsum("ds,dn,sn->d", seeds, scenes, np.where(both, values, 0.0), optimize=True)
        for values in (first, second)
    ]
    value = float(first[both].sum() / second[both].sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        return _interval(totals[0] / totals[1], value, confidence)
