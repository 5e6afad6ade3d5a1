from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posa_vla.errors import BadInput
from posa_vla.evidence.trials import Trials, pair_up, read_trials


def csv_file(folder: Path, text: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def json_file(folder: Path, value: Any, name: str = "rows.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value))
    return path


def lerobot(folder: Path, *tasks: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    listed = [{"task_group": "pusht", "task_id": n, "metrics": metrics} for n, metrics in enumerate(tasks)]
    json_file(folder, {"per_task": listed, "per_group": {}, "overall": {"pc_success": float("nan")}}, "eval_info.json")
    return folder


def scenes(trials: Trials) -> list[tuple[str | None, float]]:
    return [(trial.scene, trial.score) for trial in trials.trials]


def test_a_table_of_successes_with_columns_of_its_own(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "seed,success,operator,policy\n7,true,Ann,p1\n8.0,0,Bob,p1\n9,1,Ann,p1\n")
    found = read_trials(path)
    assert scenes(found) == [("seed 7", 1.0), ("seed 8", 0.0), ("seed 9", 1.0)]
    assert found.policy == "p1"


def test_rows_of_several_tasks_and_scores(tmp_path: Path) -> None:
    rows = [{"seed": 1, "task": "open", "score": 0.25}, {"seed": 1, "task": "close", "score": 1}]
    assert scenes(read_trials(json_file(tmp_path, rows))) == [("open, seed 1", 0.25), ("close, seed 1", 1.0)]


def test_our_evidence_is_read_and_an_unfinished_or_invalid_one_is_not(tmp_path: Path) -> None:
    row = {"scene_seed": 3, "success": True, "steps": 5, "return_code": "ok"}
    evidence = {"policy_digest": "abc", "planned": 1, "rows": [row]}
    found = read_trials(json_file(tmp_path, evidence))
    assert (found.policy, scenes(found)) == ("abc", [("seed 3", 1.0)])
    with pytest.raises(BadInput, match="1 of 2 planned"):
        read_trials(json_file(tmp_path, {**evidence, "planned": 2}))
    with pytest.raises(BadInput, match=r"row 1: the episode has no valid outcome \(timeout\)"):
        read_trials(json_file(tmp_path, {**evidence, "rows": [{**row, "return_code": "timeout"}]}))


def test_a_folder_of_lerobot_eval_with_its_tasks(tmp_path: Path) -> None:
    folder = lerobot(tmp_path / "run", {"successes": [True, False]}, {"successes": [False, True]})
    with pytest.raises(BadInput, match=r"does not say its seeds: .* --seed N .* --independent"):
        read_trials(folder)
    found = read_trials(folder, seed=1000)
    assert found.from_lerobot
    assert scenes(found)[1:3] == [("pusht/0, seed 1001", 0.0), ("pusht/1, seed 1000", 0.0)]
    assert [trial.scene for trial in read_trials(folder, seeds=False).trials] == [None] * 4


def test_a_folder_that_says_its_seeds(tmp_path: Path) -> None:
    folder = lerobot(tmp_path / "new", {"successes": [True, False], "seeds": [5, 6]})
    assert scenes(read_trials(folder)) == [("pusht/0, seed 5", 1.0), ("pusht/0, seed 6", 0.0)]
    old = tmp_path / "old"
    old.mkdir()
    episodes = [{"episode_ix": 0, "sum_reward": 3.0, "max_reward": 1.0, "success": True, "seed": 9}]
    json_file(old, {"per_episode": episodes, "aggregated": {}}, "eval_info.json")
    assert scenes(read_trials(old)) == [("seed 9", 1.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed,success\n", "no rows"),
        ("seed,success\n1,1\n2,\n", r"line 3: no outcome"),
        ("seed,success\n1,1\n1,0\n", r"line 3: seed 1 a second time \(first: .*line 2\)"),
        ("seed,success\n1,1\n,0\n", "line 3: no seed"),
        ("seed,success\n1,nan\n", "line 2: success is 'nan'"),
        ("seed,success\n1,1.5\n", "line 2: success is '1.5'"),
        ("seed,success\n1,maybe\n", "line 2: success is 'maybe'"),
        ("seed,succes\n1,1\n", "unknown column 'succes'; did you mean 'success'"),
        ("seed,success,policy\n1,1,a\n2,1,b\n", "line 3: policy 'b', but .*line 2 is of 'a'"),
        ("seed,success\n1,1,3\n", "line 2: more values"),
        ('seed,success\n"1,1\n', "line"),
    ],
)
def test_what_cannot_be_counted_is_refused_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_trials(csv_file(tmp_path, text))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"results": []}, "expected a list of rows"),
        ([1, 2], "expected a list of rows"),
        ([{"seed": 1, "success": float("nan")}], "row 1: success is nan"),
        ([{"seed": 1, "success": None}], "row 1: no outcome"),
        ({"policy_digest": "a", "rows": [{"seed": 1, "success": 1, "policy": "b"}]}, "row 1: policy 'b'"),
    ],
)
def test_json_that_is_not_rows(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_trials(json_file(tmp_path, value))


@pytest.mark.parametrize("metrics", [{}, {"successes": [True], "seeds": [1, 2]}, {"successes": [None], "seeds": [1]}])
def test_a_folder_that_lerobot_eval_did_not_write_so(tmp_path: Path, metrics: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="eval_info"):
        read_trials(lerobot(tmp_path / "run", metrics))
    with pytest.raises(BadInput, match="does not exist"):
        read_trials(tmp_path)


def test_pairs_are_rows_of_the_same_scene_in_the_candidates_order(tmp_path: Path) -> None:
    ours = read_trials(csv_file(tmp_path, "seed,success\n2,1\n1,0\n", "a.csv"))
    theirs = read_trials(csv_file(tmp_path, "seed,success\n1,1\n2,0\n", "b.csv"))
    assert [(a.score, b.score) for a, b in pair_up(ours, theirs)] == [(1.0, 0.0), (0.0, 1.0)]
    other = read_trials(csv_file(tmp_path, "seed,success\n1,1\n2,0\n3,1\n", "c.csv"))
    with pytest.raises(BadInput, match=r"c\.csv, line 4: seed 3 is not in .*a\.csv"):
        pair_up(ours, other)
    with pytest.raises(BadInput, match=r"c\.csv, line 4"):
        pair_up(other, ours)
