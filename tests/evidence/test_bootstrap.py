"""Intervals over training seeds and scenes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from posa_vla.evidence.bootstrap import (
    Estimate,
    difference_interval,
    mean_interval,
    ratio_interval,
    success_difference,
    success_interval,
)
from posa_vla.evidence.intervals import clopper_pearson


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
    first, second = np.array([[2.0, 4.0, np.nan] * 5]), np.array([[4.0, 8.0, 1.0] * 5])
    found = ratio_interval(first, second, np.array([[True, True, False] * 5]))
    assert found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5)


def width(found: Estimate) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def test_trainings_that_differ_widen_the_interval() -> None:
    differ = np.repeat([[1.0], [0.5], [0.0]], 100, axis=1)
    alike = np.repeat([[0.5, 0.5, 0.5, 0.5, 0.5]], 20, axis=1).reshape(1, -1).repeat(3, axis=0)
    assert width(mean_interval(differ)) > 0.6
    assert width(mean_interval(alike)) == 0
    assert width(difference_interval(differ, alike)) > 0.6
    assert width(difference_interval(alike, differ)) > 0.6


def test_scenes_that_both_sides_share_do_not_count_against_a_difference() -> None:
    hard = np.random.default_rng(5).random((1, 100))
    ours, theirs = (np.repeat((hard < rate).astype(float), 3, axis=0) for rate in (0.6, 0.5))
    alone = mean_interval(ours), mean_interval(theirs)
    assert width(difference_interval(ours, theirs)) < 0.75 * math.hypot(*map(width, alone))


@pytest.mark.parametrize("solved", [0, 1, 2, 98, 99, 100])
def test_all_or_nothing_is_as_sure_as_so_many_scenes_can_make_it(solved: int) -> None:
    values = (np.arange(100) < solved).astype(float)[None].repeat(3, axis=0)
    low, high = clopper_pearson(solved, 100)
    found = success_interval(values)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= low < high <= found.high
    same = success_difference(values, values)
    assert same.value == 0
    assert width(same) > 0.04


def test_a_difference_of_nothing_and_everything_has_an_interval() -> None:
    found = success_difference(np.ones((3, 100)), np.zeros((3, 100)))
    assert found.value == 1
    assert found.low is not None
    assert 0.93 < found.low < 0.96


def test_in_between_the_difference_is_the_resampled_one() -> None:
    rng = np.random.default_rng(3)
    better, worse = draws(rng, 0.7), draws(rng, 0.4)
    assert success_difference(better, worse) == difference_interval(better, worse)


def test_a_handful_of_scenes_gives_a_figure_and_no_interval() -> None:
    steps = np.full((3, 100), np.nan)
    steps[0, :4] = 20.0, 30.0, 25.0, 27.0
    found = mean_interval(steps)
    assert (found.value, found.low, found.high) == (25.5, None, None)
    assert ratio_interval(steps, steps, np.isfinite(steps)).low is None


def test_nothing_measured_is_no_figure() -> None:
    nothing = np.full((2, 3), np.nan)
    assert mean_interval(nothing).value is None
    assert ratio_interval(nothing, nothing, np.zeros((2, 3), bool)).value is None
    assert difference_interval(np.zeros((0, 3)), np.zeros((2, 3))).value is None
