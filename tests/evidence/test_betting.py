from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posa_vla.evidence.betting import STAKES, Claim, fewest_values, log_e_after, log_e_process

SUPERIOR, NON_INFERIOR = Claim(0.0), Claim(-0.1)
DIFFERENCES = np.array([1, 0, 1, -1, 1, 1, 0, 0, 1, 1, -1, 1, 0.5, -0.25, 1, 1, 0, 1, 1, 1])
VALUES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40).map(np.array)
CLAIMS = st.builds(Claim, st.floats(-0.9, 0.9), st.sampled_from(["above", "below"]))


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (SUPERIOR, [1.5, 1.300723292, 4.415700222, 4.364851676, 26.39165611]),
        (SUPERIOR.opposite(), [0.5, 0.2998552362, 0.160352706, 0.1305893002, 0.08600140704]),
        (NON_INFERIOR, [1.611111111, 1.661068518, 8.520985757, 10.60297076, 108.793387]),
        (NON_INFERIOR.opposite(), [0.5, 0.2849594953, 0.1514389623, 0.1202659846, 0.08048121464]),
    ],
)
def test_confseq_gives_the_same_money(claim: Claim, expected: list[float]) -> None:
    """`diversified_betting_mart` of confseq 0.0.11 (Waudby-Smith, Ramdas) with the same 24 bets, values 1, 5 ... 20."""
    found = np.exp(log_e_process(DIFFERENCES, claim))[[0, 4, 9, 14, 19]]
    assert found == pytest.approx(expected, rel=1e-8)


@given(VALUES, CLAIMS)
def test_it_is_the_mean_of_the_products_of_the_bets(values: np.ndarray, claim: Claim) -> None:
    """Equation (1) of Waudby-Smith and Ramdas 2024, with a plain loop."""
    room = claim.threshold - (-1 if claim.direction == "above" else 1)
    expected = np.mean([np.prod([1 + stake / room * (x - claim.threshold) for x in values]) for stake in STAKES])
    assert math.exp(log_e_after(values, claim)) == pytest.approx(expected, rel=1e-6)


@given(VALUES, CLAIMS, st.data())
def test_the_order_does_not_change_the_last_value(values: np.ndarray, claim: Claim, data: st.DataObject) -> None:
    shuffled = np.array(data.draw(st.permutations(list(values))))
    assert log_e_after(shuffled, claim) == pytest.approx(log_e_after(values, claim), abs=1e-6)


@given(VALUES, st.floats(-0.9, 0.9))
def test_the_opposite_claim_is_the_claim_about_the_opposite_values(values: np.ndarray, threshold: float) -> None:
    assert log_e_after(values, Claim(threshold).opposite()) == pytest.approx(
        log_e_after(-values, Claim(-threshold)), abs=1e-6
    )


@given(VALUES, st.floats(-0.9, 0.8))
def test_a_bolder_claim_has_less_behind_it(values: np.ndarray, threshold: float) -> None:
    assert log_e_after(values, Claim(threshold + 0.1)) <= log_e_after(values, Claim(threshold)) + 1e-9


@pytest.mark.parametrize(("gained", "lost", "claim"), [(0.3, 0.3, SUPERIOR), (0.1, 0.2, NON_INFERIOR)])
def test_on_the_edge_of_the_claim_a_bet_wins_nothing_on_average(gained: float, lost: float, claim: Claim) -> None:
    """Exactly, over all outcomes of five pairs."""
    outcomes, total = np.array([1.0, -1.0, 0.0]), 0.0
    chances = np.array([gained, lost, 1 - gained - lost])
    for picks in np.ndindex(3, 3, 3, 3, 3):
        total += chances[list(picks)].prod() * math.exp(log_e_after(outcomes[list(picks)], claim))
    assert total == pytest.approx(1.0, abs=1e-12)


def test_many_runs_at_once_are_the_same_as_each_alone_and_long_ones_stay_finite() -> None:
    rng = np.random.default_rng(0)
    values = rng.choice([-1.0, 0.0, 1.0], (2, 1500, 7), p=[0.1, 0.3, 0.6])
    found = log_e_process(values, SUPERIOR)
    assert found.shape == values.shape
    assert found[1, 3] == pytest.approx(log_e_process(values[1, 3], SUPERIOR))
    long = log_e_process(np.ones(20_000), SUPERIOR)
    assert long[-1] == pytest.approx(20_000 * math.log(1 + STAKES[-1]) - math.log(len(STAKES)), rel=1e-6)
    assert np.isfinite(log_e_process(-np.ones(20_000), SUPERIOR)).all()


def test_nothing_seen_is_an_e_value_of_one() -> None:
    assert log_e_after(np.array([]), SUPERIOR) == 0.0


@pytest.mark.parametrize("value", [math.nan, 1.1, -math.inf])
def test_a_value_that_cannot_be_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected one in"):
        log_e_process(np.array([0.0, value]), SUPERIOR)


@pytest.mark.parametrize(
    ("threshold", "direction"), [(-1.0, "above"), (1.0, "below"), (2.0, "above"), (math.nan, "above")]
)
def test_a_claim_that_nothing_can_refute_is_refused(threshold: float, direction: str) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Claim(threshold, direction)  # type: ignore[arg-type]  # any of the two, by the parameters above


@pytest.mark.parametrize("claim", [SUPERIOR, NON_INFERIOR, SUPERIOR.opposite(), Claim(0.8, "above", 0, 1)])
@pytest.mark.parametrize("level", [0.05, 1e-4])
def test_the_fewest_values_reach_the_level_and_one_less_does_not(claim: Claim, level: float) -> None:
    fewest = fewest_values(claim, level)
    best = np.full(fewest, claim.high if claim.direction == "above" else claim.low)
    course = log_e_process(best, claim)
    assert course[-1] >= -math.log(level) > course[-2]
