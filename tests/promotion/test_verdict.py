"""What each kind of evidence can and cannot decide."""

from __future__ import annotations

from typing import Any

import pytest
from offline_records import offline_record
from report_facts import evidence

from posa_vla.errors import BadInput
from posa_vla.evidence.offline import OfflineFigures
from posa_vla.params import GateParams
from posa_vla.promotion.gate import Decision, decide
from posa_vla.promotion.verdict import judge

GATE = GateParams()
GOOD, BAD = evidence("a", range(29)), evidence("a", range(3))
NEAR, FAR, BROKEN, NONE = (
    offline_record(0.1, 0.2),
    offline_record(0.45, 0.6),
    offline_record(0.1, None),
    offline_record(),
)


def verdict(*asked: Any, **shown: Any) -> Decision:
    return judge("t", GATE, list(asked), **shown)


@pytest.mark.parametrize("rollouts", [GOOD, BAD, evidence("a", range(5), 10)])
def test_simulation_alone_is_the_gate_s_own_decision_to_the_bit(rollouts: Any) -> None:
    decision = verdict("simulation", candidate=rollouts)
    assert decision == decide("t", GATE, rollouts, None)
    assert decision.digest == decide("t", GATE, rollouts, None).digest
    assert "offline_evidence" not in decision.model_dump()


@pytest.mark.parametrize("offline", [NEAR, FAR, BROKEN, NONE])
def test_without_trials_nothing_is_decided_for_a_robot_whatever_the_errors_are(offline: Any) -> None:
    decision = verdict("offline", "robot", offline=offline)
    assert decision.verdict == "no decision"
    assert decision.reasons[0].startswith("robot trials are missing")
    assert decision.candidate_evidence is None
    assert decision.offline_evidence == offline.digest
    assert verdict("robot").verdict == "no decision"
    assert verdict("simulation", "robot", candidate=GOOD).verdict == "no decision"


def test_what_fails_in_simulation_needs_no_trials_to_be_refused() -> None:
    assert verdict("simulation", "robot", candidate=BAD).verdict == "reject"
    assert verdict("simulation", "offline", candidate=BAD, offline=NONE).verdict == "reject"


def test_errors_refuse_a_broken_policy_and_never_promote_one() -> None:
    assert verdict("simulation", "offline", candidate=GOOD, offline=NEAR).verdict == "promote"
    for offline in (FAR, BROKEN, offline_record(0.1, outside=1)):
        assert verdict("simulation", "offline", candidate=GOOD, offline=offline).verdict == "reject"
        assert verdict("offline", offline=offline).verdict == "reject"
    alone = verdict("offline", offline=NEAR)
    assert alone.verdict == "no decision"
    assert "no evidence of success" in alone.reasons[-1]


def test_a_policy_is_better_than_both_baselines_or_it_is_said_which_is_better() -> None:
    between = verdict("offline", offline=offline_record(0.45))
    passed = {criterion.name: criterion.passed for criterion in between.criteria}
    assert (passed["nearer than holding the pose"], passed["nearer than the nearest demonstration"]) == (True, False)
    assert "on one episode: error 0.450" in " ".join(between.reasons)
    assert "not better than the nearest demonstration (0.400)" in " ".join(between.reasons)
    equal = verdict("offline", offline=offline_record(0.4))
    assert equal.verdict == "reject", "equal is not better"


def test_errors_of_a_policy_that_may_know_the_episodes_decide_nothing_but_that_it_is_broken() -> None:
    knowing = NEAR.model_copy(update={"may_know": True})
    decision = verdict("simulation", "offline", candidate=GOOD, offline=knowing)
    assert decision.verdict == "no decision"
    assert "may have been trained on these episodes" in decision.reasons[-1]
    assert "may have been trained on these episodes" in OfflineFigures.of(knowing).in_words()
    broken = BROKEN.model_copy(update={"may_know": True})
    assert verdict("simulation", "offline", candidate=GOOD, offline=broken).verdict == "reject"
    # A record of before, or of a policy that knows none, has the digest that it had.
    assert "may_know" not in NEAR.model_dump(mode="json")


def test_nothing_held_out_is_no_decision_and_says_what_to_do() -> None:
    decision = verdict("simulation", "offline", candidate=GOOD, offline=NONE)
    assert decision.verdict == "no decision"
    assert "raise prepare.validation_fraction" in " ".join(decision.reasons)


@pytest.mark.parametrize("asked", ["simulation", "offline"])
def test_evidence_that_was_not_made_is_not_taken_for_good(asked: str) -> None:
    with pytest.raises(BadInput, match="evaluate first"):
        verdict(asked)
