"""A whole ablation at the tiny preset: stopped half way, continued, and what it leaves."""

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

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(900)]
PLAN: dict[str, Any] = {
    "schema_version": 1,
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
    "tuning": {"learning_rates": [0.001], "steps": 10, "seed": 9, "scenes": 2, "chosen": {"full": 0.002}},
    "conditions": {"basic": {}, "combinations": {"targets": ["red ball"]}},
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
    assert {(row["variant"], row["condition"], len(row["rows"])) for row in saved["rows"]} == {
        ("full", "basic", 4),
        ("bare", "basic", 4),
    }
    assert saved["comparisons"][0]["variant"] == "bare"
    assert result["not_run"] == [
        "full, 8 demonstrations, seed 0, combinations",
        "bare, 8 demonstrations, seed 0, combinations",
        "no-gate, 8 demonstrations, seed 0, basic",
        "no-gate, 8 demonstrations, seed 0, combinations",
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
