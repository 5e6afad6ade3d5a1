from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posa_vla.errors import BadInput
from posa_vla.evidence.betting import Claim
from posa_vla.evidence.plan import MOST_PAIRS, outlook, plan_pairs
from posa_vla.evidence.verdict import NO_DECISION, PROMOTE, REJECT, Course, Kind, claim_of, course_of, first_verdicts

RUNS = 2000


def pairs(gained: float, lost: float, count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).random((RUNS, count))
    return np.where(drawn < gained, 1.0, np.where(drawn < gained + lost, -1.0, 0.0))


def error(chance: float) -> float:
    """Four standard errors of a share of RUNS."""
    return 4 * math.sqrt(max(chance * (1 - chance), 1e-4) / RUNS)


@pytest.mark.parametrize(
    ("gained", "lost", "claim"),
    [
        (0.36, 0.06, Claim(0.0)),
        (0.475, 0.475, Claim(0.0)),
        (0.05, 0.1, Claim(-0.05)),
        (0.0, 0.1, Claim(-0.1)),
    ],
)
def test_the_computed_chances_are_those_that_simulation_finds(gained: float, lost: float, claim: Claim) -> None:
    found = outlook(gained, lost, claim, level=0.05, pairs=120)
    verdicts, used = first_verdicts(course_of([pairs(gained, lost, 120)], [claim]), 0.05)
    assert (verdicts == PROMOTE).mean() == pytest.approx(found.promote[-1], abs=error(found.promote[-1]))
    assert (verdicts == REJECT).mean() == pytest.approx(found.reject[-1], abs=error(found.reject[-1]))
    assert used.mean() == pytest.approx(found.expected_pairs, abs=4 * used.std() / math.sqrt(RUNS) + 1e-9)


@pytest.mark.parametrize("level", [0.05, 0.01])
@pytest.mark.parametrize("margin", [0.0, 0.05, 0.15])
@pytest.mark.parametrize("discordance", [0.16, 0.5, 0.95])
def test_looking_after_every_pair_promotes_falsely_at_most_at_the_level(
    level: float, margin: float, discordance: float
) -> None:
    edge = outlook((discordance - margin) / 2, (discordance + margin) / 2, Claim(-margin), level=level, pairs=300)
    assert 0.1 * level < edge.promote[-1] <= level
    assert edge.reject[-1] <= 0.05


def test_the_power_that_the_gate_was_made_for() -> None:
    """0.6 to 0.9, independent of each other, within 100 pairs; and what was measured once by simulation."""
    assert outlook(0.9 * 0.4, 0.1 * 0.6, Claim(0.0), level=0.05, pairs=100).promote[-1] >= 0.95
    twenty = outlook(0.275, 0.075, Claim(0.0), level=0.05, pairs=200).promote
    assert twenty[[49, 99, 199]] == pytest.approx([0.52, 0.85, 0.99], abs=0.01)


def test_the_plan_is_the_fewest_pairs_with_the_power() -> None:
    found = outlook(0.36, 0.06, Claim(0.0), level=0.05, pairs=100)
    count = found.pairs_for(0.8)
    assert count is not None
    assert found.promote[count - 1] >= 0.8 > found.promote[count - 2]
    assert outlook(0.1, 0.1, Claim(0.0), level=0.05, pairs=100).pairs_for(0.8) is None


def test_a_plan_of_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="exceeds 1"):
        outlook(0.7, 0.5, Claim(0.0), level=0.05)
    with pytest.raises(ValueError, match="pairs"):
        outlook(0.1, 0.1, Claim(0.0), level=0.05, pairs=MOST_PAIRS + 1)


def test_all_criteria_have_to_be_met_and_one_failed_is_enough_to_reject() -> None:
    good, bad = np.ones(60), -np.ones(60)
    both = course_of([good, good], [Claim(0.0), Claim(-0.1)])
    assert first_verdicts(both, 0.05)[0] == PROMOTE
    assert np.allclose(both.support, course_of([good], [Claim(0.0)]).support)
    mixed = course_of([good, bad], [Claim(0.0), Claim(-0.1)])
    assert first_verdicts(mixed, 0.05)[0] == REJECT
    assert first_verdicts(course_of([good, np.zeros(60)], [Claim(0.0), Claim(0.0)]), 0.05)[0] == NO_DECISION


def test_two_criteria_on_their_edges_are_promoted_no_more_often_than_one() -> None:
    values = [pairs(0.3, 0.3, 150, seed) for seed in (1, 2)]
    one = first_verdicts(course_of(values[:1], [Claim(0.0)]), 0.05)[0]
    two, _ = first_verdicts(course_of(values, [Claim(0.0), Claim(0.0)]), 0.05)
    assert (two == PROMOTE).mean() < (one == PROMOTE).mean() <= 0.05
    assert (two == REJECT).mean() <= 0.05 + error(0.05)


def test_each_run_has_its_own_level_and_the_first_side_to_arrive_decides() -> None:
    support = np.log(np.array([[1.0, 30.0, 30.0], [1.0, 30.0, 200.0], [1.0, 1.0, 1.0]]))
    against = np.log(np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 25.0, 1.0]]))
    verdicts, used = first_verdicts(Course(support, against), np.array([0.05, 0.01, 0.05]))
    assert verdicts.tolist() == [PROMOTE, PROMOTE, REJECT]
    assert used.tolist() == [2, 3, 2]


@given(st.sampled_from(["superior", "non-inferior", "floor", "upper bound"]), st.floats(0.01, 0.99))
def test_a_criterion_is_on_its_side_of_the_threshold(kind: Kind, threshold: float) -> None:
    claim = claim_of(kind, 0.0 if kind == "superior" else threshold)
    assert claim.direction == ("below" if kind == "upper bound" else "above")
    assert claim.low == (-1 if kind in {"superior", "non-inferior"} else 0)
    assert claim.threshold == {"superior": 0.0, "non-inferior": -threshold}.get(kind, threshold)


@pytest.mark.parametrize(("kind", "threshold"), [("superior", 0.1), ("non-inferior", 0.0), ("non-inferior", 1.0)])
def test_a_margin_where_there_is_none_and_none_where_there_must_be_one(kind: Kind, threshold: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        claim_of(kind, threshold)


def test_a_plan_says_what_the_next_retraining_needs() -> None:
    first = plan_pairs(champion=0.6, candidate=0.9)
    fiftieth = plan_pairs(champion=0.6, candidate=0.9, retraining=50)
    assert first["pairs"] == outlook(0.36, 0.06, Claim(0.0), level=0.05, pairs=400).pairs_for(0.8)
    assert fiftieth["level"] < first["level"]
    assert first["pairs"] < fiftieth["pairs"] < 400
    assert plan_pairs(champion=0.6, candidate=0.9, retraining=50, promoted=9)["pairs"] < fiftieth["pairs"]
    alike = plan_pairs(champion=0.9, candidate=0.9, margin=0.1, n_max=200)
    assert alike["chance_false"] <= 0.05 < alike["chance_at_half_margin"] < alike["chance"]
    assert plan_pairs(champion=0.9, candidate=0.9)["pairs"] is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_max": 5}, "5 pairs can never promote at level 0.05: .* needs 7"),
        ({"candidate": 1.2}, "candidate 1.2, expected a share"),
        ({"discordance": 0.1}, "disagree on 0.3 to 0.5"),
        ({"level": 0.0}, "expected a margin"),
        ({"n_max": 5000}, "1 to 1000 pairs"),
        ({"retraining": 3, "promoted": 3}, "each promotion is a retraining"),
    ],
)
def test_a_plan_that_cannot_be(changed: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan_pairs(**{"champion": 0.6, "candidate": 0.9, **changed})  # type: ignore[arg-type]  # numbers all
