"""Two policies on the same scenes: both ways round, with a page, and no place in any account."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from candidates import Candidate, two_releases
from success_rates import Rates

from posa_vla.cli.main import main
from posa_vla.errors import BadInput
from posa_vla.params import Params
from posa_vla.pipeline import comparison
from posa_vla.pipeline.comparison import compare
from posa_vla.promotion.champion import promotion_log
from posa_vla.promotion.tries import account_of
from posa_vla.workspace import Workspace

Place = tuple[Workspace, Params, list[Candidate]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return two_releases(tmp_path)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch, place: Place) -> Rates:
    made = Rates()
    first, second = place[2]
    made.of = {first.bundle.digest: 0.4, second.bundle.digest: 0.9}
    monkeypatch.setattr(comparison, "run_policy", made.run)
    return made


def test_the_better_one_is_found_both_ways_round_on_the_same_scenes(
    tmp_path: Path, place: Place, rates: Rates, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    workspace, params, (first, second) = place
    before = promotion_log(workspace, "t").entries()
    (tmp_path / "params.yaml").write_text(params.model_dump_json())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSA_HOME", str(workspace.home))
    monkeypatch.setattr("posa_vla.console._reserved", None)
    found: list[dict[str, Any]] = []
    for a, b in (("2", str(first.bundle.folder)), ("1", "2")):
        with pytest.raises(SystemExit) as stop:
            main(["evaluate", "compare", a, b, "--json", "--out", f"{a}-{b[-1]}"])
        out, said = capfd.readouterr()
        assert stop.value.code in {0, None}, said
        found.append(json.loads(out))
    better, worse = found
    assert (better["verdict"], worse["verdict"]) == ("promote", "reject")
    assert (better["gained"], better["lost"]) == (worse["lost"], worse["gained"]), "the same scenes"
    assert better["scenes"] == {"run": 25, "at_most": 200}
    assert better["a"]["bundle"] == worse["b"]["bundle"] == second.bundle.digest
    assert {count for _, count in rates.ran} == {25}
    assert len(rates.ran) == 2, "the second comparison has run nothing again"
    page = Path(better["page"]).read_text(encoding="utf-8")
    assert "<svg" in page
    assert "nothing was promoted" in page
    assert promotion_log(workspace, "t").entries() == before
    assert account_of(workspace, "t", 0.05).tries == []


def test_equal_policies_run_all_scenes_and_nothing_is_decided(tmp_path: Path, place: Place, rates: Rates) -> None:
    workspace, params, (first, second) = place
    rates.of[first.bundle.digest] = 0.9
    found = compare(workspace, params, ("2", "1"), tmp_path / "out", episodes=60)
    assert (found.judgement.verdict, found.scenes) == ("no decision", 60)
    assert [count for bundle, count in rates.ran if bundle == second.bundle.digest] == [25, 50, 60]
    assert compare(workspace, params, ("2", "1"), tmp_path / "out", episodes=60, margin=0.3).judgement.verdict == (
        "promote"
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("2", "2"), "are the same policy .* cannot be compared with itself"),
        (("2", "7"), "has no model version 7"),
        (("2", "nowhere"), "nowhere is neither a model version of target 't' nor a folder with a policy"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    tmp_path: Path, place: Place, rates: Rates, names: tuple[str, str], message: str
) -> None:
    workspace, params, _ = place
    with pytest.raises(BadInput, match=message):
        compare(workspace, params, names, tmp_path / "out", episodes=30)
    assert rates.ran == []
