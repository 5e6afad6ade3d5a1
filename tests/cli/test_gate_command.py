"""`posa gate`, as a person starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from posa_command import environment, posa

# Whoever imports one of these fails.
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "ray", "mlflow", "prefect", "matplotlib", "mujoco", "transformers"}:
            raise ImportError(f"{name} is not to be imported")
sys.meta_path.insert(0, Blocked())
from posa_vla.cli.main import main
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rate, seed in (("good", 0.9, 0), ("bad", 0.5, 1)):
        solved = np.random.default_rng(seed).random(80) < rate
        lines = [f"{n},{int(of)},{name}" for n, of in enumerate(solved)]
        (tmp_path / f"{name}.csv").write_text("seed,success,policy\n" + "\n".join(lines) + "\n")
    return tmp_path


def test_a_verdict_with_its_files_and_without_torch(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, "gate", "judge", "good.csv", "bad.csv", "--out", "verdict", "--json"],
        cwd=folder,
        env=environment(folder / ".posa"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["verdict"] == "promote"
    assert document["candidate"]["policy"] == "good"
    assert json.loads((folder / "verdict/verdict.json").read_text()) == document
    assert document["sentence"] in (folder / "verdict/verdict.html").read_text().replace("&gt;", ">")
    assert {path.name for path in (folder / "verdict").iterdir()} == {
        "verdict.json",
        "verdict.html",
        "evidence.svg",
        "difference.svg",
    }


def judged(folder: Path, *arguments: str) -> tuple[int, Any]:
    code, document, _ = posa(folder / ".posa", "gate", "judge", *arguments)
    return code, document


def test_other_scenes_on_each_side_are_refused_without_the_flag(folder: Path) -> None:
    text = (folder / "bad.csv").read_text().replace("\n5,", "\n500,")
    (folder / "bad.csv").write_text(text)
    code, document = judged(folder, "good.csv", "bad.csv")
    assert code == 2
    assert "good.csv, line 7: seed 5 is not in bad.csv" in document["error"]["message"]
    code, document = judged(folder, "good.csv", "bad.csv", "--independent")
    assert (code, document["verdict"], document["trials"]["paired"]) == (0, "promote", False)
    assert "79 scenes are on both sides" in document["notes"][0]


def test_folders_of_lerobot_eval(folder: Path) -> None:
    for name in ("good", "bad"):
        (folder / name).mkdir()
        solved = [line.split(",")[1] == "1" for line in (folder / f"{name}.csv").read_text().splitlines()[1:]]
        entry = {"task_group": "pusht", "task_id": 0, "metrics": {"successes": solved}}
        (folder / name / "eval_info.json").write_text(json.dumps({"per_task": [entry]}))
    code, document = judged(folder, "good", "bad")
    assert code == 2
    assert "--seed N" in document["error"]["message"]
    code, document = judged(folder, "good", "bad", "--seed", "1000")
    assert (code, document["verdict"]) == (0, "promote")
    assert "before August 2026" in document["notes"][0]


def test_a_person_reads_a_table(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "posa_vla.cli.main", "gate", "judge", "bad.csv", "good.csv", "--margin", "0.1"],
        cwd=folder,
        env={**environment(folder / ".posa"), "COLUMNS": "200", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "reject: the candidate is worse than the champion by more than 0.1, shown after" in done.stdout
    assert "promoted at -0.05" in done.stdout


def test_a_plan_and_one_that_can_never_decide(tmp_path: Path) -> None:
    wanted = ("gate", "plan", "--champion", "0.6", "--candidate", "0.9")
    code, document, _ = posa(tmp_path / ".posa", *wanted, "--retraining", "10")
    assert code == 0
    assert 30 < document["pairs"] < 150
    code, document, _ = posa(tmp_path / ".posa", *wanted, "--n-max", "6")
    assert code == 2
    assert "can never promote" in document["error"]["message"]
