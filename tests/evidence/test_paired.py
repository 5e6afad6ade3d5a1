"""Intervals over training seeds and scenes."""

from __future__ import annotations

import numpy as np
import pytest

from posa_vla.evidence.paired import difference_interval, mean_interval, ratio_interval


def draws(rng: np.random.Generator, rate: float, seeds: int = 3, scenes: int = 100, spread: float = 0.0) -> np.ndarray:
    rates = np.clip(rate + spread * rng.standard_normal((seeds, 1)), 0, 1)
    hard = rng.random((1, scenes))
    return (0.5 * hard + 0.5 * rng.random((seeds, scenes)) < rates).astype(float)


def test_the_mean_is_the_mean_and_the_interval_holds_it() -> None:
    values = draws(np.random.default_rng(0), 0.5)
    found = mean_interval(values)
    assert found.value == pytest.approx(values.mean())
    assert found.low is not None
    assert found.high is not None
    assert found.low < values.mean() < found.high
    assert mean_interval(values) == found, "the same rows, the same interval"


def test_scenes_that_are_hard_for_every_seed_count_once() -> None:
    one = draws(np.random.default_rng(1), 0.5, seeds=1)
    alone, repeated = mean_interval(one), mean_interval(np.repeat(one, 10, axis=0))
    width = [found.high - found.low for found in (alone, repeated) if found.high is not None and found.low is not None]
    assert width[1] == pytest.approx(width[0], rel=0.05)


def test_an_interval_of_95_percent_holds_the_truth_about_that_often() -> None:
    held = 0
    for number in range(100):
        rng = np.random.default_rng(number)
        values = (rng.random((5, 100)) < 0.6).astype(float)
        found = mean_interval(values)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.6 <= found.high
    assert held >= 90


def test_a_difference_and_its_sign() -> None:
    rng = np.random.default_rng(2)
    better, worse = draws(rng, 0.8), draws(rng, 0.3)
    found = difference_interval(better, worse)
    assert found.value == pytest.approx(better.mean() - worse.mean())
    assert found.low is not None
    assert found.low > 0
    back = difference_interval(worse, better)
    assert back.value == pytest.approx(-(better.mean() - worse.mean()))


def test_a_ratio_is_of_totals_where_both_hold() -> None:
    first, second = np.array([[2.0, 4.0, np.nan]]), np.array([[4.0, 8.0, 1.0]])
    found = ratio_interval(first, second, np.array([[True, True, False]]))
    assert found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5)


def test_nothing_measured_is_no_figure() -> None:
    nothing = np.full((2, 3), np.nan)
    assert mean_interval(nothing).value is None
    assert ratio_interval(nothing, nothing, np.zeros((2, 3), bool)).value is None
    assert difference_interval(np.zeros((0, 3)), np.zeros((2, 3))).value is None
