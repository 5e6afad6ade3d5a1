from __future__ import annotations

import html
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from posa_vla.errors import BadInput
from posa_vla.evidence.judgement import Judgement, judge_independent, judge_pairs
from posa_vla.evidence.judgement_page import difference_chart, evidence_chart, judgement_page
from posa_vla.evidence.trials import Trial, Trials


def trials(rate: float, count: int = 100, seed: int = 0, first: int = 0) -> Trials:
    drawn = np.random.default_rng(seed).random(count) < rate
    listed = (Trial(f"seed {first + n}", float(solved), f"row {n}") for n, solved in enumerate(drawn))
    return Trials(f"policy-{rate}-{seed}.csv", f"p{rate}-{seed}", tuple(listed))


GOOD, BAD, LIKE_GOOD = trials(0.9), trials(0.5, seed=1), trials(0.9, seed=2)


def test_the_better_one_is_promoted_early_and_the_worse_one_rejected() -> None:
    found, back = judge_pairs(GOOD, BAD), judge_pairs(BAD, GOOD)
    assert (found.verdict, back.verdict) == ("promote", "reject")
    assert found.decided_after < 60
    assert found.low[-1] > 0 > back.high[-1]
    assert (found.gained, found.lost) == (back.lost, back.gained)
    assert f"shown after {found.decided_after} of 100 pairs" in found.sentence()


def test_equals_are_no_decision_unless_a_margin_is_paid() -> None:
    assert judge_pairs(GOOD, LIKE_GOOD).verdict == "no decision"
    refreshed = judge_pairs(GOOD, LIKE_GOOD, margin=0.3)
    assert refreshed.verdict == "promote"
    assert refreshed.half_margin is not None
    assert refreshed.half_margin > 0.05
    assert judge_pairs(GOOD, LIKE_GOOD).half_margin is None


def test_a_reference_stops_what_the_champion_would_let_pass() -> None:
    worse = trials(0.6, seed=4)
    assert judge_pairs(worse, BAD, margin=0.2).verdict == "promote"
    against_both = judge_pairs(worse, BAD, margin=0.2, reference=GOOD)
    assert against_both.verdict != "promote"
    assert "the reference" in against_both.sentence()


def test_independent_trials_need_no_scenes_and_no_equal_numbers() -> None:
    found = judge_independent(trials(0.9, 150, first=1000), BAD)
    assert (found.verdict, found.gained, found.counts) == ("promote", None, (150, 100))
    assert found.low[-1] < 0.4 < found.high[-1]
    assert judge_independent(BAD, trials(0.9, 150)).verdict == "reject"


def test_a_policy_cannot_be_judged_against_itself() -> None:
    with pytest.raises(BadInput, match=r"both of policy 'p0\.9-0'"):
        judge_pairs(GOOD, GOOD)
    nameless = Trials("same.csv", None, GOOD.trials)
    with pytest.raises(BadInput, match="given twice"):
        judge_independent(nameless, nameless)


@pytest.mark.parametrize(("margin", "level"), [(-0.1, 0.05), (1.0, 0.05), (0.0, 0.0), (0.0, 1.0)])
def test_a_margin_or_level_that_means_nothing(margin: float, level: float) -> None:
    with pytest.raises(BadInput, match="expected"):
        judge_pairs(GOOD, BAD, margin=margin, level=level)


@pytest.mark.parametrize("found", [judge_pairs(GOOD, BAD), judge_pairs(BAD, GOOD), judge_independent(GOOD, BAD)])
def test_the_page_says_the_verdict_and_draws_both_charts(found: Judgement) -> None:
    text = judgement_page(found, "cand<idate>", "champion", ["a note & more"])
    assert text.count("<svg") == 2
    assert "cand<idate>" not in text
    assert html.escape(found.sentence()) in text
    assert "a note &amp; more" in text
    for chart in (evidence_chart(found), difference_chart(found)):
        assert ET.fromstring(chart).tag.endswith("svg")
