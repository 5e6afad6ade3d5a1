"""A gate that takes refreshes: champion and reference on the same scenes, looks in between, and who is reference."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from candidates import TRAINED, Candidate, candidate, two_releases
from success_rates import Rates

from posa_vla.cli.main import main
from posa_vla.errors import BadInput, PosaError
from posa_vla.evidence.record import evidence_path, read_evidence
from posa_vla.evidence.reference import Standing
from posa_vla.evidence.suite import Suite
from posa_vla.files import read_json, write_json
from posa_vla.params import Params
from posa_vla.params_file import overlaid
from posa_vla.pipeline.context import StepContext, open_context
from posa_vla.pipeline.explained_verdict import explain_verdict
from posa_vla.pipeline.records import Candidate as CandidateRecord
from posa_vla.pipeline.records import Decided, Evaluated
from posa_vla.pipeline.reference_naming import name_reference
from posa_vla.pipeline.rollback import roll_back
from posa_vla.pipeline.steps import evaluate as evaluate_step
from posa_vla.pipeline.steps.decide import decide, read_decision
from posa_vla.pipeline.steps.register import register
from posa_vla.pipeline.steps.release import release
from posa_vla.promotion.champion import champion_bundle, promotion_log
from posa_vla.promotion.standing import standing_of
from posa_vla.release.keys import create_key, public_hex

MARGIN = 0.2
CRITERIA = [{"kind": "floor", "threshold": 0.2}, {"kind": "non-inferior", "margin": MARGIN}]


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> Rates:
    made = Rates()
    monkeypatch.setattr(evaluate_step, "run_policy", made.run)
    return made


def refreshing(params: Params, **target: Any) -> Params:
    over = {"gate": {"criteria": CRITERIA, "confidence": 0.9}, **target}
    values = params.model_dump(mode="json")
    values["targets"]["t"] |= over
    values["evaluate"]["episodes"] = 200
    return Params.model_validate(values)


def judged(context: StepContext, one: Candidate) -> tuple[Evaluated, Decided]:
    record = CandidateRecord(source=TRAINED, digest=one.bundle.digest)
    evaluated = evaluate_step.evaluate(context, Evaluated(candidate=record))
    return evaluated, decide(context, evaluated)


def out(context: StepContext, decided: Decided) -> None:
    assert decided.verdict == "promote", decided.reasons
    assert release(context, register(context, decided)).release is not None


def test_refreshes_are_held_against_the_reference_until_one_is_superior_to_it(tmp_path: Path, rates: Rates) -> None:
    workspace, params, (_, second) = two_releases(tmp_path)
    params = refreshing(params)
    first = second.bundle.digest
    assert standing_of(workspace, "t") == Standing(first, first), "fixed tests know no reference"
    with open_context(workspace, params, "test", jobs=False) as context:
        worse, worst, better = (candidate(context, params, tmp_path / f"{n}", seed=n) for n in (5, 6, 7))
        rates.of = {first: 0.9}
        # A little worse than champion and reference: a refresh, which leaves the reference where it is.
        rates.of[worse.bundle.digest] = 0.85
        evaluated, decided = judged(context, worse)
        assert (evaluated.reference, evaluated.reference_evidence) == (first, None), "the champion is the reference"
        assert "the margin's price: a candidate that is 10 points worse than the champion is promoted" in (
            " ".join(decided.reasons)
        )
        out(context, decided)
        assert standing_of(workspace, "t") == Standing(worse.bundle.digest, first)
        # A little worse than that champion, and too much worse than the reference: three policies on the same scenes.
        rates.of[worst.bundle.digest] = 0.6
        rates.of[worse.bundle.digest] = 0.7
        rates.ran.clear()
        evaluated, decided = judged(context, worst)
        assert {bundle for bundle, _ in rates.ran} == {worst.bundle.digest, worse.bundle.digest, first}
        assert decided.verdict == "reject"
        decision = read_decision(workspace, decided.decision)
        assert (decision.reference, decision.reference_evidence) == (first, evaluated.reference_evidence)
        assert [c.name for c in decision.criteria if c.passed is False] == ["non-inferior to the reference"]
        # Superior to the reference: the next one.
        rates.of[first], rates.of[better.bundle.digest] = 0.5, 0.95
        out(context, judged(context, better)[1])
        assert standing_of(workspace, "t") == Standing(better.bundle.digest, better.bundle.digest)
        explained = dict(explain_verdict(workspace, "t", "4").rows())
        assert explained["now"] == "it is the champion and the reference"
        assert explained["non-inferior to the champion"].startswith("shown (bound +")
        assert explained["reference"] == f"{first[:12]}, and this policy was shown to be superior to it"
        assert explain_verdict(workspace, "t", "3").since == "another release has come since"
        with pytest.raises(BadInput, match="no verdict on model version 9: there are 1, 2, 3, 4"):
            explain_verdict(workspace, "t", "9")
        # The same command again finds all of it done.
        rates.ran.clear()
        judged(context, better)
        assert rates.ran == []


def test_a_clear_verdict_ends_the_evaluation_and_a_close_one_takes_all_scenes(
    tmp_path: Path, rates: Rates, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, before, (_, second) = two_releases(tmp_path)
    params = refreshing(before)
    with open_context(workspace, params, "test", jobs=False) as context:
        poor, close = (candidate(context, params, tmp_path / f"{n}", seed=n) for n in (5, 6))
        rates.of = {second.bundle.digest: 0.95, poor.bundle.digest: 0.05, close.bundle.digest: 0.77}
        evaluated, decided = judged(context, poor)
        assert decided.verdict == "reject"
        assert {count for _, count in rates.ran} == {25}
        assert "the verdict is clear after 25 of 200 scenes" in capsys.readouterr().err
        assert evaluated.evidence is not None
        assert len(read_evidence(evidence_path(workspace, evaluated.evidence)).rows) == 25
        rates.ran.clear()
        assert judged(context, close)[1].verdict == "no decision"
        assert [count for bundle, count in rates.ran if bundle == close.bundle.digest] == [25, 50, 100, 200]
    # A gate that tests each night for itself does not stop, and does not take what another one stopped early.
    targets = before.model_dump(mode="json")["targets"]
    fixed = Params.model_validate({**params.model_dump(mode="json"), "targets": targets})
    rates.ran.clear()
    with open_context(workspace, fixed, "test", jobs=False) as context:
        evaluate_step.evaluate(context, Evaluated(candidate=CandidateRecord(source=TRAINED, digest=poor.bundle.digest)))
    assert {count for _, count in rates.ran} == {200}


def test_after_a_rollback_from_the_reference_nothing_is_refreshed_until_a_person_names_one(
    tmp_path: Path, rates: Rates
) -> None:
    workspace, params, (old, _) = two_releases(tmp_path)
    roll_back(workspace, params, None, "drops cubes")
    assert champion_bundle(workspace, "t") == old.bundle.digest
    assert standing_of(workspace, "t") == Standing(old.bundle.digest, None)
    params = refreshing(params)
    with open_context(workspace, params, "test", jobs=False) as context:
        new = candidate(context, params, tmp_path / "5", seed=5)
        rates.of = {old.bundle.digest: 0.9, new.bundle.digest: 0.9}
        _, decided = judged(context, new)
        assert decided.verdict == "no decision"
        assert "Name another one with `posa gate reference`" in decided.reasons[0]
        assert read_decision(workspace, decided.decision).tried is None
        assert rates.ran == [], "nobody looks for free"
        superior = refreshing(params, gate={"criteria": [CRITERIA[0], {"kind": "superior"}], "confidence": 0.9})
        assert judged(StepContext(workspace, superior), new)[0].evidence is not None, "another question is asked"
        rates.ran.clear()
        assert register(context, decided).model_version == "3"
        with pytest.raises(BadInput, match=r"version 2 was rolled back from \(drops cubes\)"):
            name_reference(workspace, params, "2", "the best", None)
        with pytest.raises(BadInput, match="never released model version 9: it released 1, 2"):
            name_reference(workspace, params, "9", "the best", None)
        with pytest.raises(BadInput, match="needs a reason"):
            name_reference(workspace, params, "1", " ", None)
        named = name_reference(workspace, params, "1", "what was good before", None)
        assert (named.bundle, named.signer) == (old.bundle.digest, "")
        assert standing_of(workspace, "t") == Standing(old.bundle.digest, old.bundle.digest)
        assert judged(context, new)[1].verdict == "promote"


def test_where_releases_are_approved_a_reference_is_signed_by_an_approver(tmp_path: Path) -> None:
    workspace, params, (old, _) = two_releases(tmp_path)
    signer, stranger = create_key(tmp_path / "key.pem"), create_key(tmp_path / "other.pem")
    params = refreshing(params, approvals=1, approvers={"ann": public_hex(signer)})
    with pytest.raises(BadInput, match="give an approver's key with --key FILE"):
        name_reference(workspace, params, "1", "why", None)
    with pytest.raises(BadInput, match=f"does not know this key; .*{public_hex(stranger)}"):
        name_reference(workspace, params, "1", "why", tmp_path / "other.pem")
    named = name_reference(workspace, params, "1", "why", tmp_path / "key.pem")
    assert (named.signer, standing_of(workspace, "t").reference) == (public_hex(signer), old.bundle.digest)
    assert standing_of(workspace, "t", approvers=[public_hex(signer)]).reference == old.bundle.digest
    assert standing_of(workspace, "t", approvers=[public_hex(stranger)]).reference is None, "none of them signed it"
    (entry,) = [entry for entry in promotion_log(workspace, "t").entries() if entry.kind == "reference"]
    forged = entry.model_copy(update={"key": "forged", "signature": "00" * 64})
    promotion_log(workspace, "t").append(forged)
    with pytest.raises(BadInput, match=r"the signature under the reference .* is none of key"):
        standing_of(workspace, "t")


def test_another_suite_begins_with_the_champion_as_reference(tmp_path: Path, rates: Rates) -> None:
    workspace, params, (_, second) = two_releases(tmp_path)
    params = refreshing(params)
    with open_context(workspace, params, "test", jobs=False) as context:
        new = candidate(context, params, tmp_path / "5", seed=5)
        rates.of = {second.bundle.digest: 0.9, new.bundle.digest: 0.85}
        out(context, judged(context, new)[1])
    same = Suite.of(params, [1, 2]).describe()
    assert standing_of(workspace, "t", same).reference == second.bundle.digest
    harder = overlaid(params, {"evaluate": {"objects": 3}}, "test")
    other = Suite.of(harder, []).describe()
    assert standing_of(workspace, "t", other).reference == new.bundle.digest
    # Once: a refresh on the new suite leaves the reference where it was put.
    with open_context(workspace, harder, "test", jobs=False) as context:
        third = candidate(context, harder, tmp_path / "6", seed=6)
        rates.of[third.bundle.digest] = 0.8
        out(context, judged(context, third)[1])
    assert standing_of(workspace, "t", other) == Standing(third.bundle.digest, new.bundle.digest)


def test_superior_candidates_are_held_against_the_reference_too_and_become_it(tmp_path: Path, rates: Rates) -> None:
    workspace, params, (_, second) = two_releases(tmp_path)
    first, refreshed = second.bundle.digest, refreshing(params)
    superior = refreshing(params, gate={"criteria": [CRITERIA[0], {"kind": "superior"}], "confidence": 0.9})
    with open_context(workspace, refreshed, "test", jobs=False) as context:
        equal, better = (candidate(context, params, tmp_path / f"{n}", seed=n) for n in (5, 6))
        rates.of = {first: 0.5, equal.bundle.digest: 0.5, better.bundle.digest: 0.95}
        out(context, judged(context, equal)[1])
    assert standing_of(workspace, "t") == Standing(equal.bundle.digest, first)
    with open_context(workspace, superior, "test", jobs=False) as context:
        out(context, judged(context, better)[1])
    assert standing_of(workspace, "t") == Standing(better.bundle.digest, better.bundle.digest)


def test_a_candidate_that_was_held_against_another_reference_is_not_released(tmp_path: Path, rates: Rates) -> None:
    workspace, params, (old, second) = two_releases(tmp_path)
    params = refreshing(params)
    with open_context(workspace, params, "test", jobs=False) as context:
        new = candidate(context, params, tmp_path / "5", seed=5)
        rates.of = {old.bundle.digest: 0.4, second.bundle.digest: 0.9, new.bundle.digest: 0.9}
        registered = register(context, judged(context, new)[1])
        name_reference(workspace, params, "1", "the lamp has changed", None)
        with pytest.raises(PosaError, match="another reference has come since"):
            release(context, registered)
        assert standing_of(workspace, "t").reference == old.bundle.digest
        evaluated, decided = judged(context, new)
        assert evaluated.reference == old.bundle.digest
        out(context, decided)


def test_a_reference_that_cannot_be_run_any_more_is_said_before_anything_runs(
    tmp_path: Path, rates: Rates, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, params, (old, second) = two_releases(tmp_path)
    params = refreshing(params)
    name_reference(workspace, params, "1", "the lamp has changed", None)
    shutil.rmtree(old.bundle.folder)
    with open_context(workspace, params, "test", jobs=False) as context:
        new = candidate(context, params, tmp_path / "5", seed=5)
        rates.of = {second.bundle.digest: 0.9, new.bundle.digest: 0.9}
        assert judged(context, new)[1].verdict == "no decision"
    assert rates.ran == []
    assert "the reference of target 't' cannot be run any more" in capsys.readouterr().err


def test_a_decision_that_was_changed_moves_no_reference(tmp_path: Path) -> None:
    workspace, _, _ = two_releases(tmp_path)
    entry = promotion_log(workspace, "t").entries()[-1]
    path = workspace.promotions / "decisions" / f"{entry.decision}.json"
    value = read_json(path)
    write_json(path, {**value, "reasons": ["because"]})
    with pytest.raises(BadInput, match="is not what was decided: its content has another digest"):
        standing_of(workspace, "t")


def test_the_command_names_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, params, (old, _) = two_releases(tmp_path)
    (tmp_path / "params.yaml").write_text(params.model_dump_json())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSA_HOME", str(workspace.home))
    for arguments, code in (
        (["reference", "1"], 2),
        (["reference", "1", "--reason", "a new gripper", "--json"], None),
        (["explain", "2"], None),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["gate", *arguments])
        assert stop.value.code in {code, code or 0}
    assert standing_of(workspace, "t").reference == old.bundle.digest
