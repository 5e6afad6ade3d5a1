from __future__ import annotations

import math

import numpy as np
import pytest

from posa_vla.errors import BadInput
from posa_vla.evidence.prediction_powered import FEWEST_PAIRS, Corrected, corrected_mean


def corrected(correlation: float, count: int, seed: int, further: int = 400) -> Corrected:
    """Successes of real trials (0.69) and simulated ones (0.62) that share a normal factor."""
    rng = np.random.default_rng(seed)
    factor, noise = rng.normal(size=(2, count + further))
    real = (correlation * factor + math.sqrt(1 - correlation**2) * noise < 0.5).astype(float)
    simulated = (factor < 0.3).astype(float)
    return corrected_mean(real[:count], simulated[:count], simulated[count:])


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_interval_covers_the_truth_whatever_the_simulation_is_worth(correlation: float) -> None:
    found = [corrected(correlation, FEWEST_PAIRS, seed) for seed in range(600)]
    assert np.mean([of.low <= 0.6915 <= of.high for of in found]) >= 0.92


def test_a_simulation_that_knows_more_is_worth_more() -> None:
    worth = [np.median([corrected(rho, 60, seed).worth for seed in range(200)]) for rho in (0.0, 0.6, 0.9, 0.98)]
    assert worth == sorted(worth)
    assert worth[0] > 0.95
    assert worth[-1] > 2


def test_a_perfect_simulation_gives_its_own_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(1060)
    found = corrected_mean(values[:60], values[:60], values[60:])
    assert found.correlation == pytest.approx(1.0)
    assert found.value == pytest.approx(values.mean(), abs=0.01)


def test_a_simulation_that_always_says_the_same_changes_nothing() -> None:
    real = np.tile([0.0, 1.0], 30)
    found = corrected_mean(real, np.ones(60), np.ones(100))
    assert (found.value, found.weight, found.correlation) == (0.5, 0.0, None)


@pytest.mark.parametrize(
    ("real", "simulated", "further"),
    [(np.ones(49), np.ones(49), np.ones(99)), (np.ones(60), np.ones(59), np.ones(99)), (np.ones(60), np.ones(60), [])],
)
def test_too_little_is_refused(real: np.ndarray, simulated: np.ndarray, further: np.ndarray) -> None:
    with pytest.raises(BadInput, match="expected"):
        corrected_mean(real, simulated, further)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(BadInput, match="finite"):
        corrected_mean(np.r_[np.nan, np.ones(59)], np.ones(60), np.ones(60))
