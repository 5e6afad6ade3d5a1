"""What is settled of the anchors stands in the MLflow run, and an ablation on data that teach none is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlflow.artifacts
import pytest
from candidates import DATA, make_workspace
from manifests import write_manifest
from posa_command import ROOT
from untrained import arm_params

from posa_vla.cli.main import main
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.params_file import overlaid
from posa_vla.pipeline import ablation
from posa_vla.pipeline.context import StepContext, open_context
from posa_vla.tracking import PARAMS_ARTIFACT, connect


def test_the_run_has_the_parameters_that_were_settled_and_keeps_those_that_were_asked_for(tmp_path: Path) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    write_manifest(workspace.home / DATA.folder, load_embodiment("sim_arm6"), task=0.03)
    with open_context(workspace, params, "test") as context:
        run = context.tracked(DATA)
        logged = connect(workspace.mlflow_uri).get_run(run.run_id).data.params
        asked = json.loads(mlflow.artifacts.load_text(f"runs:/{run.run_id}/{PARAMS_ARTIFACT}"))
    assert {name: logged[name] for name in ("model.gate", "model.anchor_tokens", "train.anchor_weight")} == {
        "model.gate": "none",
        "model.anchor_tokens": "false",
        "train.anchor_weight": "0.0",
    }
    assert asked == params.model_dump(mode="json"), "the same parameters give the same run again"


def test_a_gate_that_the_start_decides_is_logged_as_it_was_asked_for(tmp_path: Path) -> None:
    started = {"targets": {"t": {"start_from": "champion"}}, "model": {"gate": "auto", "horizon_seconds": 0.5}}
    params, workspace = overlaid(arm_params(), started, "test"), make_workspace(tmp_path)
    robot = load_embodiment("sim_arm6")
    write_manifest(workspace.home / DATA.folder, robot, task=0.03)
    with open_context(workspace, params, "test") as context:
        logged = connect(workspace.mlflow_uri).get_run(context.tracked(DATA).run_id).data.params
    assert (logged["model.gate"], logged["model.horizon"]) == ("auto", str(round(robot.control_hz / 2)))


@pytest.mark.parametrize("command", [["ablate"], ["ablate", "--tune"]])
def test_an_ablation_on_data_that_do_not_teach_the_anchors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    def versioned(context: StepContext) -> DataVersion:
        write_manifest(context.workspace.home / DATA.folder, load_embodiment("sim_arm6"), task=0.03)
        return DATA

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSA_HOME", str(tmp_path / "home"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.setattr(ablation, "collect", lambda context: None)
    monkeypatch.setattr(ablation, "version", versioned)
    monkeypatch.setattr(ablation, "train", lambda context, data: pytest.fail("trained"))
    with pytest.raises(SystemExit) as stop:
        main([*command, "--preset", "tiny"])
    assert stop.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "error: 3.0% of the frames have a task label, expected 5% at least" in said
    assert "its variants would be the same network without any: give it data that teach the anchors" in said
