"""The whole loop at the tiny preset, as a person runs it: killed, continued, again, and with a candidate to refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from posa_command import ROOT, command, environment, kill_when, posa

STEPS = ["collect", "version", "train", "bundle", "offline", "evaluate", "decide", "register", "release", "robot"]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def model_versions(home: Path) -> dict[str, str]:
    """Version -> run of every registered model, read with MLflow's own client in a process of its own."""
    program = (
        "import json, sys, mlflow\n"
        "client = mlflow.MlflowClient(tracking_uri=sys.argv[1], registry_uri=sys.argv[1])\n"
        "print(json.dumps({v.version: v.run_id for v in client.search_model_versions()}))"
    )
    uri = f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-c", program, uri], env=environment(home), capture_output=True, text=True, check=True
    )
    versions: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return versions


# Long enough to be killed in its middle.
TINY = ["--preset", "tiny", "--set", "train.steps=60"]


def metrics(home: Path) -> list[Path]:
    """What training has reported, in the order of its steps; a training that begins anew writes the first one again."""
    return sorted((home / "training").glob("*/metrics/[0-9]*.json"))


def recorded_checkpoint(home: Path) -> bool:
    """Whether Ray Train knows of a checkpoint: rows of metrics are written before it."""
    try:
        return any('"checkpoint_dir_name"' in f.read_text() for f in home.rglob("checkpoint_manager_snapshot.json"))
    except FileNotFoundError:  # a temporary folder went while it was walked: the next look tells
        return False


def began(home: Path) -> int:
    """When training reported for the first time, nanoseconds."""
    return metrics(home)[0].stat().st_mtime_ns


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A workspace whose retraining was killed in training and has ended since, and what the last command printed.

    One that is not killed runs in test_servers.py.
    """
    folder = tmp_path_factory.mktemp("loop")
    shutil.copy(ROOT / "params.yaml", folder)
    home = folder / "home"
    kill_when(lambda: recorded_checkpoint(home), home, "retrain", *TINY)
    (folder / "began").write_text(str(began(home)))
    code, summary, errors = posa(home, "retrain", *TINY)
    assert code == 0, errors
    return home, summary


@pytest.mark.fault
def test_a_killed_loop_continues_and_ends_on_the_robot(finished: tuple[Path, dict[str, Any]]) -> None:
    home, summary = finished
    assert [step["name"] for step in summary["steps"]] == STEPS
    assert [step["name"] for step in summary["steps"] if step["status"] == "reused"] == ["collect", "version"]
    assert metrics(home)[-1].name == "000000060.json"
    first = (home.parent / "began").read_text()
    assert str(began(home)) == first, "training began anew instead of at its last checkpoint"
    assert summary["decision"]["verdict"] == "promote", summary["decision"]
    assert summary["release"] == 1
    assert summary["robot"]["release"] == 1
    assert summary["robot"]["episodes"] == 1
    assert 0 <= summary["evaluation"]["ci_low"] <= summary["evaluation"]["success_rate"]
    assert summary["evaluation"]["episodes"] == 4
    assert len(model_versions(home)) == 1


def test_the_same_command_again_reuses_every_step(finished: tuple[Path, dict[str, Any]]) -> None:
    home, first = finished
    code, again, errors = posa(home, "retrain", *TINY)
    assert code == 0, errors
    assert "Error logging to API" not in errors  # Prefect would wait for the server that has ended
    assert {step["status"] for step in again["steps"]} == {"reused"}
    for name in ("data_version", "evaluation", "decision", "model_version", "release", "robot"):
        assert again[name] == first[name]
    assert len(model_versions(home)) == 1


@pytest.mark.long
def test_the_gate_refuses_the_untrained_candidate(finished: tuple[Path, dict[str, Any]]) -> None:
    home, first = finished
    gate = ["--set", "targets.sim-pick.gate.success_floor=0.25"]
    code, result, errors = posa(home, "demo", "reject", *TINY, *gate)
    assert code == 0, errors
    assert result["decision"]["verdict"] == "reject"
    assert result["robot"]["release"] == first["release"]
    assert len(model_versions(home)) == 1


def test_doctor_finds_the_finished_workspace_sound(finished: tuple[Path, dict[str, Any]]) -> None:
    home, _ = finished
    code, report, _ = posa(home, "doctor")
    assert code == 0, report
    assert report["sound"]


def test_the_robot_runs_without_any_platform_package_and_says_what_it_holds(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    home, first = finished
    place = ["--home", str(home / "robots" / "sim-pick")]
    code, status, errors = posa(home, "robot", "status", *place)
    assert code == 0, errors
    assert status["release"]["number"] == first["release"]
    assert all(slot["damage"] is None for slot in status["slots"].values())
    assert (status["execution"]["execute"], status["execution"]["max_steps"], status["sequence"]) == (4, 12, 1)

    run = ["robot", "run", *place, "--channel", str(home / "channel"), "--target", "sim-pick"]
    run += ["--once", "--episodes", "1", "--max-steps", "5", "--driver"]
    for driver in ("simulated", "dry-run"):
        program = (
            "import sys\nfrom posa_vla.cli.main import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as done:\n"
            "    found = {'ray', 'mlflow', 'prefect', 'dvc'} & set(sys.modules)\n"
            "    sys.exit(f'imported {found}' if found else done.code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, *run, driver, "--json"],
            env=environment(home),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["release"] == status["release"]
        assert (report["update"], report["episodes"]) == ("unchanged", 1)
        assert report["terms"]["lowered"] == ["an episode is over after 5 steps, released were 12"]
    otherwise = subprocess.run(
        command(*run, "dry-run", "--execute", "1"), env=environment(home), capture_output=True, text=True
    )
    assert otherwise.returncode == 2, otherwise.stderr
    assert "--execute 1: release 1 was judged with 4" in otherwise.stderr


def test_promoting_what_was_promoted_changes_nothing(finished: tuple[Path, dict[str, Any]]) -> None:
    home, first = finished
    log = (home / "promotions" / "sim-pick" / "log.jsonl").read_bytes()
    code, result, errors = posa(home, "promote", *TINY)
    assert code == 0, errors
    assert (result["release"], result["model_version"]) == (first["release"], first["model_version"])
    assert (home / "promotions" / "sim-pick" / "log.jsonl").read_bytes() == log
    code, result, _ = posa(home, "promote", *TINY, "--set", "targets.sim-pick.gate.min_episodes=20")
    assert code == 3
    assert result["decision"]["verdict"] == "no decision"


def test_a_policy_is_evaluated_alone(finished: tuple[Path, dict[str, Any]]) -> None:
    home, first = finished
    entry = json.loads((home / "promotions" / "sim-pick" / "log.jsonl").read_text().splitlines()[0])
    bundle = home / "bundles" / entry["bundle"]
    code, result, errors = posa(
        home, "evaluate", "sim", *TINY, "--local", "--policy", str(bundle), "--out", str(home / "alone")
    )
    assert code == 0, errors
    assert result["bundle"] == bundle.name
    assert result["evaluation"]["episodes"] == first["evaluation"]["episodes"]
    assert result["evaluation"]["success_rate"] == first["evaluation"]["success_rate"]
    assert Path(result["out"], "evidence.json").is_file()


def test_what_a_model_was_made_of_comes_back(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    home, first = finished
    shutil.rmtree(home / "data")
    out = tmp_path / "again"
    code, result, errors = posa(home, "reproduce", first["model_version"], "--out", str(out), "--fetch-only")
    assert code == 0, errors
    assert (Path(result["data"]).name, result["data_version"]) == (first["data_version"], "data-v1")
    assert yaml.safe_load((out / "params.yaml").read_text())["train"]["steps"] == 60
    # What was found of the data stands with the run that used them.
    run = model_versions(home)[str(first["model_version"])]
    assert len(list(home.glob(f"mlflow/artifacts/*/{run}/artifacts/data/report.html"))) == 1
    code, _, errors = posa(home, "reproduce", "99", "--out", str(tmp_path / "none"))
    assert code == 2
    assert "has no version '99'" in errors


@pytest.mark.long
def test_a_registered_model_is_made_again_bit_for_bit(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    home, first = finished
    code, result, errors = posa(home, "reproduce", first["model_version"], "--out", str(tmp_path / "again"))
    assert code == 0, errors
    assert result["identical"] is True


@pytest.mark.fault
@pytest.mark.long
def test_a_retraining_that_is_killed_twice_does_nothing_twice(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    home = tmp_path / "home"
    kill_when(lambda: recorded_checkpoint(home), home, "retrain", *TINY)
    first = began(home)
    kill_when(lambda: any((home / "ledger" / "bundle").glob("*.json")), home, "retrain", *TINY)
    code, summary, errors = posa(home, "retrain", *TINY)
    assert code == 0, errors
    statuses = {step["name"]: step["status"] for step in summary["steps"]}
    assert [name for name in STEPS if statuses[name] == "reused"] == ["collect", "version", "train", "bundle"]
    assert len(model_versions(home)) == 1
    assert summary["release"] == 1
    assert metrics(home)[-1].name == "000000060.json"
    assert began(home) == first, "training began anew instead of at its last checkpoint"
