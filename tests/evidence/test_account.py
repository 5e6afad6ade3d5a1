from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posa_vla.evidence.account import Account, Try, level_of, share
from posa_vla.evidence.betting import Claim
from posa_vla.evidence.plan import outlook
from posa_vla.evidence.verdict import Verdict


def ended(candidate: str, number: int, verdict: Verdict, asked: str = "superior") -> Try:
    return Try(candidate=candidate, asked=asked, number=number, log_e=1.0, level=0.01, verdict=verdict)


def test_the_shares_are_a_distribution() -> None:
    total = share(np.arange(1, 2_000_001)).sum()
    assert total + 2_000_000**-0.6 / 0.6 / 2.2857656 == pytest.approx(1.0, abs=1e-6)  # the rest, as an integral


@given(st.integers(1, 10_000), st.integers(0, 10_000))
def test_a_level_never_exceeds_alpha(number: int, promoted: int) -> None:
    assert 0 < level_of(number, min(promoted, number - 1), 0.05) <= 0.05


def test_thirty_points_at_the_fiftieth_retraining_are_still_seen() -> None:
    level = float(level_of(50, 0, 0.05))
    assert outlook(0.36, 0.06, Claim(0.0), level=level, pairs=400).promote[-1] >= 0.8


@pytest.mark.parametrize("kind", ["independent", "the same for all"])
def test_the_share_of_false_promotions_stays_below_alpha_whatever_the_tries_have_in_common(kind: str) -> None:
    """Exact e-values: 1/p is reached with chance p. With one draw for all tries they fall and stand together."""
    rng, runs, tries, alpha = np.random.default_rng(3), 20_000, 60, 0.2
    promoted, false = np.zeros(runs, int), np.zeros(runs, int)
    common = rng.random(runs)
    for number in range(1, tries + 1):
        level = level_of(number, promoted, alpha)
        drawn = rng.random(runs) if kind == "independent" else common
        null = np.full(runs, number % 5 != 0)  # every fifth try is truly better, and is always seen
        passed = np.where(null, drawn <= level, True)
        promoted, false = promoted + passed, false + (passed & null)
    assert (false / np.maximum(promoted, 1)).mean() <= alpha


def test_tries_that_promote_nothing_make_the_next_one_harder_and_a_promotion_easier() -> None:
    account = Account()
    levels = [account.level(1)]
    for number, name in enumerate("abc", 1):
        account = account.after(ended(name, number, "reject"))
        levels.append(account.level(account.next_number))
    assert levels == sorted(levels, reverse=True)
    after = account.after(ended("d", 4, "promote"))
    assert after.promoted == 1
    assert after.level(5) == pytest.approx(2 * account.level(5))
    assert after.level(4) == account.level(4), "a try's own promotion does not count for it"
    assert after.after(ended("d", 5, "promote")).promoted == 1, "a champion that is judged again is no second one"
    assert math.isclose(Account(alpha=0.1).level(3), 2 * Account().level(3))


def test_who_ended_undecided_goes_on_under_its_number() -> None:
    account = Account().after(ended("a", 1, "no decision")).after(ended("b", 2, "reject"))
    again = account.after(ended("a", 1, "promote"))
    assert [(of.candidate, of.verdict) for of in again.tries] == [("a", "promote"), ("b", "reject")]
    assert again.next_number == 3
