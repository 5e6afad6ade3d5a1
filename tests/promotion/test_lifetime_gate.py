from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posa_vla.errors import BadInput
from posa_vla.evidence.account import Account, Try
from posa_vla.evidence.record import EpisodeRow, Evidence, evidence_path, write_evidence
from posa_vla.files import write_json
from posa_vla.params import GateParams
from posa_vla.promotion.gate import Decision, decide
from posa_vla.promotion.lifetime_gate import Place, asked_of, decide_over_life
from posa_vla.promotion.tries import account_of, decisions_folder, place_of
from posa_vla.promotion.verdict import judge
from posa_vla.schema import parse
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

GATE = parse(GateParams, {"criteria": [{"kind": "floor", "threshold": 0.25}, {"kind": "superior"}]}, "gate")


def evidence(solved: Sequence[Any], policy: str = "new", planned: int | None = None) -> Evidence:
    rows = [EpisodeRow(scene_seed=100 - i, success=bool(s), steps=20, path_length=0.3) for i, s in enumerate(solved)]
    count = len(rows) if planned is None else planned
    return Evidence(
        policy_digest=policy, suite={"task": "pick"}, planned=count, rows=rows, hardware="test", versions={}
    )


def shares(rate: float, count: int, seed: int = 0) -> Sequence[Any]:
    return list(np.random.default_rng(seed).random(count) < rate)


GOOD, POOR = evidence(shares(0.9, 100), "good"), evidence(shares(0.5, 100, 1), "poor")


def test_a_first_policy_is_held_to_the_floor_alone() -> None:
    decision = decide_over_life("t", GATE, GOOD, None, Account())
    assert decision.verdict == "promote"
    assert [c.name for c in decision.criteria] == ["evidence complete", "success floor"]
    assert decision.criteria[1].bound is not None
    assert decision.criteria[1].bound > 0.25
    assert decision.tried is not None
    assert (decision.tried.number, decision.tried.verdict) == (1, "promote")
    assert decide_over_life("t", GATE, evidence(shares(0.05, 100)), None, Account()).verdict == "reject"


def test_the_better_one_is_promoted_the_worse_rejected_and_an_equal_one_neither() -> None:
    assert decide_over_life("t", GATE, GOOD, POOR, Account()).verdict == "promote"
    assert decide_over_life("t", GATE, POOR, GOOD, Account()).verdict == "reject"
    equal = decide_over_life("t", GATE, evidence(shares(0.9, 100, 2)), GOOD, Account())
    assert equal.verdict == "no decision"
    assert [c.passed for c in equal.criteria] == [True, True, None]
    assert "more scenes may decide it" in equal.reasons[1]


def test_pairs_are_of_the_same_scene_whatever_the_order_of_the_champions_rows() -> None:
    turned = POOR.model_copy(update={"rows": POOR.rows[::-1]})
    assert decide_over_life("t", GATE, GOOD, turned, Account()).reasons == (
        decide_over_life("t", GATE, GOOD, POOR, Account()).reasons
    )


def test_many_fruitless_tries_ask_for_more_and_too_few_scenes_are_said_to_be_too_few() -> None:
    few_good, few_poor = evidence([1] * 20, "good"), evidence([0] * 10 + [1] * 10, "poor")
    assert decide_over_life("t", GATE, few_good, few_poor, Account()).verdict == "promote"
    tried = Try(candidate="before", asked="x", number=1000, log_e=0.0, level=0.01, verdict="reject")
    account = Account().after(tried)
    late = decide_over_life("t", GATE, few_good, few_poor, account)
    assert late.verdict == "no decision"
    assert "20 scenes can never decide it at this level" in late.reasons[1]
    assert late.tried is not None
    assert late.tried.number == 1001


@pytest.mark.parametrize(
    ("candidate", "champion"),
    [
        (evidence([1] * 30, planned=31), None),
        (GOOD, evidence([1] * 50, "poor")),
        (GOOD, POOR.model_copy(update={"suite": {"task": "place"}})),
    ],
)
def test_what_is_missing_is_no_decision_and_no_try(candidate: Evidence, champion: Evidence | None) -> None:
    decision = decide_over_life("t", GATE, candidate, champion, Account())
    assert (decision.verdict, decision.tried) == ("no decision", None)
    assert decision.reasons == decide("t", GateParams(), candidate, champion).reasons


def test_candidates_that_are_no_better_are_seldom_promoted_in_a_few_nights() -> None:
    promoted = 0
    for life in range(4):
        account = Account()
        for night in range(6):
            seed = 100 * life + night
            ours, theirs = (
                evidence(shares(0.8, 30, seed), f"{seed}"),
                evidence(shares(0.8, 30, 5000 + seed), "champion"),
            )
            tried = decide_over_life("t", GATE, ours, theirs, account).tried
            assert tried is not None
            account = account.after(tried)
        promoted += account.promoted > 0
    assert promoted <= 2  # at most 0.2 of 4 are expected; 3 or more have a chance of 0.0005


def test_the_verdict_of_all_evidence_is_what_the_account_remembers() -> None:
    decision = judge("t", GATE, ["simulation", "robot"], candidate=GOOD, champion=POOR)
    assert decision.verdict == "no decision"
    assert decision.tried is not None
    assert decision.tried.verdict == "no decision"
    assert decision.schema_version == 2
    older = judge("t", GateParams(), ["simulation"], candidate=GOOD, champion=POOR)
    assert older.schema_version == 1
    assert "tried" not in older.model_dump()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(Settings(home=tmp_path / "home"))


def keep(workspace: Workspace, decision: Decision, *seen: Evidence) -> None:
    for evidence_ in seen:
        write_evidence(evidence_path(workspace, evidence_.digest), evidence_)
    write_json(decisions_folder(workspace) / f"{decision.digest}.json", decision.model_dump(mode="json"))


def test_an_undecided_candidate_goes_on_with_its_own_scenes_and_keeps_its_number(workspace: Workspace) -> None:
    champion, solved = evidence(shares(0.7, 100, 1), "champion"), shares(0.85, 100, 3)
    first, theirs = evidence(solved[:30]), champion.model_copy(update={"rows": champion.rows[:30], "planned": 30})
    begun = decide_over_life("t", GATE, first, theirs, Account())
    assert begun.verdict == "no decision"
    keep(workspace, begun, first, theirs)
    keep(workspace, decide_over_life("other", GATE, GOOD, POOR, Account()), GOOD, POOR)
    account, asked = account_of(workspace, "t", 0.05), asked_of(GATE, champion)
    assert [of.number for of in account.tries] == [1]
    place = place_of(workspace, "t", asked, evidence(solved), champion)
    assert place == Place(1, seen=30)
    assert place_of(workspace, "t", asked, evidence(solved[1:]), champion) is None, "other scenes: a new try"
    assert place_of(workspace, "t", "another question", evidence(solved), champion) is None
    going_on = decide_over_life("t", GATE, evidence(solved), champion, account, place)
    keep(workspace, going_on, evidence(solved), champion)
    assert len(account_of(workspace, "t", 0.05).tries) == 1


def test_a_decision_that_is_made_again_is_the_same_and_a_judged_candidate_is_a_new_try(workspace: Workspace) -> None:
    decision = decide_over_life("t", GATE, GOOD, POOR, Account())
    keep(workspace, decision, GOOD, POOR)
    asked = asked_of(GATE, POOR)
    place = place_of(workspace, "t", asked, GOOD, POOR)
    assert place is not None
    assert place.number == 1
    again = decide_over_life("t", GATE, GOOD, POOR, account_of(workspace, "t", 0.05), place)
    assert again.tried == decision.tried
    longer = [evidence([row.success for row in of.rows] + [True], of.policy_digest) for of in (GOOD, POOR)]
    assert place_of(workspace, "t", asked, *longer) is None


def test_promotions_that_came_since_raise_no_level_of_scenes_that_were_judged(workspace: Workspace) -> None:
    won, lost = [True] * 10 + [False] * 40, [False] * 10 + [True] * 40
    late = Account(tries=[_undecided(number) for number in range(1, 6)])
    first = decide_over_life("t", GATE, evidence(won), evidence(lost, "champion"), late)
    assert first.verdict == "reject"
    keep(workspace, first, evidence(won), evidence(lost, "champion"))
    promotions = [
        Try(candidate=f"p{n}", asked="x", number=6 + n, log_e=9.0, level=0.01, verdict="promote") for n in (1, 2, 3, 4)
    ]
    account = Account(tries=[*late.tries, first.tried, *promotions])
    champion = evidence(lost, "champion")
    place = place_of(workspace, "t", asked_of(GATE, champion), evidence(won), champion)
    assert decide_over_life("t", GATE, evidence(won), champion, account, place).tried == first.tried
    early, after = evidence([True] * 10 + [False] * 16), evidence([False] * 10 + [True] * 16, "champion")
    assert decide_over_life("t", GATE, early, after, account, Place(6, seen=20)).verdict != "promote"


def _undecided(number: int) -> Try:
    return Try(candidate=f"c{number}", asked="x", number=number, log_e=0.0, level=0.01, verdict="no decision")


def test_whole_evidence_of_too_few_episodes_is_a_try(workspace: Workspace) -> None:
    few, other = evidence([True] * 10), evidence([False] * 10, "champion")
    decision = decide_over_life("t", GATE, few, other, Account())
    assert decision.verdict == "no decision"
    assert decision.tried is not None
    broken = evidence([True] * 10, planned=30)
    assert decide_over_life("t", GATE, broken, other, Account()).tried is None


def test_a_damaged_decision_is_not_passed_over(workspace: Workspace) -> None:
    decisions_folder(workspace).mkdir(parents=True)
    (decisions_folder(workspace) / "x.json").write_text("{}")
    with pytest.raises(BadInput, match=r"x\.json"):
        account_of(workspace, "t", 0.05)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"criteria": []}, "at least 1"),
        ({"criteria": [{"kind": "superior"}]}, "one floor"),
        ({"criteria": [{"kind": "floor"}]}, "a floor needs a threshold"),
        ({"criteria": [{"kind": "floor", "threshold": 0.2}, {"kind": "superior", "threshold": 0.1}]}, "have none"),
        ({"criteria": [{"kind": "flor", "threshold": 0.2}]}, "kind"),
        ({"criteria": [{"kind": "floor", "threshold": 0.2}], "margin": 0.1}, "criteria and margin"),
        ({"criteria": [{"kind": "floor", "threshold": 0.2, "limit": 1}]}, "unknown key"),
    ],
)
def test_a_gate_that_asks_in_two_ways_or_in_none(gate: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse(GateParams, gate, "gate")


def test_both_kinds_of_gate_are_read_as_they_are_written() -> None:
    for gate in (GATE, GateParams(), GateParams(margin=0.1)):
        assert parse(GateParams, gate.model_dump(mode="json"), "again") == gate
    assert set(GATE.model_dump()) == {"criteria", "confidence", "min_episodes"}
    assert "criteria" not in GateParams().model_dump()
    assert (GATE.floor, GateParams().floor) == (0.25, 0.25)
