"""A whole ablation at the tiny preset: stopped half way, continued, gone on from elsewhere, and what it leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from posa_command import ROOT, environment, kill_when, posa

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1500)]
PLAN: dict[str, Any] = {
    "schema_version": 2,
    "name": "tiny-1",
    "quick": ["full", "bare"],
    "reference": "full",
    "training_seeds": [0],
    "scenes": 4,
    "held_out": ["red ball"],
    "variants": {
        "full": {},
        "bare": {"model": {"gate": "none", "anchor_tokens": False}, "train": {"anchor_weight": 0}},
        "no-gate": {"model": {"gate": "none"}},
    },
    "tuning": {
        "learning_rates": [0.001],
        "start_noise": [0, 1],
        "flow_steps": [1],
        "steps": 10,
        "seed": 9,
        "scenes": 2,
        "chosen": {"full": 0.002},
        "execution": {"start_noise": 0, "flow_steps": 1},
        "own_executions": {"bare": {"start_noise": 1, "flow_steps": 1}},
    },
    "conditions": {"basic": {}, "contrast": {"targets": ["red ball"], "wording": "contrasted"}},
    "demonstrations": [],
}


def trained(home: Path) -> list[Path]:
    return sorted(home.glob("ablation/tiny-1/*/ledger/bundle/*.json"))


def trainings(home: Path) -> dict[Path, bytes]:
    """The ledger's records of trainings, each with the seconds that it took."""
    return {path: path.read_bytes() for path in home.glob("ablation/tiny-1/*/ledger/train/*.json")}


def runs(home: Path) -> list[str]:
    """Names of all runs of MLflow."""
    program = (
        "import json, sys, mlflow\n"
        "client = mlflow.MlflowClient(tracking_uri=sys.argv[1])\n"
        "ids = [e.experiment_id for e in client.search_experiments()]\n"
        "print(json.dumps([r.info.run_name for r in client.search_runs(ids)]))"
    )
    uri = f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
    asked = [sys.executable, "-c", program, uri]
    done = subprocess.run(asked, env=environment(home), capture_output=True, text=True, check=True)
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


def test_an_ablation_that_was_killed_continues_and_says_what_it_did_not_run(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    home, plan = tmp_path / "home", tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(PLAN))
    ablate = ["ablate", "--preset", "tiny", "--plan", str(plan)]
    kill_when(lambda: len(trained(home)) == 1, home, *ablate)
    first = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in trained(home)}

    code, result, errors = posa(home, *ablate)
    assert code == 0, errors
    assert len(trained(home)) == 2
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in first} == first, "never sealed twice"
    began = trainings(home)
    saved = json.loads(Path(result["results"]).read_text())
    assert [(row["variant"], row["condition"], row["scenes"]) for row in saved["variants"]] == [
        ("full", "basic", 4),
        ("bare", "basic", 4),
        ("bare", "own-execution", 4),
    ]
    assert [(row["variant"], row["condition"]) for row in saved["comparisons"]] == [
        ("bare", "basic"),
        ("bare", "own-execution"),
    ]
    assert saved["rows"] == ["rows/bare-8-seed-0.json", "rows/full-8-seed-0.json"]
    assert result["not_run"] == [
        "no-gate, 8 demonstrations, seed 0, basic",
        "full, 8 demonstrations, seed 0, contrast",
        "bare, 8 demonstrations, seed 0, contrast",
        "no-gate, 8 demonstrations, seed 0, contrast",
    ]
    assert Path(result["plot"]).read_bytes().startswith(b"\x89PNG")
    names = [
        "bare, 8 demonstrations, seed 0",
        "full, 8 demonstrations, seed 0",
        "tiny-1, quick run",
    ]
    assert sorted(runs(home)) == names, "one run for each training and one for the comparison"

    code, full, errors = posa(home, *ablate, "--full")
    assert code == 0, errors
    assert full["not_run"] == []
    assert len(trained(home)) == 3
    assert began.items() <= trainings(home).items(), "what was trained is not trained again"

    # Another machine has nothing but the rows that were committed, and the same plan.
    other, rows = tmp_path / "other", tmp_path / "results"
    shutil.copytree(Path(result["results"]).parent, rows)
    goes_on = [*ablate, "--results", str(rows)]
    code, taken, errors = posa(other, *goes_on)
    assert code == 0, errors
    assert not trained(other), "both trainings are there"
    assert taken["variants"] == result["variants"]
    (rows / "rows" / "bare-8-seed-0.json").unlink()
    code, again, errors = posa(other, *goes_on)
    assert code == 0, errors
    assert len(trained(other)) == 1
    assert again["variants"] == result["variants"], "what is trained here is what was trained there"
    code, _, errors = posa(other, *goes_on, "--set", "train.batch=8")
    assert code == 2
    assert "cannot be gone on from: it was made with other parameters" in errors

    code, tuned, errors = posa(home, *ablate, "--tune")
    assert code == 0, errors
    assert [(row["variant"], row["execution"] and row["execution"]["start_noise"]) for row in tuned["tried"]] == [
        (variant, noise) for variant in ("full", "bare") for noise in (None, 0, 1)
    ]
    assert tuned["chosen"] == {"full": 0.001, "bare": 0.001}
