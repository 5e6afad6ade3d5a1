"""A target whose gate has criteria: every decision has its place in the account."""

from __future__ import annotations

import shutil
from pathlib import Path

from candidates import candidate, make_workspace
from posa_command import ROOT, posa
from untrained import arm_params

from posa_vla.params import Params
from posa_vla.pipeline.context import open_context
from posa_vla.pipeline.steps.decide import decide, read_decision
from posa_vla.promotion.tries import account_of
from posa_vla.schema import parse

GATE = {"criteria": [{"kind": "floor", "threshold": 0.3}, {"kind": "superior"}], "min_episodes": 20}
FILE = """schema_version: 1
target: t
targets:
  t:
    embodiment: sim_arm6
    task: pick
    approvals: 0
    gate: {GATE}
"""


def test_each_candidate_is_a_try_a_second_call_is_none_and_the_command_shows_them(tmp_path: Path) -> None:
    value = arm_params().model_dump(mode="json")
    value["targets"]["t"]["gate"] = GATE
    params, workspace = parse(Params, value, "test"), make_workspace(tmp_path)
    with open_context(workspace, params, "test") as context:
        first, second = (candidate(context, params, tmp_path / f"policy-{seed}", seed) for seed in (0, 1))
        rejected = decide(context, first.evaluated(0))
        assert rejected.verdict == "reject"
        assert decide(context, first.evaluated(0)).decision == rejected.decision
        open_, promoted = decide(context, second.evaluated(3)), decide(context, second.evaluated(29))
    assert (open_.verdict, promoted.verdict) == ("no decision", "promote")
    tries = account_of(workspace, "t", 0.05).tries
    assert [(of.number, of.verdict) for of in tries] == [(1, "reject"), (2, "no decision"), (3, "promote")]
    assert read_decision(workspace, promoted.decision).tried == tries[2]
    assert "try 3 of the target" in promoted.reasons[-1]

    place = tmp_path / "shown"
    shutil.copytree(workspace.promotions, place / ".posa/promotions")
    (place / "params.yaml").write_text(FILE.replace("{GATE}", str(GATE).replace("'", "")))
    code, document, said = posa(place / ".posa", "gate", "account")
    assert code == 0, said
    assert (document["promoted"], document["next"]["number"]) == (1, 4)
    assert document["next"]["pairs"]["+30 points"] < document["next"]["pairs"]["+20 points"]
    (place / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    code, document, _ = posa(place / ".posa", "gate", "account")
    assert code == 2
    assert "keeps no account" in document["error"]["message"]
