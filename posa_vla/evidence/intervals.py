"""Intervals for a success rate and for the paired difference of two."""

from __future__ import annotations

import math

from scipy import stats


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a proportion (Clopper and Pearson, 1934); (0, 1) without trials."""
    alpha = 1 - confidence
    low = float(stats.beta.ppf(alpha / 2, successes, trials - successes + 1)) if successes > 0 else 0.0
    high = float(stats.beta.ppf(1 - alpha / 2, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def clopper_pearson_lower(successes: int, trials: int, confidence: float = 0.95) -> float:
    """Exact one-sided lower bound of a proportion: above it with the stated confidence; 0 without successes."""
    if successes == 0:
        return 0.0
    return float(stats.beta.ppf(1 - confidence, successes, trials - successes + 1))


def paired_difference_lower(only_first: int, only_second: int, pairs: int, confidence: float = 0.95) -> float:
    """One-sided lower bound of success(first) - success(second) over paired scenes.

    The score interval of Tango (1998) for a difference of paired proportions: it solves for the difference at which
    the score statistic reaches the normal quantile, and stays valid when the two policies never disagree.

    Args:
        only_first: Scenes that the first policy alone solved.
        only_second: Scenes that the second policy alone solved.
        pairs: All scenes.
        confidence: Of the one-sided bound.
    """
    if pairs == 0:
        return -1.0
    z = float(stats.norm.ppf(confidence))

    def score(delta: float) -> float:
        a = 2 * pairs
        b = -only_first - only_second + (2 * pairs - only_first + only_second) * delta
        c = -only_second * delta * (1 - delta)
        p = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = pairs * (2 * p + delta * (1 - delta))
        gap = only_first - only_second - pairs * delta
        return math.copysign(math.inf, gap) if variance <= 0 and gap != 0 else gap / math.sqrt(max(variance, 1e-300))

    low, high = -1.0, (only_first - only_second) / pairs
    for _ in range(100):
        middle = (low + high) / 2
        if score(middle) > z:
            low = middle
        else:
            high = middle
    return low
