from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from posa_vla.evidence.intervals import clopper_pearson, clopper_pearson_lower, paired_difference_lower

COUNTS = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_published_values() -> None:
    """25 of 50: one-sided 0.376; all of n: 0.741, 0.861, 0.942, 0.970 for n = 10, 20, 50, 100."""
    assert clopper_pearson_lower(25, 50) == pytest.approx(0.376, abs=5e-4)
    for trials, bound in ((10, 0.741), (20, 0.861), (50, 0.942), (100, 0.970)):
        assert clopper_pearson_lower(trials, trials) == pytest.approx(bound, abs=5e-4)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@given(COUNTS)
def test_the_bounds_enclose_the_rate_and_the_one_sided_one_is_tighter(counts: tuple[int, int]) -> None:
    successes, trials = counts
    low, high = clopper_pearson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert low <= clopper_pearson_lower(successes, trials) <= successes / trials


@given(COUNTS)
def test_scipy_agrees(counts: tuple[int, int]) -> None:
    successes, trials = counts
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, "exact")
    assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("rate", [0.05, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("trials", [20, 50])
def test_the_lower_bound_is_above_the_truth_at_most_one_time_in_twenty(rate: float, trials: int) -> None:
    counts = np.arange(trials + 1)
    above = np.array([clopper_pearson_lower(int(k), trials) > rate for k in counts])
    assert stats.binom.pmf(counts, trials, rate)[above].sum() <= 0.05 + 1e-12


@pytest.mark.parametrize(("gained", "lost", "pairs"), [(12, 2, 50), (3, 7, 40), (0, 4, 30), (5, 0, 25)])
def test_the_paired_bound_is_where_the_score_statistic_reaches_the_quantile(gained: int, lost: int, pairs: int) -> None:
    """Tango (1998), eq. 7-9, with the constrained likelihood maximised by a general optimiser."""
    bound = paired_difference_lower(gained, lost, pairs)
    same = pairs - gained - lost

    def surprise(p_lost: float) -> float:  # minus the log-likelihood where p_gained - p_lost = bound
        cells = ((gained, p_lost + bound), (lost, p_lost), (same, 1 - 2 * p_lost - bound))
        return -sum(count * np.log(max(p, 1e-300)) for count, p in cells if count)

    low, high = max(0.0, -bound), (1 - bound) / 2
    p = optimize.minimize_scalar(surprise, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    statistic = (gained - lost - pairs * bound) / np.sqrt(pairs * (2 * p + bound * (1 - bound)))
    assert statistic == pytest.approx(stats.norm.ppf(0.95), abs=1e-3)


@given(st.integers(1, 120), st.data())
def test_the_paired_bound_is_below_the_difference_and_monotone(pairs: int, data: st.DataObject) -> None:
    gained = data.draw(st.integers(0, pairs))
    lost = data.draw(st.integers(0, pairs - gained))
    bound = paired_difference_lower(gained, lost, pairs)
    assert -1 <= bound <= (gained - lost) / pairs + 1e-9
    if lost:
        assert paired_difference_lower(gained, lost - 1, pairs) >= bound - 1e-9
    if pairs > gained + lost:
        assert paired_difference_lower(gained + 1, lost, pairs) >= bound - 1e-9


def test_policies_that_never_disagree_are_not_sure_to_be_equal() -> None:
    small, large = (paired_difference_lower(0, 0, pairs) for pairs in (20, 200))
    assert small < large < 0
    assert paired_difference_lower(0, 0, 0) == -1.0


def test_a_worse_policy_rarely_looks_non_inferior() -> None:
    """Truth: worse by the margin of 0.15 over 50 pairs; the exact chance to pass stays near 5 %."""
    pairs, margin = 50, 0.15
    for gained_rate in (0.05, 0.15):
        lost_rate = gained_rate + margin
        chance = 0.0
        for gained in range(pairs + 1):
            for lost in range(pairs + 1 - gained):
                weight = stats.multinomial.pmf(
                    [gained, lost, pairs - gained - lost], pairs, [gained_rate, lost_rate, 1 - gained_rate - lost_rate]
                )
                if weight > 1e-7 and paired_difference_lower(gained, lost, pairs) > -margin:
                    chance += float(weight)
        assert chance <= 0.06
