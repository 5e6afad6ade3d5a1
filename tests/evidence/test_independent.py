from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posa_vla.evidence.independent import log_e_independent

SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20).map(np.array)


def shares_above(success: float, other: float, margin: float, count: int, runs: int = 120) -> float:
    """How often 20 is ever reached, looking after every trial of each side."""
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(runs):
        ours, theirs = (rng.random(count) < rate for rate in (success, other))
        found += log_e_independent(ours.astype(float), theirs.astype(float), margin).max() >= math.log(20)
    return found / runs


@pytest.mark.parametrize(
    ("success", "other", "margin"), [(0.5, 0.5, 0.0), (0.95, 0.95, 0.0), (0.7, 0.8, 0.1), (0.9, 0.6, -0.3)]
)
def test_on_the_edge_it_is_seldom_reached(success: float, other: float, margin: float) -> None:
    assert shares_above(success, other, margin, 40) <= 0.05


def test_a_large_difference_is_seen() -> None:
    assert shares_above(0.9, 0.5, 0.0, 80, 40) >= 0.95
    assert shares_above(0.5, 0.9, 0.0, 80, 20) == 0


@given(SCORES, SCORES, st.floats(-0.5, 0.5))
def test_the_order_of_rows_does_not_matter(ours: np.ndarray, theirs: np.ndarray, margin: float) -> None:
    found = log_e_independent(ours, theirs, margin)
    assert len(found) == max(len(ours), len(theirs))
    assert log_e_independent(ours[::-1], theirs[::-1], margin)[-1] == pytest.approx(found[-1], abs=1e-9)


@given(SCORES, SCORES)
def test_nobody_is_better_and_worse(ours: np.ndarray, theirs: np.ndarray) -> None:
    better, worse = log_e_independent(ours, theirs)[-1], log_e_independent(theirs, ours)[-1]
    assert min(better, worse) <= 1e-9


def test_sides_of_different_lengths_and_bad_scores() -> None:
    ours, theirs = np.ones(50), np.zeros(20)
    found = log_e_independent(ours, theirs)
    assert found[-1] >= found[19]
    assert log_e_independent(ours, np.array([])).max() <= 1e-9
    with pytest.raises(ValueError, match="expected one in"):
        log_e_independent(np.array([0.5, math.nan]), theirs)
    with pytest.raises(ValueError, match="margin"):
        log_e_independent(ours, theirs, 1.0)
