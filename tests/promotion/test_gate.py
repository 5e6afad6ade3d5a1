from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from posa_vla.errors import BadInput
from posa_vla.evidence.record import EpisodeRow, Evidence
from posa_vla.params import GateParams
from posa_vla.promotion.gate import Decision, decide
from posa_vla.schema import parse

GATE = GateParams()


def evidence(solved: Sequence[bool], *, planned: int | None = None, codes: dict[int, str] | None = None) -> Evidence:
    codes = codes or {}
    rows = [
        EpisodeRow(scene_seed=i, success=s, steps=20, path_length=0.3, return_code=codes.get(i, "ok"))
        for i, s in enumerate(solved)
    ]
    return Evidence(
        policy_digest="p" * 64,
        suite={"task": "pick"},
        planned=len(rows) if planned is None else planned,
        rows=rows,
        hardware="test",
        versions={},
    )


def some(solved: int, trials: int = 50) -> Evidence:
    return evidence([i < solved for i in range(trials)])


def test_the_floor_decides_by_its_bound_not_by_the_mean() -> None:
    assert decide("t", GATE, some(25), None).verdict == "promote"  # bound 0.376
    assert decide("t", GATE, some(17), None).verdict == "reject"  # mean 0.34, bound 0.229
    decision = decide("t", GATE, some(25), None)
    assert "25/50" in decision.reasons[0]
    assert "0.376" in decision.reasons[0]


@pytest.mark.parametrize("floor", [0.1, 0.25, 0.5, 0.8])
def test_a_policy_at_the_floor_is_promoted_at_most_one_time_in_twenty(floor: float) -> None:
    gate = GateParams(success_floor=floor)
    chance = sum(
        stats.binom.pmf(k, 50, floor) for k in range(51) if decide("t", gate, some(k), None).verdict == "promote"
    )
    assert chance <= 0.05 + 1e-12


def test_the_champion_is_defended_on_paired_scenes() -> None:
    champion = evidence([i % 10 != 0 for i in range(50)])  # 45 solved
    assert decide("t", GATE, champion, champion).verdict == "promote"
    worse = evidence([i >= 15 for i in range(50)])  # 35 solved: clears the floor
    decision = decide("t", GATE, worse, champion)
    assert decision.verdict == "reject"
    assert [c.passed for c in decision.criteria] == [True, True, False]
    assert "lost" in decision.reasons[1]


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (evidence([True] * 50, codes={3: "crashed"}), "no valid outcome"),
        (evidence([True] * 50, codes={3: "action not finite"}), "no valid outcome"),
        (evidence([True] * 49, planned=50), "49 of 50"),
        (evidence([True] * 19), "at least 20"),
        (evidence([]), "at least 20"),
        (evidence([True] * 30).model_copy(update={"rows": evidence([True]).rows * 30}), "counted twice"),
    ],
)
def test_missing_evidence_is_no_decision(candidate: Evidence, words: str) -> None:
    decision = decide("t", GATE, candidate, None)
    assert decision.verdict == "no decision"
    assert words in decision.reasons[0]


def test_a_champion_on_other_scenes_is_no_comparison() -> None:
    other = some(45).model_copy(update={"suite": {"task": "place"}})
    assert decide("t", GATE, some(45), other).verdict == "no decision"
    ways = [some(45).model_copy(update={"suite": {"task": "pick", "flow_steps": steps}}) for steps in (6, 10)]
    assert decide("t", GATE, *ways).verdict == "promote", "each policy's own flow steps are no other conditions"
    before = some(45).model_copy(update={"suite": {"task": "pick", "execute": 2, "committed": 1}})
    now = some(45).model_copy(update={"suite": {"task": "pick", "execute": 4, "start_noise": 0.0, "ensemble": None}})
    assert decide("t", GATE, now, before).verdict == "promote", "nor is the rest of its execution"
    longer = [some(45).model_copy(update={"suite": {"task": "pick", "max_steps": steps}}) for steps in (60, 80)]
    assert decide("t", GATE, *longer).verdict == "no decision", "the step limit is"
    shifted = some(45)
    rows = [row.model_copy(update={"scene_seed": row.scene_seed + 1}) for row in shifted.rows]
    assert decide("t", GATE, some(45), shifted.model_copy(update={"rows": rows})).verdict == "no decision"


@given(
    solved=st.lists(st.booleans(), max_size=40),
    champion=st.none() | st.lists(st.booleans(), max_size=40),
    gap=st.booleans(),
)
def test_promotion_needs_complete_evidence_and_every_criterion(
    solved: list[bool], champion: list[bool] | None, gap: bool
) -> None:
    candidate = evidence(solved, planned=len(solved) + gap)
    decision = decide("t", GATE, candidate, None if champion is None else evidence(champion))
    if decision.verdict == "promote":
        assert all(c.passed for c in decision.criteria)
        assert candidate.complete()
        assert sum(solved) / len(solved) > GATE.success_floor
    if gap or len(solved) < GATE.min_episodes:
        assert decision.verdict == "no decision"
    assert parse(Decision, decision.model_dump(mode="json"), "again") == decision
    assert decision.candidate_evidence == candidate.digest


def test_nan_is_no_evidence() -> None:
    with pytest.raises(BadInput, match="finite"):
        parse(EpisodeRow, {"scene_seed": 1, "success": True, "steps": 1, "path_length": float("nan")}, "row")
