"""What decides in which order trials are looked at, and what may be compared with what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posa_vla.errors import BadInput
from posa_vla.evidence import trials
from posa_vla.evidence.judgement import judge_independent, judge_pairs
from posa_vla.evidence.svg_chart import Line, line_chart
from posa_vla.evidence.trials import Trials, read_trials
from posa_vla.policy.execution import JUDGED


def written(path: Path, rows: list[dict[str, Any]]) -> Trials:
    names = list(rows[0])
    lines = [",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_trials(path)


def test_a_policy_that_solves_the_first_task_alone_is_not_better(tmp_path: Path) -> None:
    rows = [(task, seed) for task in range(10) for seed in range(10)]
    ours = written(tmp_path / "a.csv", [{"task": t, "seed": s, "success": int(t == 0)} for t, s in rows])
    theirs = written(tmp_path / "b.csv", [{"task": t, "seed": s, "success": int(t > 0)} for t, s in rows])
    assert judge_pairs(ours, theirs).verdict == "reject"
    assert judge_independent(ours, theirs).verdict == "reject"


def test_a_share_of_stages_is_not_compared_with_success(tmp_path: Path) -> None:
    staged = written(tmp_path / "a.csv", [{"seed": s, "success": 0, "score": 0.75} for s in range(30)])
    solved = written(tmp_path / "b.csv", [{"seed": s, "success": int(s % 4 == 0)} for s in range(30)])
    for judge in (judge_pairs, judge_independent):
        with pytest.raises(BadInput, match=r"by `score` and .* by `success`"):
            judge(staged, solved)
    with pytest.raises(BadInput, match="line 3: no outcome, expected its `score`"):
        written(tmp_path / "c.csv", [{"seed": 1, "success": 1, "score": 0.5}, {"seed": 2, "success": 1, "score": ""}])


def test_evidence_of_other_conditions_is_refused(tmp_path: Path) -> None:
    read = []
    for number, suite in enumerate(({"task": "pick", "max_steps": 60}, {"task": "pick", "max_steps": 30})):
        rows = [{"scene_seed": seed, "success": number == 0} for seed in range(20)]
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({"policy_digest": str(number), "suite": suite, "rows": rows}), encoding="utf-8")
        read.append(read_trials(path))
    with pytest.raises(BadInput, match="max_steps 60"):
        judge_pairs(*read)


def test_how_a_policy_is_run_is_its_own() -> None:
    assert {*JUDGED, "seeds"} == trials._OWN


def test_evidence_beyond_every_number_is_drawn() -> None:
    drawn = line_chart("e", "x", "y", [Line("ours", [0.0, 1.0], [0.0, 400.0])], powers_of_ten=True)
    assert "1e400" in drawn
