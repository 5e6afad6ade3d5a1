from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posa_vla.evidence.betting import Claim, log_e_process
from posa_vla.evidence.confidence_sequence import confidence_sequence


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=60).map(np.array))
def test_a_bound_is_where_the_bet_has_won(values: np.ndarray) -> None:
    low, high = confidence_sequence(values)
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) <= 0).all()
    assert (low < high).all()
    if low[-1] > -1:
        assert log_e_process(values, Claim(float(low[-1]))).max() >= math.log(40) - 1e-9
    if low[-1] < 0.997:  # two steps further it has not
        assert log_e_process(values, Claim(float(low[-1]) + 0.0041)).max() < math.log(40)


@pytest.mark.parametrize(("gained", "lost"), [(0.3, 0.1), (0.02, 0.02), (0.0, 0.05)])
def test_the_truth_is_inside_at_all_looks_together(gained: float, lost: float) -> None:
    held = 0
    for seed in range(40):
        drawn = np.random.default_rng(seed).random(50)
        values = np.where(drawn < gained, 1.0, np.where(drawn < gained + lost, -1.0, 0.0))
        low, high = confidence_sequence(values)
        held += bool((low[-1] <= gained - lost) and (high[-1] >= gained - lost))
    assert held >= 36


def test_a_success_rate_has_one_too_and_it_narrows() -> None:
    values = np.tile([1.0, 1.0, 0.0, 1.0], 100)
    low, high = confidence_sequence(values, low=0.0)
    assert low[-1] < 0.75 < high[-1]
    assert high[-1] - low[-1] < 0.2 < high[19] - low[19]
    assert confidence_sequence(values, 0.8, low=0.0)[0][-1] > low[-1]
