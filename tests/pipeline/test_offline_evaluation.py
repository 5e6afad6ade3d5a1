"""A target of a robot that exists: its candidate's errors, the verdict, what is on record; nobody can pass it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from candidates import make_workspace
from factories import make_embodiment, make_episode
from mlflow import MlflowClient
from on_record import record_training, record_version
from report_facts import facts
from untrained import arm_params

from posa_vla.cli.main import main
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.evidence.offline import offline_path, read_offline
from posa_vla.files import sha256_json, sha256_tree, tree_manifest
from posa_vla.model.posa_policy import initial_policy_files
from posa_vla.params import Params
from posa_vla.pipeline.context import open_context
from posa_vla.pipeline.reconciliation import continue_releases
from posa_vla.pipeline.records import Candidate, Decided, Registered, Trained
from posa_vla.pipeline.report.gather import gather_facts
from posa_vla.pipeline.report.offline import offline_body
from posa_vla.pipeline.retention import clean_up
from posa_vla.pipeline.steps.decide import decide, read_decision
from posa_vla.pipeline.steps.offline import offline
from posa_vla.pipeline.steps.register import register
from posa_vla.policy.made_for import made_for
from posa_vla.promotion.champion import promotion_log
from posa_vla.promotion.kept_records import records_folder
from posa_vla.promotion.registry import registered_version
from posa_vla.promotion.verdict import offline_criteria
from posa_vla.release.bundle import build_bundle
from posa_vla.release.keys import create_key
from posa_vla.tracking import connect
from posa_vla.workspace import Workspace


def robot_params(folder: Path) -> Params:
    """A target that is a robot without a simulator: no approver, and evidence from held-out episodes and the robot."""
    declared = make_embodiment().model_dump(mode="json") | {"simulated": False}
    path = folder / "test_arm.yaml"
    path.write_text(yaml.safe_dump(declared))
    target = {"embodiment": str(path), "task": "tidy", "approvals": 1, "evidence": ["offline", "robot"]}
    params = arm_params(targets={"t": target}, prepare={"image_size": 32, "validation_fraction": 0.4})
    (folder / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    return params


def made_candidate(workspace: Workspace, params: Params) -> Candidate:
    """An untrained policy of packed episodes, as version, training and bundle leave it."""
    embodiment = make_embodiment().model_copy(update={"simulated": False})
    rng = np.random.default_rng(0)
    data = workspace.data / ("d" * 64)
    pack_episodes([replace(make_episode(rng), source="teleop") for _ in range(8)], embodiment, params.prepare, data)
    version = DataVersion(
        version=data.name,
        name="data-v1",
        folder=data.relative_to(workspace.home).as_posix(),
        episodes=8,
        frames=96,
        commit="c" * 40,
        prepared=sha256_json(tree_manifest(data)),
    )
    files = workspace.home / "files"
    files.mkdir()
    initial_policy_files(data, params, files, seed=0)
    bundle = build_bundle(files, workspace.bundles, made_for(params, params.model.flow_steps))
    record_version(workspace, version, params.prepare.validation_fraction)
    return record_training(workspace, Trained(data=version, key="t" * 64, seconds=1.0), bundle.digest)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Params, Decided, Registered]:
    folder = tmp_path_factory.mktemp("robot")
    workspace, params = make_workspace(folder), robot_params(folder)
    with open_context(workspace, params, "test", jobs=False) as context:
        candidate = made_candidate(workspace, params)
        decided = decide(context, offline(context, candidate))
        registered = register(context, decided)
        again = register(context, decide(context, offline(context, candidate)))
        assert again == registered
        assert [step.status for step in context.steps] == ["done"] * 3 + ["reused"] * 3
    return workspace, params, decided, registered


Judged = tuple[Workspace, Params, Decided, Registered]


def test_a_robot_s_candidate_is_registered_without_a_decision(judged: Judged) -> None:
    workspace, _, decided, registered = judged
    assert decided.verdict == "no decision"
    assert decided.reasons[0].startswith("robot trials are missing")
    assert (registered.model_version, decided.evaluated.summary) == ("1", None)
    (entry,) = promotion_log(workspace, "t").entries()
    assert (entry.kind, entry.model_version) == ("no decision", "1")
    found = registered_version(workspace.mlflow_uri, "t", "1")
    assert found.bundle == decided.evaluated.candidate.digest


def test_mlflow_has_figures_tables_record_and_films(judged: Judged) -> None:
    workspace, _, decided, registered = judged
    client: MlflowClient = connect(workspace.mlflow_uri)
    run = client.get_run(registered.run_id)
    evaluated = decided.evaluated
    assert evaluated.offline is not None
    figures = evaluated.offline.figures
    logged = {name: run.data.metrics[f"offline/{name}"] for name in ("error", "error_hold", "error_nearest")}
    assert logged == {"error": figures.policy, "error_hold": figures.hold, "error_nearest": figures.nearest}
    files = {
        item.path
        for folder in ("offline", "records", "tables")
        for item in client.list_artifacts(run.info.run_id, folder)
    }
    assert "records/offline.json" in files
    assert sum(path.startswith("offline/episode-") for path in files) == min(figures.episodes, 3)
    assert sum(path.startswith("tables/offline-") for path in files) == 2
    assert "evaluation/success_rate" not in run.data.metrics, "nobody measured success"
    assert "no evidence of success" in client.get_model_version("t", "1").tags["posa.success"]


def test_the_report_says_that_it_is_no_evidence_of_success(judged: Judged) -> None:
    workspace, _, _, registered = judged
    page = (workspace.home / registered.report).read_text(encoding="utf-8")
    for told in (
        "robot trials are missing",
        "no evidence of success",
        "was not tried",
        "Held-out episodes",
        "data:video/mp4",
    ):
        assert told in page, told
    assert "<h2>Success</h2>" not in page


def test_nobody_can_approve_what_was_not_decided(
    judged: Judged, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, _, decided, _ = judged
    assert not list(records_folder(workspace, "t").glob("**/*.dsse.json"))
    create_key(tmp_path / "key.pem")
    decision = workspace.promotions / "decisions" / f"{decided.decision}.json"
    for place in (decision, records_folder(workspace, "t") / f"{decided.decision}.dsse.json"):
        with pytest.raises(SystemExit) as stop:
            main(["approve", str(place), "--key", str(tmp_path / "key.pem"), "--yes"])
        assert stop.value.code == 2, capsys.readouterr().err
    assert not (workspace.home / "channel").exists()


def test_nothing_of_it_is_lost_to_a_clean_up_and_reconciling_finds_nothing_to_do(judged: Judged) -> None:
    workspace, params, decided, _ = judged
    assert decided.evaluated.offline is not None
    before = sha256_tree(workspace.evidence)
    retention = params.retention.model_copy(update=dict.fromkeys(type(params.retention).model_fields, 1))
    gone = {(item.store, item.name) for item in clean_up(workspace, retention, dry_run=True) if not item.kept}
    assert ("bundles", decided.evaluated.candidate.digest) not in gone
    assert all(finding.sound for finding in continue_releases(workspace))
    assert sha256_tree(workspace.evidence) == before
    assert read_offline(offline_path(workspace, decided.evaluated.offline.evidence)).embodiment == "test_arm"


def test_the_command_compares_the_newest_model_and_writes_a_page(
    judged: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    workspace, _, decided, _ = judged
    monkeypatch.setattr("posa_vla.console._reserved", None)
    monkeypatch.setenv("POSA_HOME", str(workspace.home))
    data = str(workspace.home / decided.evaluated.candidate.data.folder)
    params = str(workspace.home.parent / "params.yaml")
    arguments = ["--params", params, "--data", data, "--out", str(tmp_path / "out"), "--json"]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "offline", *arguments])
    out, said = capfd.readouterr()
    assert stop.value.code in {0, None}, said
    document: dict[str, Any] = json.loads(out)
    assert document["model_version"] == "1"
    assert document["about"].startswith("These errors are no evidence of success")
    evaluated = decided.evaluated
    assert evaluated.offline is not None
    assert document["figures"] == evaluated.offline.figures.model_dump(mode="json"), "as in the retraining"
    assert document["passed"]["nearer than holding the pose"] is not None
    page = Path(document["page"]).read_text(encoding="utf-8")
    assert "no evidence of success" in page
    assert all(Path(film).stat().st_size for film in document["films"])


def test_a_policy_started_from_one_that_may_know_the_episodes_is_not_judged_by_them(judged: Judged) -> None:
    workspace, params, decided, _ = judged
    candidate = decided.evaluated.candidate
    assert isinstance(candidate.source, Trained)
    source = candidate.source.model_copy(update={"start": "b" * 64})
    with open_context(workspace, params, "test", jobs=False) as context:
        evaluated = offline(context, candidate.model_copy(update={"source": source}))
    assert evaluated.offline is not None
    assert (evaluated.offline.figures.may_know, context.steps[0].status) == (True, "done")
    record = read_offline(offline_path(workspace, evaluated.offline.evidence))
    assert [c.passed for c in offline_criteria(record)[0] if c.name.startswith("nearer")] == [None, None]
    assert "may have been trained on these episodes" in offline_body(record, {})
    made_of = facts().candidate.model_copy(update={"bundle": candidate.digest, "data_version": candidate.data.version})
    told = gather_facts(workspace, params, read_decision(workspace, decided.decision), evaluated, made_of)
    assert "model.gate=auto is that of the policy that the training started from" in told.anchors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model-version", "7"], "has no version '7'"),
        (["--policy", "nowhere"], "--policy goes with --data DIR"),
        (["--data", "nowhere"], "nowhere is not prepared data"),
        (["--set", "target=u", "--set", "targets.u={embodiment: sim_arm6, task: pick}"], "no registered model yet"),
    ],
)
def test_what_cannot_be_compared_is_said(
    judged: Judged,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    workspace, _, _, _ = judged
    monkeypatch.setenv("POSA_HOME", str(workspace.home))
    params = str(workspace.home.parent / "params.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "offline", "--params", params, "--out", str(tmp_path / "out"), *arguments])
    said = " ".join(capfd.readouterr().err.split())
    assert (stop.value.code, message in said) == (2, True), said
